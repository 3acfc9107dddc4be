// The names that every kernel is written in, for both machines.
//
// The device gives threadIdx, blockIdx, blockDim, gridDim, __syncthreads, __syncwarp, __shfl_up_sync,
// __match_any_sync, __popc, atomicAdd, expf, __fmul_rn and __fadd_rn; host/simt.h gives the same names on the CPU.
//
//   Global<T>                      an array in device memory; the CPU checks each index against its length
//   Shared<T>                      an array in the memory of a block, checked likewise
//   SHARED_ARRAY(T, name, count)   declares one; count is a constant
//   KERNEL(threads)                begins a kernel that is launched with that many threads a block
//
// An optional array is a null Global; it converts to false.
#pragma once

#ifdef __CUDACC__

using int64 = long long;

template <class T> using Global = T *;
template <class T> using Shared = T *;

#define SHARED_ARRAY(T, name, count) __shared__ T name[count]
#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

#else

#include "simt.h"

#define KERNEL(threads) extern "C" void

#endif

constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int WARP = 32;

__device__ __forceinline__ int64 smaller(int64 a, int64 b) {
    return a < b ? a : b;
}

__device__ __forceinline__ int64 ceil_div(int64 dividend, int64 divisor) {
    return (dividend + divisor - 1) / divisor;
}

// Index of the thread among all threads of a one-dimensional grid.
__device__ __forceinline__ int64 global_thread() {
    return int64(blockIdx.x) * blockDim.x + threadIdx.x;
}
