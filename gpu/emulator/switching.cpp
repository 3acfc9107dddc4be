// From one thread to the next.
#include <cstdlib>

#include "emulator.h"
#include "report.h"

namespace simt {
namespace {

constexpr uint32_t MOST_SPINS = 1u << 22;

}  // namespace

void Emulator::give_way() {
    spins = 0;
    switch_to_next();
}

void Emulator::spin(Site site) {
    current->site = site;
    if (++spins > MOST_SPINS) fail_livelock();
    make_ready(*current);
    // It has nothing to do until another one has run.
    turns.leave_warp();
    switch_to_next();
}

void Emulator::give_up(const char *what, const char *where) {
    report_failure(*current->block, what, where);
    switch_to(current->fiber.context, context, false);
    abort();
}

void Emulator::pause_at_access() {
    draw_pause();
    // Not something that happens: a thread that waits in a loop accesses what it waits for.
    make_ready(*current);
    switch_to_next();
}

void Emulator::draw_pause() {
    accesses_left = 1 + turns.below(2 * schedule.access_interval);
}

// Lets the next thread run; returns when the running one is drawn again.
void Emulator::switch_to_next() {
    Thread *const self = current, *const next = next_thread();
    if (next == self) return;
    if (next) current = next;
    switch_to(self->fiber.context, next ? next->fiber.context : context, false);
}

// Lets copies land now and then, and whenever no thread can run.
void Emulator::land_copies() {
    while (!copies.empty()) {
        if (!turns.empty() && turns.below(8) != 0) return;
        land_copy(copies, turns.below(uint32_t(copies.size())));
    }
}

void Emulator::switch_to(Context &from, Context &to, bool ends) {
    left = &from;
    switch_context(from, to, ends);
}

}  // namespace simt
