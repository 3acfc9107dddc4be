#include "report.h"

#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "emulator.h"

namespace simt {
namespace {

// "file:line" of a site. No allocation: a fiber that fails never frees one.
struct Place {
    char text[96];

    explicit Place(Site site) {
        const char *slash = strrchr(site.file, '/');
        snprintf(text, sizeof text, "%s:%d", slash ? slash + 1 : site.file, site.line);
    }
};

}  // namespace

void fail(const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char where[128];
    const Index3 block = current->block->index, thread = current->index;
    snprintf(where, sizeof where, " in block (%u, %u, %u), thread (%u, %u, %u)", block.x, block.y, block.z, thread.x,
             thread.y, thread.z);
    current->emulator->give_up(text, where);
}

void fail_out_of_bounds(const char *name, int64_t index, int64_t length) {
    fail("out of bounds: %s[%lld] of length %lld", name, static_cast<long long>(index),
         static_cast<long long>(length));
}

void fail_divergent() {
    const Block &block = *current->block;
    fail("divergent barrier: %u threads wait at %s, another one arrived at %s", block.at_barrier,
         Place(block.barrier).text, Place(current->site).text);
}

void fail_livelock() {
    fail("livelock: a thread waits at %s for a value that nothing writes", Place(current->site).text);
}

std::string describe_deadlock(const Block &block) {
    constexpr size_t STATES = size_t(State::done) + 1;
    unsigned waiting[STATES] = {};
    Site sites[STATES] = {};
    for (unsigned linear = 0; linear < block.size; linear++) {
        const Thread &thread = block.threads[linear];
        waiting[size_t(thread.state)]++;
        sites[size_t(thread.state)] = thread.state == State::barrier ? block.barrier : thread.site;
    }
    std::string text = "deadlock: block (" + std::to_string(block.index.x) + ", " + std::to_string(block.index.y) +
                       ", " + std::to_string(block.index.z) + ")";
    static const char *const WHERE[STATES] = {"",
                                              "at barrier ",
                                              "in a collective at ",
                                              "for a phase at ",
                                              "at a barrier of some threads at ",
                                              "for products at ",
                                              ""};
    for (size_t state = size_t(State::barrier); state < size_t(State::done); state++) {
        if (waiting[state] == 0) continue;
        text += ": " + std::to_string(waiting[state]) + " threads wait " + WHERE[state] + Place(sites[state]).text;
    }
    return text;
}

}  // namespace simt
