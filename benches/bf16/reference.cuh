// Random values, and the definition of the function as a slow kernel.
#pragma once
#include "ptx_bf16.cuh"

namespace bf16 {

__device__ __forceinline__ Bf16 to_bf16(float value) {
    return Bf16(to_bf16_pair(value, 0.0f) & 0xffff);
}

__device__ __forceinline__ unsigned hash(unsigned i) {
    i ^= i >> 16;
    i *= 0x7feb352du;
    i ^= i >> 15;
    i *= 0x846ca68bu;
    return i ^ i >> 16;
}

// About normal, with this deviation: the sum of four uniform values.
__device__ __forceinline__ float random_value(unsigned i, float deviation) {
    const unsigned first = hash(i), second = hash(first + 0x9e3779b9u);
    const unsigned sum = (first & 0xffff) + (first >> 16) + (second & 0xffff) + (second >> 16);
    return (float(sum) * (1.0f / 65536) - 2.0f) * 1.732f * deviation;
}

// Grid and block: any.
__global__ void fill_randomly(Bf16 *values, int64 count, unsigned seed, float deviation) {
    for (int64 i = global_thread(); i < count; i += int64(gridDim.x) * blockDim.x)
        values[i] = to_bf16(random_value(unsigned(i) * 2654435761u + unsigned(i >> 32) * 97u + seed, deviation));
}

// output[i] of the token listed[i], in f64 but for the two roundings to bf16 that the kernels have as well: those of
// activated and of expert_output.
//
// Grid: one block for each token listed. Block: any.
//   is_kept    [T, K]             read; 0 for a dropped assignment
//   activated  [listed, I]        written and read
//   output     [listed, H]        written
__global__ void reference(const Bf16 *hidden_states, const int64 *router_indices, const int *is_kept,
                          const Bf16 *routing_weights, const Bf16 *gate_up_proj, const Bf16 *gate_up_bias,
                          const Bf16 *down_proj, const Bf16 *down_bias, const int *listed, float *activated,
                          double *output, int64 hidden, int64 intermediate, int64 experts, int64 top_k, float alpha,
                          float limit) {
    const int64 token = listed[blockIdx.x];
    activated += blockIdx.x * intermediate;
    output += blockIdx.x * hidden;
    for (int64 h = threadIdx.x; h < hidden; h += blockDim.x) output[h] = 0;
    for (int64 assignment = token * top_k; assignment < (token + 1) * top_k; assignment++) {
        if (!is_kept[assignment]) continue;
        const int64 expert = router_indices[assignment];
        __syncthreads();
        for (int64 i = threadIdx.x; i < intermediate; i += blockDim.x) {
            const Bf16 *columns = gate_up_proj + expert * hidden * 2 * intermediate + 2 * i;
            const Bf16 *biases = gate_up_bias + expert * 2 * intermediate + 2 * i;
            double gate = from_bf16(biases[0]), up = from_bf16(biases[1]);
            for (int64 h = 0; h < hidden; h++) {
                const double x = from_bf16(hidden_states[token * hidden + h]);
                gate += x * from_bf16(columns[h * 2 * intermediate]);
                up += x * from_bf16(columns[h * 2 * intermediate + 1]);
            }
            gate = fmin(gate, double(limit));
            up = fmin(fmax(up, -double(limit)), double(limit));
            activated[i] = from_bf16(to_bf16(float((up + 1) * (gate / (1 + exp(-alpha * gate))))));
        }
        __syncthreads();
        const double weight = from_bf16(routing_weights[token * experts + expert]);
        for (int64 h = threadIdx.x; h < hidden; h += blockDim.x) {
            double sum = from_bf16(down_bias[expert * hidden + h]);
            for (int64 i = 0; i < intermediate; i++)
                sum += double(activated[i]) * from_bf16(down_proj[(expert * intermediate + i) * hidden + h]);
            output[h] += weight * from_bf16(to_bf16(float(sum)));
        }
    }
}

}  // namespace bf16
