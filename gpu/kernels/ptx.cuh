// The instructions that CUDA C++ has no name for, one function each: with ptx_bf16.cuh the only inline assembly here.
// emulator/async.h gives the same functions on the CPU.
//
// Barriers in shared memory and the tiles that the tensor cores read are named by their addresses there (Address).
#pragma once
#include "common.cuh"

#ifdef __CUDACC__

// Where the device can start a kernel before the one ahead of it in the stream has ended: waits until everything that
// the earlier ones wrote is there. Each kernel begins with it, but for experts_bf16 where it counts assignments.
__device__ __forceinline__ void wait_for_earlier_kernels() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Lets the next kernel start, once all blocks of this one have called it or ended. Its blocks wait on the same
// multiprocessors, so a long kernel that needs their memory does not call it; and they crowd on those that come free
// first, so neither does the kernel before one whose blocks each take a fixed share of the work.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// The smaller of the two; NaN if either is NaN.
__device__ __forceinline__ float at_most(float value, float upper) {
#if __CUDA_ARCH__ >= 800
    float least;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(value), "f"(upper));
    return least;
#else
    return value <= upper || value != value ? value : upper;
#endif
}

// The larger of the two; NaN if either is NaN.
__device__ __forceinline__ float at_least(float value, float lower) {
#if __CUDA_ARCH__ >= 800
    float most;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(value), "f"(lower));
    return most;
#else
    return value >= lower || value != value ? value : lower;
#endif
}

// 2^x to a few units in the last place; 0 below 2^-126.
__device__ __forceinline__ float fast_exp2(float x) {
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
}

// 1 / x to a few units in the last place; 0 for x beyond 2^126.
__device__ __forceinline__ float fast_reciprocal(float x) {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
    return reciprocal;
}

#endif

#ifdef HOPPER

using Address = unsigned;

constexpr int WARPGROUP = 128;
constexpr int PRODUCT_SUMS = 96;  // sums a thread of a product of 64 x 192

#ifdef __CUDACC__

__device__ __forceinline__ Address shared_address(const void *array) {
    return Address(__cvta_generic_to_shared(array));
}

// A barrier for so many arrivals a phase. Other threads and copies see it after barrier_init_fence and __syncthreads.
__device__ __forceinline__ void barrier_init(Address barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(Address barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives; the phase ends only when so many bytes have been copied as well.
__device__ __forceinline__ void barrier_arrive_expecting(Address barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Waits until the phase of this parity has ended.
__device__ __forceinline__ void barrier_wait(Address barrier, unsigned parity) {
    unsigned ended;
    do {
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
            : "=r"(ended)
            : "r"(barrier), "r"(parity)
            : "memory");
    } while (!ended);
}

// Copies source[first .. first + words) to shared memory, and counts the bytes at the barrier when they are there.
__device__ __forceinline__ void bulk_copy(Address target, Global<const uint64> source, int64 first, unsigned words,
                                          Address barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
                 "l"(source + first), "r"(words * 8), "r"(barrier)
                 : "memory");
}

// What this thread wrote to global memory is there for the bulk copies of other blocks once they see a signal that
// follows.
__device__ __forceinline__ void publish() {
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

// What this thread wrote before comes before what any thread does that learns of what this one does next.
__device__ __forceinline__ void fence() {
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// Counts up once. What this thread wrote, and what others wrote that it has met, is there for whoever sees the count.
__device__ __forceinline__ void signal(Global<int> counters, int64 index) {
    asm volatile("red.release.gpu.global.add.s32 [%0], 1;" ::"l"(counters + index) : "memory");
}

// As signal, and the count before; what was there before those signals is there for this thread.
__device__ __forceinline__ int signal_and_count(Global<int> counters, int64 index) {
    int before;
    asm volatile("atom.acq_rel.gpu.global.add.s32 %0, [%1], 1;" : "=r"(before) : "l"(counters + index) : "memory");
    return before;
}

// Waits until a counter has reached `count`; what was published before its signals can then be copied.
__device__ __forceinline__ void wait_for_signals(Global<int> counters, int64 index, int count) {
    int found;
    do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(found) : "l"(counters + index) : "memory");
    } while (found < count);
    asm volatile("fence.proxy.async.global;" ::: "memory");
}

// Leaves four floats for other blocks, which read them with left_quad once they see a signal that follows. The index is
// a multiple of four.
__device__ __forceinline__ void leave_quad(Global<float> array, int64 index, const Quad &quad) {
    *reinterpret_cast<float4 *>(array + index) =
        make_float4(quad.values[0], quad.values[1], quad.values[2], quad.values[3]);
}

__device__ __forceinline__ Quad left_quad(Global<float> array, int64 index) {
    const float4 loaded = *reinterpret_cast<const float4 *>(array + index);
    return {{loaded.x, loaded.y, loaded.z, loaded.w}};
}

// Barrier `id` of the block for `threads` threads, some of which only arrive.
__device__ __forceinline__ void group_arrive(int id, int threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void group_wait(int id, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The registers of each thread of the warpgroup from here on.
template <int COUNT>
__device__ __forceinline__ void release_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}

template <int COUNT>
__device__ __forceinline__ void claim_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

#define SUMS_8(sums, i)                                                                                          \
    "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), "+f"(sums[i + 5]), \
        "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define SUMS_96(sums)                                                                                          \
    SUMS_8(sums, 0), SUMS_8(sums, 8), SUMS_8(sums, 16), SUMS_8(sums, 24), SUMS_8(sums, 32), SUMS_8(sums, 40),  \
        SUMS_8(sums, 48), SUMS_8(sums, 56), SUMS_8(sums, 64), SUMS_8(sums, 72), SUMS_8(sums, 80), SUMS_8(sums, 88)

// sums = left · rightᵀ + (adds ? sums : 0) for a left of 64 x 16 and a right of 192 x 16 f16, by the warpgroup. Starts
// after product_fence; the sums are there after products_wait and hold_sums.
__device__ __forceinline__ void product_64x192x16(float (&sums)[PRODUCT_SUMS], uint64 left, uint64 right, bool adds) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.f16.f16 {"
        "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
        "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
        "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,"
        "%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}, "
        "%96, %97, p, 1, 1, 0, 0;\n}"
        : SUMS_96(sums)
        : "l"(left), "l"(right), "r"(int(adds)));
}

__device__ __forceinline__ void product_fence() {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void products_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Waits for every product that was committed.
__device__ __forceinline__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
}

// Keeps reads of the sums below the wait.
__device__ __forceinline__ void hold_sums(float (&sums)[PRODUCT_SUMS]) {
    asm volatile("" : SUMS_96(sums)::"memory");
}

// Two floats rounded to f16, the first in the low half.
__device__ __forceinline__ unsigned to_halves(float first, float second) {
    unsigned halves;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(halves) : "f"(second), "f"(first));
    return halves;
}

__device__ __forceinline__ float first_half(unsigned halves) {
    float value;
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %1;\ncvt.f32.f16 %0, low;\n}" : "=f"(value) : "r"(halves));
    return value;
}

__device__ __forceinline__ float second_half(unsigned halves) {
    return first_half(halves >> 16);
}

// Writes array[index] and array[index + 1], at once where the index is even.
__device__ __forceinline__ void store_pair(Global<float> array, int64 index, float first, float second) {
    if (index % 2 == 0) {
        *reinterpret_cast<float2 *>(array + index) = make_float2(first, second);
    } else {
        array[index] = first;
        array[index + 1] = second;
    }
}

#else
#include "async.h"
#endif

#endif
