#include "async_machine.h"

#include <cstring>

#include "collectives.h"
#include "emulator.h"
#include "report.h"

namespace simt {
namespace {

static_assert(sizeof(PhaseBarrier) == sizeof(uint64_t), "a barrier takes a word of shared memory");

PhaseBarrier &barrier_of(const Block &block, unsigned barrier) {
    if (barrier % sizeof(PhaseBarrier) != 0 || barrier + sizeof(PhaseBarrier) > block.shared_used)
        fail("there is no barrier at byte %u of shared memory", barrier);
    return *reinterpret_cast<PhaseBarrier *>(block.shared.get() + barrier);
}

void wake(Block &block, State state, uint64_t value) {
    for (unsigned linear = 0; linear < block.size; linear++) {
        Thread &thread = block.threads[linear];
        if (thread.state == state && thread.value == value) thread.emulator->make_ready(thread);
    }
}

// Ends the phase if nothing is missing.
void settle(Block &block, unsigned barrier) {
    PhaseBarrier &state = barrier_of(block, barrier);
    if (state.pending != 0 || state.bytes != 0) return;
    state.phase ^= 1;
    block.meetings++;
    state.pending = state.expected;
    wake(block, State::phase, barrier);
}

}  // namespace

unsigned shared_offset(const void *pointer) {
    return unsigned(static_cast<const char *>(pointer) - current->block->shared.get());
}

PhaseBarrier &phase_barrier(unsigned barrier) {
    return barrier_of(*current->block, barrier);
}

void arrive(unsigned barrier, unsigned bytes, Site site) {
    current->emulator->pause();
    PhaseBarrier &state = phase_barrier(barrier);
    if (state.pending == 0)
        fail("%s:%d: the barrier's phase takes no more than %u arrivals", site.file, site.line, unsigned(state.expected));
    state.bytes += bytes;
    state.pending--;
    settle(*current->block, barrier);
}

void wait_for_phase(unsigned barrier, unsigned parity, Site site) {
    Thread &self = *current;
    while (phase_barrier(barrier).phase == parity) {
        self.site = site;
        self.value = barrier;
        self.state = State::phase;
        self.emulator->give_way();
    }
}

void meet_group(unsigned id, unsigned threads, bool waits, Site site) {
    current->emulator->pause();
    Block &block = *current->block;
    if (id >= GROUP_BARRIERS) fail("%s:%d: there is no barrier %u", site.file, site.line, id);
    GroupBarrier &group = block.groups[id];
    if (group.arrived > 0 && group.threads != threads)
        fail("%s:%d: %u threads meet at barrier %u, others expect %u", site.file, site.line, threads, id, group.threads);
    group.threads = threads;
    group.arrived++;
    if (waits) {
        current->site = site;
        current->value = id;
        current->state = State::group;
    }
    if (group.arrived == threads) {
        group.arrived = 0;
        block.meetings++;
        wake(block, State::group, id);
    }
    if (waits) current->emulator->give_way();
}

void start_copy(unsigned target, const void *source, size_t bytes, unsigned barrier) {
    Block &block = *current->block;
    if (target % 16 != 0 || bytes % 16 != 0 || reinterpret_cast<uintptr_t>(source) % 16 != 0)
        fail("a copy of %zu bytes to byte %u of shared memory is not aligned to 16 bytes", bytes, target);
    if (target + bytes > block.shared_used)
        fail("a copy ends at byte %zu of %zu of shared memory", target + bytes, block.shared_used);
    current->emulator->accesses.expect_published(source, bytes);
    phase_barrier(barrier);
    block.copies++;
    current->emulator->copies.push_back({&block, target, source, bytes, barrier});
}

void land_copy(std::vector<Copy> &copies, uint32_t index) {
    const Copy copy = copies[index];
    copies[index] = copies.back();
    copies.pop_back();
    copy.block->copies--;
    memcpy(copy.block->shared.get() + copy.target, copy.source, copy.bytes);
    barrier_of(*copy.block, copy.barrier).bytes -= int64_t(copy.bytes);
    settle(*copy.block, copy.barrier);
}

void start_product(Product product) {
    if (current->products.size() == PRODUCTS_IN_FLIGHT) fail("more than %zu products in flight", PRODUCTS_IN_FLIGHT);
    current->products.push_back(product);
}

void commit_products() {
    current->groups.push_back(current->products.size());
}

void finish_products(unsigned kept, Site site) {
    Thread &self = *current;
    Block &block = *self.block;
    const size_t linear = size_t(&self - block.threads.data()), group = linear / WARPGROUP_THREADS;
    Thread *const threads = block.threads.data() + group * WARPGROUP_THREADS;
    if ((group + 1) * WARPGROUP_THREADS > block.size) fail("%s:%d: the warpgroup is not full", site.file, site.line);
    self.site = site;
    self.value = group;
    self.source = kept;
    self.state = State::products;
    if (++block.in_products[group] == WARPGROUP_THREADS) {
        block.in_products[group] = 0;
        multiply(threads, self.emulator->operands, block.shared.get(), block.shared_used);
        wake(block, State::products, group);
    }
    self.emulator->give_way();
}

char *shared_bytes(unsigned address, size_t bytes) {
    const Block &block = *current->block;
    if (address % bytes != 0 || address + bytes > block.shared_used)
        fail("there are no %zu bytes at byte %u of %zu of shared memory", bytes, address, block.shared_used);
    return block.shared.get() + address;
}

void store_transposed(unsigned address, const unsigned *matrices, Site site) {
    shared_bytes(address, 16);
    current->matrices = matrices;
    meet(Collective::store, 0xffffffffu, address, 0, site);
}

}  // namespace simt
