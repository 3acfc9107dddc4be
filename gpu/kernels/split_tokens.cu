// split_tokens: the gather, split for the tensor cores, and what the rows need further on.
//
// For each token with x = hidden_states[t] scaled by the row's power of two, and each row r of it that an expert e keeps:
//
//   packed         the line of x in the images of its panel (split.cuh)
//   row_scales     the inverse scale of x, and the scale of the row's activations
//   fallback_rows  1 + r: 1 if the row cannot be split or its expert cannot
//
// The activations' scale is chosen before they are known, from a bound: by Cauchy and Schwarz no gate or up exceeds
// b = |x| · |column| + |bias|, so with m = min(b, limit) an activation stays below (m + up_offset) · max(m, v),
// where v = min(b, 0.2785 / alpha) bounds |gate · sigmoid(alpha · gate)| for negative gates. NaN and infinity give no
// bound.
#include "split.cuh"

#ifdef HOPPER

constexpr int SPLIT_THREADS = 128;

// The largest value over the block.
__device__ __forceinline__ int block_largest(int value, Shared<int> of_warps) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int other = __shfl_xor_sync(ALL_LANES, value, lanes);
        if (other > value) value = other;
    }
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = value;
    __syncthreads();
    for (int warp = 0; warp < SPLIT_THREADS / WARP; warp++)
        if (of_warps[warp] > value) value = of_warps[warp];
    return value;
}

// The sum over the block.
template <class T>
__device__ __forceinline__ T block_sum(T value, Shared<T> of_warps) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) value += __shfl_xor_sync(ALL_LANES, value, lanes);
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = value;
    __syncthreads();
    T sum = 0;
    for (int warp = 0; warp < SPLIT_THREADS / WARP; warp++) sum += of_warps[warp];
    return sum;
}

// A bound of |activated| for a bound of |gate| and |up|; infinite where there is none.
__device__ __forceinline__ float activation_bound(float bound, float alpha, float limit, float up_offset) {
    if (!(limit >= 0.0f && bound >= 0.0f)) return __int_as_float(0x7f800000);
    const float clamped = fminf(bound, limit);
    const float negative = alpha > 0.0f ? fminf(bound, 0.2785f / alpha) : bound;
    return 1.01f * (clamped + up_offset) * fmaxf(clamped, negative);
}

// Grid: T. Block: SPLIT_THREADS, one block a token.
//   hidden_states    [T, H]                            read
//   router_indices   [T·K]                             read
//   row_of           [T·K]                             read
//   row_starts       [E + 1]                           read
//   panel_starts     [E + 1]                           read
//   norms            [E, 2]   from pack_weights        read
//   fallback_experts [E]      from pack_weights        read
//   packed           [panels, k_blocks, LEFT_WORDS]    written, the lines of rows
//   row_scales       [R, 2]                            written
//   fallback_rows    [1 + R]                           written
//   large_counts     [R]                               written: 0
//   progress         [progress_words]                  written: 0
KERNEL(SPLIT_THREADS)
split_tokens(Global<const float> hidden_states, Global<const int64> router_indices, Global<const int> row_of,
             Global<const int> row_starts, Global<const int> panel_starts, Global<const float> norms,
             Global<const int> fallback_experts, Global<uint64> packed, Global<float> row_scales,
             Global<int> fallback_rows, Global<int> large_counts, Global<int> progress, int64 hidden, int64 top_k,
             int64 first_expert, int64 progress_words, float alpha, float limit, float up_offset) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    SHARED_ARRAY(int, largest_of_warps, SPLIT_THREADS / WARP);
    SHARED_ARRAY(int, large_of_warps, SPLIT_THREADS / WARP);
    SHARED_ARRAY(float, squares_of_warps, SPLIT_THREADS / WARP);
    const int64 token = blockIdx.x, first = token * hidden;
    if (token == 0) {
        for (int64 i = threadIdx.x; i < progress_words; i += SPLIT_THREADS) progress[i] = 0;
        if (threadIdx.x == 0) fallback_rows[0] = 0;
    }

    int largest = 0;
    float squares = 0.0f;
    for (int64 h = threadIdx.x * 4; h < hidden; h += SPLIT_THREADS * 4) {
        const Quad x = load_quad(hidden_states, first + h, hidden - h);
        for (int i = 0; i < 4; i++) {
            if (magnitude(x.values[i]) > largest) largest = magnitude(x.values[i]);
            squares += x.values[i] * x.values[i];
        }
    }
    largest = block_largest(largest, largest_of_warps);
    squares = block_sum(squares, squares_of_warps);
    const Scale scale = scale_of(largest);
    int large = 0;
    for (int64 h = threadIdx.x * 4; h < hidden; h += SPLIT_THREADS * 4) {
        const Quad x = load_quad(hidden_states, first + h, hidden - h);
        for (int i = 0; i < 4; i++) large += fabsf(x.values[i] * scale.factor) >= LARGE_ROW;
    }
    large = block_sum(large, large_of_warps);
    const bool splits = scale.regular && (largest == 0 || 2 * large > hidden);

    const int64 k_blocks = k_blocks_of(hidden);
    for (int64 assignment = token * top_k; assignment < (token + 1) * top_k; assignment++) {
        const int64 row = row_of[assignment];
        if (row < 0) continue;
        const int64 expert = router_indices[assignment] - first_expert;
        const int64 of_expert = row - row_starts[expert];
        const int line = int(of_expert % PANEL_ROWS);
        const int64 images = (panel_starts[expert] + of_expert / PANEL_ROWS) * k_blocks;
        for (int64 group = threadIdx.x; group < k_blocks * (K_BLOCK / 4); group += SPLIT_THREADS) {
            Quad x = load_quad(hidden_states, first + group * 4, hidden - group * 4);
            for (int i = 0; i < 4; i++) x.values[i] *= scale.factor;
            const int64 image = (images + group / (K_BLOCK / 4)) * LEFT_WORDS;
            store_split(packed, image, line, int(group % (K_BLOCK / 4)), x.values);
        }
        if (threadIdx.x != 0) continue;
        const float bound = 1.001f * sqrtf(squares) * norms[expert * 2] + norms[expert * 2 + 1];
        const float activated = activation_bound(bound, alpha, limit, up_offset);
        // A bound near 0 needs no scale of its own.
        const Scale next = scale_of(magnitude(fmaxf(activated, 1e-18f)));
        row_scales[row * 2] = scale.inverse;
        row_scales[row * 2 + 1] = next.factor;
        fallback_rows[1 + row] = !splits || !(activated <= 1e18f) || fallback_experts[expert] != 0;
        large_counts[row] = 0;
    }
}

// Completes fallback_rows for the fallback kernels: a row whose activations cannot be split is one as well. They do not
// start before it ends; otherwise their blocks would crowd on the multiprocessors where `experts` ends first.
//
// Grid: ceil(bound of R / SPLIT_THREADS). Block: SPLIT_THREADS, one thread a row.
//   row_starts    [E + 1]   read
//   large_counts  [R]       read
//   fallback_rows [1 + R]   read and written
KERNEL(SPLIT_THREADS)
mark_fallback_rows(Global<const int> row_starts, Global<const int> large_counts, Global<int> fallback_rows,
                int64 intermediate, int64 experts) {
    wait_for_earlier_kernels();
    const int64 row = global_thread();
    if (row >= row_starts[experts]) return;
    if (2 * int64(large_counts[row]) <= intermediate) fallback_rows[1 + row] = 1;
    if (fallback_rows[1 + row]) atomicAdd(&fallback_rows[0], 1);
}

#endif
