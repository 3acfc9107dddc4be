// binned_scatter in bf16: for each token t and column h
//
//   output[t, h] = bf16(scale · the sum over the slots k, in slot order, of
//                       expert_output[row_of[t·K + k], h] · routing_weights[t, router_indices[t, k] - first_expert])
//
// in f32, each product and each sum rounded. An assignment without a row (row_of = -1) adds nothing. No atomics, so
// that two runs give the same bits.
#include "ptx_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int COMBINE_THREADS = 256;
constexpr int SLOTS_AT_ONCE = 2;  // whose loads are under way together

// Grid: ceil(T · H / 8 / COMBINE_THREADS). Block: COMBINE_THREADS, one thread 8 columns of a token.
//   expert_output   [R, H]              read
//   router_indices  [T, K]              read
//   routing_weights [T, E]              read
//   row_of          [T·K]               read
//   output          [T, H]              written
// Requirements: H is a multiple of 8.
KERNEL(COMBINE_THREADS)
combine_bf16(Global<const Bf16> expert_output, Global<const int64> router_indices, Global<const Bf16> routing_weights,
             Global<const int> row_of, Global<Bf16> output, int64 tokens, int64 hidden, int64 experts, int64 top_k,
             int64 first_expert, float scale) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    const int64 chunks = hidden / CHUNK;
    const int64 token = global_thread() / chunks, column = global_thread() % chunks * CHUNK;
    if (token >= tokens) return;

    float sums[CHUNK] = {};
    for (int64 first = 0; first < top_k; first += SLOTS_AT_ONCE) {
        int rows[SLOTS_AT_ONCE], local_experts[SLOTS_AT_ONCE];
        float weights[SLOTS_AT_ONCE];
        Chunk found[SLOTS_AT_ONCE];
#pragma unroll
        for (int i = 0; i < SLOTS_AT_ONCE; i++) {
            const int64 assignment = token * top_k + first + i;
            rows[i] = first + i < top_k ? row_of[assignment] : -1;
            local_experts[i] = first + i < top_k ? int(router_indices[assignment] - first_expert) : 0;
        }
#pragma unroll
        for (int i = 0; i < SLOTS_AT_ONCE; i++) {
            if (rows[i] < 0) continue;
            weights[i] = from_bf16(routing_weights[token * experts + local_experts[i]]);
            found[i] = load_chunk(expert_output, int64(rows[i]) * hidden + column);
        }
#pragma unroll
        for (int i = 0; i < SLOTS_AT_ONCE; i++) {
            if (rows[i] < 0) continue;
            for (int j = 0; j < CHUNK; j++) {
                const float value = from_bf16(Bf16(found[i].words[j / 4] >> j % 4 * 16));
                sums[j] = __fadd_rn(sums[j], __fmul_rn(value, weights[i]));
            }
        }
    }
    Chunk sum = {{0, 0}};
    for (int i = 0; i < CHUNK; i++) sums[i] = __fmul_rn(sums[i], scale);
    for (int i = 0; i < CHUNK; i += 2)
        sum.words[i / 4] |= uint64(to_bf16_pair(sums[i], sums[i + 1])) << i % 4 * 16;
    store_chunk(output, token * hidden + column, sum);
}

}  // namespace bf16

#endif
