// The start and the end of blocks and their threads.
#include <cstdlib>

#include "collectives.h"
#include "emulator.h"

namespace simt {
namespace {

// The most declarations of shared memory for which no fiber has to allocate.
constexpr size_t REGIONS = 64;

Index3 index_in(uint64_t linear, Index3 extent) {
    return {unsigned(linear % extent.x), unsigned(linear / extent.x % extent.y),
            unsigned(linear / extent.x / extent.y)};
}

}  // namespace

// Starts the next waiting block in `slot`.
void Emulator::admit(Block &slot) {
    const Waiting next = waiting.back();
    waiting.pop_back();
    const Index3 extent = next.launch->block;
    slot.launch = next.launch;
    slot.index = index_in(next.number, next.launch->grid);
    slot.serial = ++started;
    slot.meetings = 0;
    slot.size = extent.x * extent.y * extent.z;
    slot.at_barrier = 0;
    slot.live = slot.size;
    slot.copies = 0;
    slot.shared_used = 0;
    slot.regions.clear();
    slot.regions.reserve(REGIONS);
    if (!slot.shared) slot.shared.reset(new char[SHARED_BYTES]);
    if (slot.threads.size() < slot.size) slot.threads.resize(slot.size);
    for (GroupBarrier &group : slot.groups) group = {};
    for (unsigned &waiting : slot.in_products) waiting = 0;
    for (unsigned warp = 0; warp * WARP_LANES < slot.size; warp++)
        slot.warps[warp] = {slot.threads.data() + warp * WARP_LANES, 0, 0, 0, 0};
    for (unsigned linear = 0; linear < slot.size; linear++) {
        Thread &thread = slot.threads[linear];
        thread.emulator = this;
        thread.block = &slot;
        thread.index = index_in(linear, extent);
        thread.lane = linear % WARP_LANES;
        thread.warp = &slot.warps[linear / WARP_LANES];
        thread.is_late = turns.draws_late();
        thread.counts_accesses = schedule.access_interval > 0;
        thread.synced = 0;
        thread.left = thread.left_at_sync = thread.released = 0;
        thread.products.clear();
        thread.products.reserve(PRODUCTS_IN_FLIGHT);
        if (!thread.fiber.has_stack()) thread.fiber.make_stack(stacks++);
        thread.fiber.start(thread_main);
        make_ready(thread);
    }
}

void Emulator::thread_main() {
    entered(*current->emulator->left);
    const Launch &launch = *current->block->launch;
    launch.call(launch.values);
    current->emulator->end_thread();
}

// Does not return.
void Emulator::end_thread() {
    Block &block = *current->block;
    current->state = State::done;
    current->warp->done |= 1u << current->lane;
    block.live--;
    if (block.live > 0 && block.at_barrier == block.live) release_barrier(block);
    // The end of a block belongs to the run, which would draw the same thread once more.
    Fiber &own = current->fiber;
    Thread *const next = block.live > 0 ? next_thread() : nullptr;
    own.has_ended = true;
    if (next) current = next;
    switch_to(own.context, next ? next->fiber.context : context, true);
    abort();
}

}  // namespace simt
