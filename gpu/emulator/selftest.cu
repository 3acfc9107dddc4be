// Kernels that test the emulator, most of them with a planted fault. Built with the feature `selftest` only.
#include "common.cuh"

// results [4, 32]: by lane the shuffles up, xor and from lane 5, and a digest of ballot, match and popc.
// Grid: 1. Block: 32.
KERNEL(32)
selftest_collectives(Global<int> results) {
    const int lane = threadIdx.x;
    results[lane] = __shfl_up_sync(ALL_LANES, lane, 3);
    results[32 + lane] = __shfl_xor_sync(ALL_LANES, lane, 9);
    results[64 + lane] = __shfl_sync(ALL_LANES, lane * lane, 5);
    const unsigned ballot = __ballot_sync(ALL_LANES, lane % 3 == 0);
    const unsigned peers = __match_any_sync(ALL_LANES, lane % 5);
    results[96 + lane] = __popc(ballot) * 100 + __popc(peers);
}

// results [256]: each thread reads what its neighbour writes. Fault: no barrier between. Grid: 1. Block: 256.
KERNEL(256)
selftest_missing_barrier(Global<float> results) {
    SHARED_ARRAY(float, values, 256);
    values[threadIdx.x] = float(threadIdx.x);
    results[threadIdx.x] = values[(threadIdx.x + 1) % 256];
}

// Fault: half of the block waits at one barrier, half at another. Grid: 1. Block: 64.
KERNEL(64)
selftest_divergent_barrier(Global<int> results) {
    if (threadIdx.x < 32) __syncthreads();
    results[threadIdx.x] = 1;
    __syncthreads();
}

// Fault: half of a warp waits at a barrier, half for the whole warp. Grid: 1. Block: 32.
KERNEL(32)
selftest_barrier_against_collective(Global<int> results) {
    if (threadIdx.x < 16) __syncthreads();
    else __syncwarp();
    results[threadIdx.x] = 1;
}

// Fault: lanes that have returned are named in the mask. Grid: 1. Block: 32.
KERNEL(32)
selftest_returned_lane(Global<int> results) {
    if (threadIdx.x >= 16) return;
    results[threadIdx.x] = int(__ballot_sync(ALL_LANES, 1));
}

// results[thread] = values[index + thread]. Block: any.
KERNEL(256)
selftest_read(Global<const float> values, Global<float> results, int64 index) {
    results[threadIdx.x] = values[index + threadIdx.x];
}

// results[thread] = shared[index + thread] of 32 elements. Block: any.
KERNEL(256)
selftest_shared_index(Global<float> results, int64 index) {
    SHARED_ARRAY(float, values, 32);
    if (threadIdx.x < 32) values[threadIdx.x] = 1.0f;
    __syncthreads();
    results[threadIdx.x] = values[index + threadIdx.x];
}

// results [blocks, 32] = shared memory that nothing wrote, before it is overwritten. Block: 32.
KERNEL(32)
selftest_shared_poison(Global<float> results) {
    SHARED_ARRAY(float, values, 32);
    results[global_thread()] = values[threadIdx.x];
    values[threadIdx.x] = 1.0f;
}

// sum[0] += 1 by every thread.
KERNEL(256)
selftest_atomic_sum(Global<float> sum) {
    atomicAdd(&sum[0], 1.0f);
}

// sum[0] += 1 by every thread. Fault: not an atomic.
KERNEL(256)
selftest_plain_sum(Global<float> sum) {
    const float old = sum[0];
    sum[0] = old + 1.0f;
}

// counts[e] += the assignments of expert e, and bins[e] = counts[0] + … + counts[e] by the last block.
// Fault: that block does not wait for the additions of the other blocks.
// Grid: any. Block: 32. expert_of [assignments]; counts [experts], zero; bins [experts].
KERNEL(32)
selftest_racing_bins(Global<const int> expert_of, Global<float> counts, Global<float> bins, int64 assignments,
                     int64 experts) {
    const int64 assignment = global_thread();
    if (assignment < assignments) atomicAdd(&counts[expert_of[assignment]], 1.0f);
    __syncthreads();
    if (blockIdx.x != gridDim.x - 1 || threadIdx.x != 0) return;
    float total = 0.0f;
    for (int64 expert = 0; expert < experts; expert++) {
        total += counts[expert];
        bins[expert] = total;
    }
}

enum Between { NOTHING, A_MATCH, A_SYNC_OF_THE_WARP, A_BARRIER };
enum Then { READS, ADDS, READS_OF_OTHER_WARPS, ADDS_OF_OTHER_BLOCKS };

// flags[thread] = 1, and then another thread's element is read or added to. `between` is a Between, `then` a Then.
// Fault: what stands between does not order the two. Grid: 2. Block: 64. flags [128].
KERNEL(64)
selftest_order(Global<int> flags, int64 between, int64 then) {
    const int64 own = global_thread();
    flags[own] = 1;
    if (between == A_MATCH) (void)__match_any_sync(ALL_LANES, 0);
    if (between == A_SYNC_OF_THE_WARP) __syncwarp();
    if (between == A_BARRIER) __syncthreads();
    if (then == READS && flags[own ^ 1] == 7) flags[own] = 2;
    if (then == ADDS) atomicAdd(&flags[own ^ 1], 1);
    if (then == READS_OF_OTHER_WARPS && flags[own ^ 32] == 7) flags[own] = 2;
    if (then == ADDS_OF_OTHER_BLOCKS) atomicAdd(&flags[own ^ 64], 1);
}

// flags[0] += 1 and flags[own + 1] = 1 by every thread, in that order. No fault. Grid: any. Block: any.
KERNEL(64)
selftest_counters(Global<int> flags) {
    atomicAdd(&flags[0], 1);
    flags[global_thread() + 1] = 1;
    flags[global_thread() + 1] += 1;
}
