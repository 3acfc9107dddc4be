// The instructions of the bf16 kernels that CUDA C++ has no name for, one function each, beside those of ptx.cuh.
// emulator/async_bf16.h gives the same functions on the CPU.
#pragma once
#include "ptx.cuh"

#ifdef HOPPER

using Bf16 = unsigned short;  // its bits

constexpr int BLOCK_SUMS = 64;  // sums a thread of a product of 64 x 128
constexpr int WIDE_SUMS = 2 * BLOCK_SUMS;
constexpr int CHUNK = 8;  // bf16 of 16 bytes

struct Chunk {
    uint64 words[2];
};

__device__ __forceinline__ float from_bf16(Bf16 bits) {
    return __int_as_float(int(unsigned(bits) << 16));
}

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
    asm volatile("st.global.v2.u64 [%0], {%1, %2};" ::"l"(array + index), "l"(chunk.words[0]), "l"(chunk.words[1])
                 : "memory");
}

// As store_chunk, in an array of words, of which a chunk takes two; index is even. Bulk copies read such arrays.
__device__ __forceinline__ void store_chunk(Global<uint64> array, int64 index, const Chunk &chunk) {
    asm volatile("st.global.v2.u64 [%0], {%1, %2};" ::"l"(array + index), "l"(chunk.words[0]), "l"(chunk.words[1])
                 : "memory");
}

// An integer or a float of shared memory. An address takes one register, a pointer two, and beside the sums of a
// product there are few.
__device__ __forceinline__ int shared_int(Address address) {
    int value;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    return value;
}

