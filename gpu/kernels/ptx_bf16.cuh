// The instructions of the bf16 kernels that CUDA C++ has no name for, one function each, beside those of ptx.cuh.
#pragma once
#include "ptx.cuh"

#ifdef HOPPER

using Bf16 = unsigned short;  // its bits

constexpr int BLOCK_SUMS = 64;              // sums a thread of a product of 64 x 128
constexpr int WIDE_SUMS = 2 * BLOCK_SUMS;
constexpr int CHUNK = 8;        // bf16 of 16 bytes

struct Chunk {
    uint64 words[2];
};

__device__ __forceinline__ float from_bf16(Bf16 bits) {
    return __int_as_float(int(unsigned(bits) << 16));
}

#ifdef __CUDACC__
#define KERNEL_PAIRED(threads) extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(threads, 1)
#else
#define KERNEL_PAIRED(threads) KERNEL_ALONE(threads)
#endif

#ifdef __CUDACC__

// Two floats rounded to bf16, the first in the low half.
__device__ __forceinline__ unsigned to_bf16_pair(float first, float second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// array[index .. index + CHUNK); index is a multiple of CHUNK.
__device__ __forceinline__ Chunk load_chunk(Global<const Bf16> array, int64 index) {
    const ulonglong2 loaded = *reinterpret_cast<const ulonglong2 *>(array + index);
    return {{loaded.x, loaded.y}};
}

__device__ __forceinline__ void store_chunk(Global<Bf16> array, int64 index, const Chunk &chunk) {
    *reinterpret_cast<ulonglong2 *>(array + index) = make_ulonglong2(chunk.words[0], chunk.words[1]);
}

// 16 bytes of shared memory.
__device__ __forceinline__ Chunk shared_chunk(Address address) {
    Chunk chunk;
    asm volatile("ld.shared.v2.u64 {%0, %1}, [%2];"
                 : "=l"(chunk.words[0]), "=l"(chunk.words[1])
                 : "r"(address)
                 : "memory");
    return chunk;
}

// Four matrices of 8 x 8 bf16, of which each thread holds row lane / 4, columns 2 (lane % 4) and one more, one matrix a
// value. Matrix i is written transposed: its column c becomes the 16 bytes at the address that lane 8 i + c gives.
__device__ __forceinline__ void store_transposed(Address row, const unsigned (&values)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(values[0]),
                 "r"(values[1]), "r"(values[2]), "r"(values[3])
                 : "memory");
}

// The same array in words, as copies take it.
__device__ __forceinline__ Global<const uint64> in_words(Global<const Bf16> array) {
    return reinterpret_cast<Global<const uint64>>(array);
}

// What a copy of data that is read once tells the second cache: to make room there first.
__device__ __forceinline__ uint64 read_once() {
    uint64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// As bulk_copy, with a policy of the second cache.
__device__ __forceinline__ void bulk_copy_hinted(Address target, Global<const uint64> source, int64 first,
                                                 unsigned words, Address barrier, uint64 policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            target),
        "l"(source + first), "r"(words * 8), "r"(barrier), "l"(policy)
        : "memory");
}

// Which block of its pair this one is.
__device__ __forceinline__ int rank_in_pair() {
    int rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// Waits for all threads of the pair that have not ended.
__device__ __forceinline__ void pair_wait() {
    asm volatile("barrier.cluster.arrive;\nbarrier.cluster.wait;" ::: "memory");
}

// Arrives at a barrier that stands at the same place in the other block.
__device__ __forceinline__ void barrier_arrive_at_peer(Address barrier, int peer) {
    asm volatile(
        "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(barrier),
        "r"(peer)
        : "memory");
}

// Writes a word to its place in the other block, and counts its bytes at the other block's barrier.
__device__ __forceinline__ void send_to_peer(Address word, int value, Address barrier, int peer) {
    asm volatile(
        "{\n.reg .b32 place, remote;\nmapa.shared::cluster.u32 place, %0, %3;\nmapa.shared::cluster.u32 remote, %2, %3;\n"
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [place], %1, [remote];\n}" ::"r"(word),
        "r"(value), "r"(barrier), "r"(peer)
        : "memory");
}

// As bulk_copy, to the same place in both blocks of the pair, counted at the barrier of each.
__device__ __forceinline__ void bulk_copy_to_pair(Address target, Global<const uint64> source, int64 first,
                                                  unsigned words, Address barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], %4;" ::
            "r"(target),
        "l"(source + first), "r"(words * 8), "r"(barrier), "h"((unsigned short)3)
        : "memory");
}

// Waits for every group of products that was committed but the last.
__device__ __forceinline__ void products_wait_but_last() {
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

// Keeps reads of the first COUNT sums from FIRST on below the wait.
template <int FIRST, int COUNT>
__device__ __forceinline__ void hold_some(float (&sums)[WIDE_SUMS]) {
#pragma unroll
    for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(sums[FIRST + i])::"memory");
}

// Names of eight registers of a product each.
#define NAMES_0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define NAMES_1 "%8,%9,%10,%11,%12,%13,%14,%15"
#define NAMES_2 "%16,%17,%18,%19,%20,%21,%22,%23"
#define NAMES_3 "%24,%25,%26,%27,%28,%29,%30,%31"
#define NAMES_4 "%32,%33,%34,%35,%36,%37,%38,%39"
#define NAMES_5 "%40,%41,%42,%43,%44,%45,%46,%47"
#define NAMES_6 "%48,%49,%50,%51,%52,%53,%54,%55"
#define NAMES_7 "%56,%57,%58,%59,%60,%61,%62,%63"

#define OPERANDS_8(sums, i)                                                                                           \
    "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]),      \
        "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define OPERANDS_32(sums, i) \
    OPERANDS_8(sums, i), OPERANDS_8(sums, i + 8), OPERANDS_8(sums, i + 16), OPERANDS_8(sums, i + 24)

