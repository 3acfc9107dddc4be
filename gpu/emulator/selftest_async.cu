// Kernels that test what runs beside the threads on the emulator, most of them with a planted fault. Built with the
// feature `selftest` only.
#include "ptx.cuh"

enum CopyFault { COPY_SOUND, COPY_NOT_AWAITED, COPY_TOO_FEW_BYTES, COPY_IN_FLIGHT_AT_THE_END, COPY_ONE_ARRIVAL_TOO_MANY };

// results [64] = source [64], by way of shared memory and two copies. `fault` is a CopyFault.
// Grid: 1. Block: 64.
KERNEL(64)
selftest_copies(Global<uint64> results, Global<const uint64> source, int64 fault) {
    SHARED_ARRAY(uint64, words, 64);
    SHARED_ARRAY(uint64, barrier, 1);
    const Address full = shared_address(barrier);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barrier_init_fence();
        barrier_arrive_expecting(full, fault == COPY_TOO_FEW_BYTES ? 32 * 8 : 64 * 8);
        bulk_copy(shared_address(words), source, 0, 32, full);
        bulk_copy(shared_address(words) + 32 * 8, source, 32, 32, full);
        if (fault == COPY_ONE_ARRIVAL_TOO_MANY) barrier_arrive(full);
    }
    __syncthreads();
    if (fault == COPY_IN_FLIGHT_AT_THE_END) return;
    if (fault != COPY_NOT_AWAITED) barrier_wait(full, 0);
    results[threadIdx.x] = words[threadIdx.x];
    // No copy is left behind.
    if (fault == COPY_NOT_AWAITED) barrier_wait(full, 0);
}

// words[thread] = 7, copied by the other block to its shared memory once it was signalled, and then to results [64].
// Fault: the words are not published, or the copy does not wait for the signal. Grid: 2. Block: 64. words [64];
// counters [1], zero.
KERNEL(64)
selftest_publish(Global<uint64> results, Global<uint64> words, Global<int> counters, int64 publishes) {
    SHARED_ARRAY(uint64, copied, 64);
    SHARED_ARRAY(uint64, barrier, 1);
    if (blockIdx.x == 0) {
        words[threadIdx.x] = 7;
        if (publishes) publish();
        __syncwarp();
        if (threadIdx.x % WARP == 0) signal(counters, 0);
        return;
    }
    const Address full = shared_address(barrier);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barrier_init_fence();
        wait_for_signals(counters, 0, 2);
        barrier_arrive_expecting(full, 64 * 8);
        bulk_copy(shared_address(copied), words, 0, 64, full);
    }
    __syncthreads();
    barrier_wait(full, 0);
    results[threadIdx.x] = copied[threadIdx.x];
}

// Fault: waits for a signal that nobody gives. Grid: 1. Block: 32.
KERNEL(32)
selftest_livelock(Global<int> counters) {
    wait_for_signals(counters, 0, 1);
}

// results [64] = what the first warp wrote, read by the second one; those who do not wait read too early.
// Grid: 1. Block: 64.
KERNEL(64)
selftest_groups(Global<float> results, int64 waits, int64 threads) {
    SHARED_ARRAY(float, values, 32);
    const int lane = threadIdx.x % WARP;
    if (threadIdx.x < WARP) {
        values[lane] = float(lane + 1);
        group_arrive(3, 64);
    } else {
        if (waits) group_wait(3, int(threads));
        results[lane] = values[lane];
    }
}

enum ProductFault { PRODUCT_SOUND, PRODUCT_READ_EARLY, PRODUCT_DIVERGENT, PRODUCT_NOT_SWIZZLED };

// results [128, 96] = start + left · rightᵀ, of lines [256, 16 words]: 64 of the left operand, 192 of the right one, the
// first 16 of each line's halves. `fault` is a ProductFault. Grid: 1. Block: 128. Shared memory: 256 lines.
KERNEL(WARPGROUP)
selftest_product(Global<float> results, Global<const uint64> lines, int64 fault, float start) {
    LARGE_SHARED_ARRAY(uint64, words, 256 * 16);
    for (int word = threadIdx.x; word < 256 * 16; word += WARPGROUP) words[word] = lines[word];
    __syncthreads();
    const uint64 common = uint64(1) << 16 | uint64(1024 >> 4) << 32 | uint64(fault == PRODUCT_NOT_SWIZZLED ? 0 : 1) << 62;
    const Address left = shared_address(words), right = left + 64 * 128;
    float sums[PRODUCT_SUMS];
    for (int i = 0; i < PRODUCT_SUMS; i++) sums[i] = start;
    const bool differs = fault == PRODUCT_DIVERGENT && threadIdx.x == 77;
    product_fence();
    product_64x192x16(sums, common | left >> 4, common | (differs ? left : right) >> 4, true);
    products_commit();
    if (fault == PRODUCT_READ_EARLY)
        for (int i = 0; i < PRODUCT_SUMS; i++) results[threadIdx.x * PRODUCT_SUMS + i] = sums[i];
    products_wait();
    hold_sums(sums);
    if (fault != PRODUCT_READ_EARLY)
        for (int i = 0; i < PRODUCT_SUMS; i++) results[threadIdx.x * PRODUCT_SUMS + i] = sums[i];
}
