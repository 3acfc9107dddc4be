// binned_scatter: for each token t and column h
//
//   output[t, h] = scale · the sum over the slots k, in slot order, of
//                  expert_output[row_of[t·K + k], h] · routing_weights[t, router_indices[t, k] - first_expert]
//
// An assignment without a row (row_of = -1) adds nothing. Each product is rounded, and so is each sum; no atomics, so
// that two runs give the same bits.
#include "ptx.cuh"

constexpr int COMBINE_THREADS = 256;

// Grid: ceil(T · ceil(H / 4) / COMBINE_THREADS). Block: COMBINE_THREADS, one thread four columns of a token.
//   expert_output   [R, H]   read
//   router_indices  [T, K]   read
//   routing_weights [T, E]   read
//   row_of          [T·K]    read
//   output          [T, H]   written
KERNEL(COMBINE_THREADS)
combine(Global<const float> expert_output, Global<const int64> router_indices, Global<const float> routing_weights,
        Global<const int> row_of, Global<float> output, int64 tokens, int64 hidden, int64 experts, int64 top_k,
        int64 first_expert, float scale) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    const int64 quads = ceil_div(hidden, 4);
    const int64 token = global_thread() / quads, column = global_thread() % quads * 4;
    if (token >= tokens) return;

    Quad sum = {{0.0f, 0.0f, 0.0f, 0.0f}};
    for (int64 assignment = token * top_k; assignment < (token + 1) * top_k; assignment++) {
        const int64 row = row_of[assignment];
        if (row < 0) continue;
        const float weight = routing_weights[token * experts + router_indices[assignment] - first_expert];
        const Quad found = load_quad(expert_output, row * hidden + column, hidden - column);
        for (int i = 0; i < 4; i++) sum.values[i] = __fadd_rn(sum.values[i], __fmul_rn(found.values[i], weight));
    }
    for (int i = 0; i < 4; i++) sum.values[i] = __fmul_rn(sum.values[i], scale);
    store_quad(output, token * hidden + column, hidden - column, sum);
}