// One product of 64 x 16 and lines x 16, added to the sums; left and right are the two operands that follow them.
#define PRODUCT(lines, names, left_name, right_name, ...)                                                     \
    asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                                  \
                 "wgmma.mma_async.sync.aligned.m64n" #lines "k16.f32.bf16.bf16 {" names "}, %" #left_name ", %" \
                 #right_name ", p, 1, 1, 0, 0;\n}"                                                            \
                 : __VA_ARGS__                                                                                \
                 : "l"(left), "l"(right))

// sums += left · rightᵀ for a left of 64 x 16 and a right of LINES x 16 bf16, by the warpgroup, in the LINES / 2 sums
// from FIRST on. Starts after product_fence; the sums are there after a wait and hold_some.
template <int LINES, int FIRST>
__device__ __forceinline__ void product_bf16(float (&sums)[WIDE_SUMS], uint64 left, uint64 right) {
    if constexpr (LINES == 8)
        PRODUCT(8, "%0,%1,%2,%3", 4, 5, "+f"(sums[FIRST + 0]), "+f"(sums[FIRST + 1]), "+f"(sums[FIRST + 2]), "+f"(sums[FIRST + 3]));
    if constexpr (LINES == 16)
        PRODUCT(16, NAMES_0, 8, 9, OPERANDS_8(sums, FIRST));
    if constexpr (LINES == 24)
        PRODUCT(24, NAMES_0 ",%8,%9,%10,%11", 12, 13, OPERANDS_8(sums, FIRST), "+f"(sums[FIRST + 8]), "+f"(sums[FIRST + 9]), "+f"(sums[FIRST + 10]), "+f"(sums[FIRST + 11]));
    if constexpr (LINES == 32)
        PRODUCT(32, NAMES_0 "," NAMES_1, 16, 17, OPERANDS_8(sums, FIRST), OPERANDS_8(sums, FIRST + 8));
    if constexpr (LINES == 40)
        PRODUCT(40, NAMES_0 "," NAMES_1 ",%16,%17,%18,%19", 20, 21, OPERANDS_8(sums, FIRST), OPERANDS_8(sums, FIRST + 8), "+f"(sums[FIRST + 16]), "+f"(sums[FIRST + 17]), "+f"(sums[FIRST + 18]), "+f"(sums[FIRST + 19]));
    if constexpr (LINES == 48)
        PRODUCT(48, NAMES_0 "," NAMES_1 "," NAMES_2, 24, 25, OPERANDS_8(sums, FIRST), OPERANDS_8(sums, FIRST + 8), OPERANDS_8(sums, FIRST + 16));
    if constexpr (LINES == 56)
        PRODUCT(56, NAMES_0 "," NAMES_1 "," NAMES_2 ",%24,%25,%26,%27", 28, 29, OPERANDS_8(sums, FIRST), OPERANDS_8(sums, FIRST + 8), OPERANDS_8(sums, FIRST + 16), "+f"(sums[FIRST + 24]), "+f"(sums[FIRST + 25]), "+f"(sums[FIRST + 26]), "+f"(sums[FIRST + 27]));
    if constexpr (LINES == 64)
        PRODUCT(64, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3, 32, 33, OPERANDS_32(sums, FIRST));
    if constexpr (LINES == 72)
        PRODUCT(72, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 ",%32,%33,%34,%35", 36, 37, OPERANDS_32(sums, FIRST), "+f"(sums[FIRST + 32]), "+f"(sums[FIRST + 33]), "+f"(sums[FIRST + 34]), "+f"(sums[FIRST + 35]));
    if constexpr (LINES == 80)
        PRODUCT(80, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4, 40, 41, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32));
    if constexpr (LINES == 88)
        PRODUCT(88, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 ",%40,%41,%42,%43", 44, 45, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32), "+f"(sums[FIRST + 40]), "+f"(sums[FIRST + 41]), "+f"(sums[FIRST + 42]), "+f"(sums[FIRST + 43]));
    if constexpr (LINES == 96)
        PRODUCT(96, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 "," NAMES_5, 48, 49, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32), OPERANDS_8(sums, FIRST + 40));
    if constexpr (LINES == 104)
        PRODUCT(104, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 "," NAMES_5 ",%48,%49,%50,%51", 52, 53, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32), OPERANDS_8(sums, FIRST + 40), "+f"(sums[FIRST + 48]), "+f"(sums[FIRST + 49]), "+f"(sums[FIRST + 50]), "+f"(sums[FIRST + 51]));
    if constexpr (LINES == 112)
        PRODUCT(112, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 "," NAMES_5 "," NAMES_6, 56, 57, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32), OPERANDS_8(sums, FIRST + 40), OPERANDS_8(sums, FIRST + 48));
    if constexpr (LINES == 120)
        PRODUCT(120, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 "," NAMES_5 "," NAMES_6 ",%56,%57,%58,%59", 60, 61, OPERANDS_32(sums, FIRST), OPERANDS_8(sums, FIRST + 32), OPERANDS_8(sums, FIRST + 40), OPERANDS_8(sums, FIRST + 48), "+f"(sums[FIRST + 56]), "+f"(sums[FIRST + 57]), "+f"(sums[FIRST + 58]), "+f"(sums[FIRST + 59]));
    if constexpr (LINES == 128)
        PRODUCT(128, NAMES_0 "," NAMES_1 "," NAMES_2 "," NAMES_3 "," NAMES_4 "," NAMES_5 "," NAMES_6 "," NAMES_7, 64, 65, OPERANDS_32(sums, FIRST), OPERANDS_32(sums, FIRST + 32));
}

#else
#include "async_bf16.h"
#endif

#endif
