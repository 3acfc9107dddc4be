#include "order.h"

#include <vector>

#include "scheduler.h"

namespace simt {
namespace {

// An access: who, and what the thread had met before.
struct Stamp {
    uint32_t block = 0;  // serial; 0: none
    uint32_t thread = 0;
    uint32_t syncs = 0, meetings = 0;
};

constexpr unsigned KINDS = 3;

// The last access of each kind to an address.
struct Cell {
    const void *address = nullptr;
    uint64_t launch = 0;
    Stamp stamps[KINDS];
};

// A cell that two addresses share forgets the older one: a race may go unseen, none is made up.
constexpr size_t CELLS = 1u << 14;
thread_local std::vector<Cell> cells(CELLS);
thread_local uint64_t launches = 0;
// Words written and not published, by thread.
thread_local std::vector<std::pair<const Thread *, const char *>> words;

// A value that a thread left for other blocks, as its so many-th.
struct Left {
    const void *address = nullptr;
    uint64_t launch = 0;
    const Thread *thread = nullptr;
    uint32_t block = 0;  // serial
    uint32_t number = 0;
};

thread_local std::vector<Left> lefts(CELLS);

size_t place_of(const void *address) {
    const uint64_t hash = reinterpret_cast<uintptr_t>(address) / sizeof(int) * 0x9e3779b97f4a7c15u;
    return hash >> 50;
}

Cell &cell_of(const void *address) {
    Cell &cell = cells[place_of(address)];
    if (cell.address != address || cell.launch != launches) cell = {address, launches, {}};
    return cell;
}

bool is_shared(const void *address) {
    const char *const shared = current->block->shared.get(), *const byte = static_cast<const char *>(address);
    return byte >= shared && byte < shared + SHARED_BYTES;
}

unsigned linear_of(const Thread &thread) {
    return unsigned(&thread - thread.block->threads.data());
}

// Whether the running thread comes after an access by a barrier.
bool comes_after(const Stamp &stamp, const void *address) {
    const Block &block = *current->block;
    // Shared memory of a block that has ended.
    if (stamp.block != block.serial) return stamp.block == 0 || is_shared(address);
    if (stamp.thread == linear_of(*current) || block.meetings > stamp.meetings) return true;
    const Thread &other = block.threads[stamp.thread];
    return other.warp == current->warp && current->synced > stamp.syncs && other.synced > stamp.syncs;
}

}  // namespace

void note_access(const void *address, Access access, const char *name, int64_t index) {
    static const char *const NOW[KINDS] = {"read", "written", "changed by an atomic"};
    Cell &cell = cell_of(address);
    for (unsigned kind = 0; kind < KINDS; kind++) {
        const bool conflict = Access(kind) != access || access == Access::write;
        const Stamp &stamp = cell.stamps[kind];
        if (conflict && !comes_after(stamp, address))
            fail("race: %s[%lld] was %s by %s block, and is %s with no barrier between", name,
                 static_cast<long long>(index), NOW[kind],
                 stamp.block == current->block->serial ? "another thread of the" : "another", NOW[size_t(access)]);
    }
    const Thread &self = *current;
    cell.stamps[size_t(access)] = {self.block->serial, linear_of(self), self.warp->syncs, self.block->meetings};
}

void note_word(const void *address) {
    if (launched->shared_bytes > 0) words.emplace_back(current, static_cast<const char *>(address));
}

void publish_words() {
    size_t kept = 0;
    for (const auto &word : words)
        if (word.first != current) words[kept++] = word;
    words.resize(kept);
}

void expect_published(const void *source, size_t bytes) {
    const char *const from = static_cast<const char *>(source);
    for (const auto &word : words)
        if (word.second >= from && word.second < from + bytes)
            fail("unpublished: a copy reads a word that a thread wrote and did not publish");
}

void note_left(const void *address) {
    lefts[place_of(address)] = {address, launches, current, current->block->serial, ++current->left};
}

void release_left() {
    Thread &self = *current;
    self.released = self.left;
    Thread *const lanes = self.warp->threads;
    const Thread *const end = self.block->threads.data() + self.block->size;
    for (unsigned lane = 0; lane < WARP_LANES && lanes + lane < end; lane++) {
        Thread &other = lanes[lane];
        if (other.synced == self.synced && other.released < other.left_at_sync) other.released = other.left_at_sync;
    }
}

void expect_released(const void *address, const char *name, int64_t index) {
    const Left &left = lefts[place_of(address)];
    if (left.address != address || left.launch != launches || left.thread == current) return;
    // A block that has ended has no more to release.
    if (left.thread->block->serial != left.block || left.number <= left.thread->released) return;
    fail("unreleased: %s[%lld] is read, and no signal followed when it was written", name, static_cast<long long>(index));
}

void forget_accesses() {
    launches++;
    words.clear();
}

}  // namespace simt
