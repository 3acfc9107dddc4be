#include "collectives.h"

#include <cstring>

#include "emulator.h"
#include "report.h"

namespace simt {
namespace {

// What a lane stores; `addresses` are those of the lanes.
void store_columns(const Thread &thread, const uint64_t *addresses) {
    for (unsigned matrix = 0; matrix < 4; matrix++) {
        for (unsigned half = 0; half < 2; half++) {
            const uint64_t column = addresses[8 * matrix + thread.lane % 4 * 2 + half];
            const uint16_t bits = uint16_t(thread.matrices[matrix] >> 16 * half);
            memcpy(thread.block->shared.get() + column + thread.lane / 4 * sizeof bits, &bits, sizeof bits);
        }
    }
}

// Gives each lane its result and wakes it. Apart from its caller, whose frame stays small.
[[gnu::noinline]] void complete(Warp &warp, unsigned mask) {
    warp.waiting &= ~mask;
    warp.syncs++;
    uint64_t values[WARP_LANES];
    for (unsigned lane = 0; lane < WARP_LANES; lane++)
        if (mask >> lane & 1) values[lane] = warp.threads[lane].value;
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        if (!(mask >> lane & 1)) continue;
        Thread &thread = warp.threads[lane];
        if (thread.collective == Collective::sync) {
            thread.synced = warp.syncs;
            thread.left_at_sync = thread.left;
        } else if (thread.collective == Collective::shuffle) {
            thread.value = values[thread.source];
        } else if (thread.collective == Collective::store) {
            store_columns(thread, values);
        } else {
            uint64_t lanes = 0;
            for (unsigned other = 0; other < WARP_LANES; other++) {
                if (!(mask >> other & 1)) continue;
                const bool counts =
                    thread.collective == Collective::ballot ? values[other] != 0 : values[other] == values[lane];
                lanes |= uint64_t(counts) << other;
            }
            thread.value = lanes;
        }
        thread.emulator->make_ready(thread);
    }
}

// Whether all lanes of the mask wait in the same collective.
bool is_complete(const Warp &warp, Collective collective, unsigned mask) {
    for (unsigned lane = 0; lane < WARP_LANES; lane++) {
        if (!(mask >> lane & 1)) continue;
        const Thread &thread = warp.threads[lane];
        if (thread.collective != collective || thread.mask != mask) return false;
    }
    return true;
}

// The lanes of a warp that its block has.
unsigned lanes_of(const Block &block, const Warp &warp) {
    const size_t threads = size_t(block.threads.data() + block.size - warp.threads);
    return threads >= WARP_LANES ? 0xffffffffu : (1u << threads) - 1;
}

bool same(const Site &left, const Site &right) {
    return left.line == right.line && (left.file == right.file || strcmp(left.file, right.file) == 0);
}

}  // namespace

void wait_at_barrier(Site site) {
    Block &block = *current->block;
    current->site = site;
    if (block.at_barrier > 0 && !same(current->site, block.barrier)) fail_divergent();
    block.barrier = site;
    block.at_barrier++;
    current->state = State::barrier;
    if (block.at_barrier == block.live) release_barrier(block);
    current->emulator->give_way();
}

void release_barrier(Block &block) {
    block.at_barrier = 0;
    block.meetings++;
    for (unsigned linear = 0; linear < block.size; linear++) {
        Thread &thread = block.threads[linear];
        if (thread.state == State::barrier) thread.emulator->make_ready(thread);
    }
}

uint64_t meet(Collective collective, unsigned mask, uint64_t value, unsigned source, Site site) {
    Thread &self = *current;
    Warp &warp = *self.warp;
    const unsigned lanes = lanes_of(*self.block, warp);
    if (!(mask >> self.lane & 1)) fail("collective: lane %u is not in its own mask 0x%08x", self.lane, mask);
    if (collective == Collective::shuffle && !(mask >> source & 1))
        fail("shuffle: lane %u reads lane %u, which is not in mask 0x%08x", self.lane, source, mask);
    if (mask & ~lanes) fail("collective: mask 0x%08x names lanes that the block does not have", mask);
    if (mask & warp.done) fail("collective: mask 0x%08x names lanes that have returned", mask);
    self.collective = collective;
    self.mask = mask;
    self.value = value;
    self.source = source;
    self.site = site;
    self.state = State::collective;
    warp.waiting |= 1u << self.lane;
    if ((warp.waiting & mask) == mask && is_complete(warp, collective, mask)) complete(warp, mask);
    self.emulator->give_way();
    return self.value;
}

}  // namespace simt
