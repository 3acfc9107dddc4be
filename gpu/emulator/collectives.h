// Barriers of a block, and what the lanes of a warp do together. The running thread calls them.
#pragma once
#include "threads.h"

namespace simt {

// Lets the other threads of the block arrive.
void wait_at_barrier(Site site);

// Meets the other lanes of `mask` and returns this lane's result: of a shuffle, the value of lane `source`; of a
// ballot, the lanes whose value is not zero; of a match, the lanes whose value is this lane's. A store has none.
uint64_t meet(Collective collective, unsigned mask, uint64_t value, unsigned source, Site site);

// The threads that wait at the block's barrier can run.
void release_barrier(Block &block);

}  // namespace simt
