#include "order.h"

#include "report.h"

namespace simt {
namespace {

bool is_shared(const void *address) {
    const char *const shared = current->block->shared.get(), *const byte = static_cast<const char *>(address);
    return byte >= shared && byte < shared + SHARED_BYTES;
}

unsigned linear_of(const Thread &thread) {
    return unsigned(&thread - thread.block->threads.data());
}

}  // namespace

void Accesses::forget() {
    runs++;
    words.clear();
}

void Accesses::note(const void *address, Access access, const char *name, int64_t index) {
    static const char *const NOW[ACCESSES] = {"read", "written", "changed by an atomic"};
    Cell &cell = cell_of(address);
    for (unsigned kind = 0; kind < ACCESSES; kind++) {
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

void Accesses::note_word(const void *address) {
    words.emplace_back(current, static_cast<const char *>(address));
}

void Accesses::publish_words() {
    size_t kept = 0;
    for (const auto &word : words)
        if (word.first != current) words[kept++] = word;
    words.resize(kept);
}

void Accesses::expect_published(const void *source, size_t bytes) const {
    const char *const from = static_cast<const char *>(source);
    for (const auto &word : words)
        if (word.second >= from && word.second < from + bytes)
            fail("unpublished: a copy reads a word that a thread wrote and did not publish");
}

void Accesses::note_left(const void *address) {
    lefts[place_of(address)] = {address, runs, current, current->block->serial, ++current->left};
}

void Accesses::release_left() {
    Thread &self = *current;
    self.released = self.left;
    Thread *const lanes = self.warp->threads;
    const Thread *const end = self.block->threads.data() + self.block->size;
    for (unsigned lane = 0; lane < WARP_LANES && lanes + lane < end; lane++) {
        Thread &other = lanes[lane];
        if (other.synced == self.synced && other.released < other.left_at_sync) other.released = other.left_at_sync;
    }
}

void Accesses::expect_released(const void *address, const char *name, int64_t index) const {
    const Left &left = lefts[place_of(address)];
    if (left.address != address || left.run != runs || left.thread == current) return;
    // A block that has ended has no more to release.
    if (left.thread->block->serial != left.block || left.number <= left.thread->released) return;
    fail("unreleased: %s[%lld] is read, and no signal followed when it was written", name, static_cast<long long>(index));
}

size_t Accesses::place_of(const void *address) {
    const uint64_t hash = reinterpret_cast<uintptr_t>(address) / sizeof(int) * 0x9e3779b97f4a7c15u;
    return hash >> (64 - CELL_BITS);
}

// Whether the running thread comes after an access by a barrier.
inline bool Accesses::comes_after(const Stamp &stamp, const void *address) {
    const Block &block = *current->block;
    // Shared memory of a block that has ended.
    if (stamp.block != block.serial) return stamp.block == 0 || is_shared(address);
    if (stamp.thread == linear_of(*current) || block.meetings > stamp.meetings) return true;
    const Thread &other = block.threads[stamp.thread];
    return other.warp == current->warp && current->synced > stamp.syncs && other.synced > stamp.syncs;
}

Accesses::Cell &Accesses::cell_of(const void *address) {
    Cell &cell = cells[place_of(address)];
    if (cell.address != address || cell.run != runs) cell = {address, runs, {}};
    return cell;
}

}  // namespace simt
