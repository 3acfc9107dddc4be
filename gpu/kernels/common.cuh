// The names that every kernel is written in, for both machines.
//
// The device gives threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl_up_sync,
// __shfl_xor_sync, __ballot_sync, __match_any_sync, __popc, atomicAdd, atomicMax, __int_as_float, __float_as_int, the
// functions of <cmath> for float, __fmul_rn and __fadd_rn; emulator/simt.h gives the same names on the CPU.
//
//   Global<T>                      an array in device memory; the CPU checks each index against its length
//   Shared<T>                      an array in the memory of a block, checked likewise
//   SHARED_ARRAY(T, name, count)   declares one; count is a constant
//   ALIGNED_SHARED_ARRAY(T, name, count) one aligned to 16 bytes
//   LARGE_SHARED_ARRAY(T, name, count)   one of any size, aligned to 1024 bytes; at most one a kernel, whose launch
//                                        asks for its bytes
//   KERNEL(threads)                begins a kernel that is launched with that many threads a block
//   KERNEL_ALONE(threads)          likewise, one block a multiprocessor
//
// An optional array is a null Global; it converts to false. HOPPER is defined where the instructions of sm_90a are.
#pragma once

#if !defined(__CUDACC__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER
#endif

#ifdef __CUDACC__

using int64 = long long;

template <class T> using Global = T *;
template <class T> using Shared = T *;

#define SHARED_ARRAY(T, name, count) __shared__ T name[count]
#define ALIGNED_SHARED_ARRAY(T, name, count) __shared__ __align__(16) T name[count]
#define LARGE_SHARED_ARRAY(T, name, count) extern __shared__ __align__(1024) T name[]
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)
#define KERNEL_ALONE(threads) extern "C" __global__ void __launch_bounds__(threads, 1)

#else

#include "simt.h"

#define KERNEL(threads) extern "C" void
#define KERNEL_ALONE(threads) extern "C" void

#endif

using uint64 = unsigned long long;

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;

__device__ __forceinline__ int64 smaller(int64 a, int64 b) {
    return a < b ? a : b;
}

__device__ __forceinline__ int64 ceil_div(int64 dividend, int64 divisor) {
    return (dividend + divisor - 1) / divisor;
}

// The place of an id among the experts that are local, those from the id first_expert on; -1 for any other id. Ids of
// local experts are below 2^63, so that an id before the first one is taken for one far beyond the last.
__device__ __forceinline__ int local_expert(int64 id, int64 first_expert, int64 experts) {
    const uint64 place = uint64(id) - uint64(first_expert);
    return place < uint64(experts) ? int(place) : -1;
}

// Index of the thread among all threads of a one-dimensional grid.
__device__ __forceinline__ int64 global_thread() {
    return int64(blockIdx.x) * blockDim.x + threadIdx.x;
}

struct Quad {
    float values[4];
};

// array[index .. index + count), and zeros up to four; at once where they are four and aligned.
__device__ __forceinline__ Quad load_quad(Global<const float> array, int64 index, int64 count) {
#ifdef __CUDACC__
    if (count >= 4 && index % 4 == 0) {
        const float4 loaded = *reinterpret_cast<const float4 *>(array + index);
        return {{loaded.x, loaded.y, loaded.z, loaded.w}};
    }
#endif
    Quad quad;
    for (int i = 0; i < 4; i++) quad.values[i] = i < count ? array[index + i] : 0.0f;
    return quad;
}

// Writes the first `count` of four values to array[index ..), at once where they are four and aligned.
__device__ __forceinline__ void store_quad(Global<float> array, int64 index, int64 count, const Quad &quad) {
#ifdef __CUDACC__
    if (count >= 4 && index % 4 == 0) {
        *reinterpret_cast<float4 *>(array + index) =
            make_float4(quad.values[0], quad.values[1], quad.values[2], quad.values[3]);
        return;
    }
#endif
    for (int i = 0; i < 4 && i < count; i++) array[index + i] = quad.values[i];
}

// array[index .. index + 4) of an aligned array; index is a multiple of four.
__device__ __forceinline__ Quad shared_quad(Shared<const float> array, int index) {
#ifdef __CUDACC__
    const float4 loaded = *reinterpret_cast<const float4 *>(array + index);
    return {{loaded.x, loaded.y, loaded.z, loaded.w}};
#else
    return {{array[index], array[index + 1], array[index + 2], array[index + 3]}};
#endif
}