__device__ __forceinline__ float shared_float(Address address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
    return value;
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

// The policy of the L2 cache for data that is read once: evict it first.
__device__ __forceinline__ uint64 read_once() {
    uint64 policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// The policy for data that is read again soon: the usual one.
__device__ __forceinline__ uint64 read_again() {
    uint64 policy;
    asm volatile("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

// As bulk_copy, with a policy of the L2 cache.
__device__ __forceinline__ void bulk_copy_hinted(Address target, Global<const uint64> source, int64 first,
                                                 unsigned words, Address barrier, uint64 policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;"
        ::"r"(target), "l"(source + first), "r"(words * 8), "r"(barrier), "l"(policy)
        : "memory");
}

// Waits for every group of products that was committed but the last.
__device__ __forceinline__ void products_wait_but_last() {
    asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
}

// Keeps reads of the sums below the wait.
__device__ __forceinline__ void hold_wide_sums(float (&sums)[WIDE_SUMS]) {
#pragma unroll
    for (int i = 0; i < WIDE_SUMS; i++) asm volatile("" : "+f"(sums[i])::"memory");
}

// The first sums of a product by the names that they have in its instruction, and as its operands.
#define NAMES_4 "%0,%1,%2,%3"
#define NAMES_8 NAMES_4 ",%4,%5,%6,%7"
#define NAMES_12 NAMES_8 ",%8,%9,%10,%11"
#define NAMES_16 NAMES_12 ",%12,%13,%14,%15"
#define NAMES_20 NAMES_16 ",%16,%17,%18,%19"
#define NAMES_24 NAMES_20 ",%20,%21,%22,%23"
#define NAMES_28 NAMES_24 ",%24,%25,%26,%27"
#define NAMES_32 NAMES_28 ",%28,%29,%30,%31"
#define NAMES_36 NAMES_32 ",%32,%33,%34,%35"
#define NAMES_40 NAMES_36 ",%36,%37,%38,%39"
#define NAMES_44 NAMES_40 ",%40,%41,%42,%43"
#define NAMES_48 NAMES_44 ",%44,%45,%46,%47"
#define NAMES_52 NAMES_48 ",%48,%49,%50,%51"
#define NAMES_56 NAMES_52 ",%52,%53,%54,%55"
#define NAMES_60 NAMES_56 ",%56,%57,%58,%59"
#define NAMES_64 NAMES_60 ",%60,%61,%62,%63"

#define FOUR_SUMS(i) \
    "+f"(sums[FIRST + i]), "+f"(sums[FIRST + i + 1]), "+f"(sums[FIRST + i + 2]), "+f"(sums[FIRST + i + 3])
#define OPERANDS_4 FOUR_SUMS(0)
#define OPERANDS_8 OPERANDS_4, FOUR_SUMS(4)
#define OPERANDS_12 OPERANDS_8, FOUR_SUMS(8)
#define OPERANDS_16 OPERANDS_12, FOUR_SUMS(12)
#define OPERANDS_20 OPERANDS_16, FOUR_SUMS(16)
#define OPERANDS_24 OPERANDS_20, FOUR_SUMS(20)
#define OPERANDS_28 OPERANDS_24, FOUR_SUMS(24)
#define OPERANDS_32 OPERANDS_28, FOUR_SUMS(28)
#define OPERANDS_36 OPERANDS_32, FOUR_SUMS(32)
#define OPERANDS_40 OPERANDS_36, FOUR_SUMS(36)
#define OPERANDS_44 OPERANDS_40, FOUR_SUMS(40)
#define OPERANDS_48 OPERANDS_44, FOUR_SUMS(44)
#define OPERANDS_52 OPERANDS_48, FOUR_SUMS(48)
#define OPERANDS_56 OPERANDS_52, FOUR_SUMS(52)
#define OPERANDS_60 OPERANDS_56, FOUR_SUMS(56)
#define OPERANDS_64 OPERANDS_60, FOUR_SUMS(60)

// One product of 64 x 16 and lines x 16, of so many sums; left and right are the two operands that follow them.
#define PRODUCT(lines, count, left_name, right_name)                                                              \
    asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\n"                                                       \
                 "wgmma.mma_async.sync.aligned.m64n" #lines "k16.f32.bf16.bf16 {" NAMES_##count "}, %" #left_name \
                 ", %" #right_name ", p, 1, 1, 0, 0;\n}"                                                          \
                 : OPERANDS_##count                                                                               \
                 : "l"(left), "l"(right))

// sums += left · rightᵀ for a left of 64 x 16 and a right of LINES x 16 bf16, by the warpgroup, in the LINES / 2 sums
// from FIRST on. Starts after product_fence; the sums are there after a wait and hold_wide_sums.
template <int LINES, int FIRST>
__device__ __forceinline__ void product_bf16(float (&sums)[WIDE_SUMS], uint64 left, uint64 right) {
    if constexpr (LINES == 8) PRODUCT(8, 4, 4, 5);
    if constexpr (LINES == 16) PRODUCT(16, 8, 8, 9);
    if constexpr (LINES == 24) PRODUCT(24, 12, 12, 13);
    if constexpr (LINES == 32) PRODUCT(32, 16, 16, 17);
    if constexpr (LINES == 40) PRODUCT(40, 20, 20, 21);
    if constexpr (LINES == 48) PRODUCT(48, 24, 24, 25);
    if constexpr (LINES == 56) PRODUCT(56, 28, 28, 29);
    if constexpr (LINES == 64) PRODUCT(64, 32, 32, 33);
    if constexpr (LINES == 72) PRODUCT(72, 36, 36, 37);
    if constexpr (LINES == 80) PRODUCT(80, 40, 40, 41);
    if constexpr (LINES == 88) PRODUCT(88, 44, 44, 45);
    if constexpr (LINES == 96) PRODUCT(96, 48, 48, 49);
    if constexpr (LINES == 104) PRODUCT(104, 52, 52, 53);
    if constexpr (LINES == 112) PRODUCT(112, 56, 56, 57);
    if constexpr (LINES == 120) PRODUCT(120, 60, 60, 61);
    if constexpr (LINES == 128) PRODUCT(128, 64, 64, 65);
}

#else
#include "async_bf16.h"
#endif

#endif
