// Kernels that test what the bf16 kernels ask of the emulator, some of them with a planted fault. Built with the feature
// `selftest` only.
#include "ptx_bf16.cuh"

constexpr int SELFTEST_LINES = 64 + 128;  // of both operands

// The operands of a product in shared memory: 64 lines of the left one, then the right one.
__device__ __forceinline__ uint64 selftest_operand(Address lines) {
    return uint64(lines >> 4) | uint64(1) << 16 | uint64(1024 >> 4) << 32 | uint64(1) << 62;
}

__device__ __forceinline__ void selftest_load(Shared<uint64> words, Global<const uint64> lines) {
    for (int word = threadIdx.x; word < SELFTEST_LINES * 16; word += WARPGROUP) words[word] = lines[word];
    __syncthreads();
}

// results [128, 128] = 0.5 + left · rightᵀ of `height` lines in the second block of sums, of lines [192, 16 words], the
// first 16 bf16 of each. Grid: 1. Block: 128. Shared memory: 192 lines.
KERNEL(WARPGROUP)
selftest_product_bf16(Global<float> results, Global<const uint64> lines, int64 height) {
    LARGE_SHARED_ARRAY(uint64, words, SELFTEST_LINES * 16);
    selftest_load(words, lines);
    const uint64 left = selftest_operand(shared_address(words));
    const uint64 right = selftest_operand(shared_address(words) + 64 * 128);
    float sums[WIDE_SUMS];
    for (int i = 0; i < WIDE_SUMS; i++) sums[i] = 0.5f;
    product_fence();
    if (height == 8) product_bf16<8, BLOCK_SUMS>(sums, left, right);
    if (height == 56) product_bf16<56, BLOCK_SUMS>(sums, left, right);
    if (height == 128) product_bf16<128, BLOCK_SUMS>(sums, left, right);
    products_commit();
    products_wait();
    hold_wide_sums(sums);
    for (int i = 0; i < WIDE_SUMS; i++) results[threadIdx.x * WIDE_SUMS + i] = sums[i];
}

// results [3, 128]: a sum of each thread after the waits for all groups of products but the last, and for all. Two groups
// add to the sum; a third product is not committed before the second wait. Operands as in selftest_product_bf16.
// Grid: 1. Block: 128. Shared memory: 192 lines.
KERNEL(WARPGROUP)
selftest_groups_of_products(Global<float> results, Global<const uint64> lines) {
    LARGE_SHARED_ARRAY(uint64, words, SELFTEST_LINES * 16);
    selftest_load(words, lines);
    const uint64 left = selftest_operand(shared_address(words));
    const uint64 right = selftest_operand(shared_address(words) + 64 * 128);
    float sums[WIDE_SUMS] = {};
    for (int group = 0; group < 2; group++) {
        product_bf16<8, 0>(sums, left, right);
        products_commit();
    }
    products_wait_but_last();
    results[threadIdx.x] = sums[0];
    product_bf16<8, 0>(sums, left, right);
    products_wait();
    results[WARPGROUP + threadIdx.x] = sums[0];
    products_commit();
    products_wait();
    results[2 * WARPGROUP + threadIdx.x] = sums[0];
}

// results [128] = four matrices of 8 x 8, each transposed: lane l brings values[4 l ..], and lane 8 i + c the place of
// column c of matrix i, which is the places[8 i + c]-th 16 bytes of the results. Grid: 1. Block: 32.
KERNEL(WARP)
selftest_transposed(Global<int> results, Global<const int> values, Global<const int> places) {
    SHARED_ARRAY(uint64, words, 64);
    unsigned own[4];
    for (int i = 0; i < 4; i++) own[i] = unsigned(values[threadIdx.x * 4 + i]);
    store_transposed(shared_address(words) + places[threadIdx.x] * 16, own);
    __syncwarp();
    for (int i = 0; i < 4; i++) results[threadIdx.x * 4 + i] = shared_int(shared_address(words) + (threadIdx.x * 4 + i) * 4);
}

// results [16 .. 24) = results [first .. first + 8), at once. Fault: an index that is not a multiple of 8, or beyond the
// array. Grid: 1. Block: 1.
KERNEL(1)
selftest_chunk(Global<Bf16> results, int64 first) {
    store_chunk(results, 16, load_chunk(results, first));
}

// words[2 · thread ..) = 7 and 8 by chunks, copied by the other block once it was signalled, and then to results [64].
// Fault: the words are not published. Grid: 2. Block: 32. words [64]; counters [1], zero.
KERNEL(WARP)
selftest_published_chunks(Global<uint64> results, Global<uint64> words, Global<int> counters, int64 publishes) {
    SHARED_ARRAY(uint64, copied, 64);
    SHARED_ARRAY(uint64, barrier, 1);
    if (blockIdx.x == 0) {
        store_chunk(words, 2 * int64(threadIdx.x), {{7, 8}});
        if (publishes) publish();
        __syncwarp();
        if (threadIdx.x == 0) signal(counters, 0);
        return;
    }
    const Address full = shared_address(barrier);
    if (threadIdx.x == 0) {
        barrier_init(full, 1);
        barrier_init_fence();
        wait_for_signals(counters, 0, 1);
        barrier_arrive_expecting(full, 64 * 8);
        bulk_copy_hinted(shared_address(copied), words, 0, 64, full, read_once());
    }
    __syncthreads();
    barrier_wait(full, 0);
    for (int i = threadIdx.x; i < 64; i += WARP) results[i] = copied[i];
}

// results [thread] = what the thread before has left in shared memory. Fault: no barrier between, unless `waits`.
// Grid: 1. Block: 64.
KERNEL(64)
selftest_shared_int(Global<int> results, int64 waits) {
    SHARED_ARRAY(int, values, 64);
    values[threadIdx.x] = int(threadIdx.x) + 1;
    if (waits) __syncthreads();
    results[threadIdx.x] = shared_int(shared_address(values) + (threadIdx.x + 63) % 64 * 4);
}
