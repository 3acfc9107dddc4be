// pack_weights: the matrices of all experts, split for the tensor cores, once.
//
// For each expert e and column n of its matrix [depth, width], with values scaled by the column's power of two:
//
//   packed     the images of the columns as right operands (split.cuh)
//   columns    the inverse scale and the bias of the column
//   norms[e]   bounds from above of |column| in the 2-norm and of |bias|, over the columns
//   exact_experts[e]   1 if a column cannot be split
#include "split.cuh"

#ifdef HOPPER

constexpr int PACK_THREADS = PANEL_COLUMNS;

// Grid: E · ceil(padded width / PANEL_COLUMNS). Block: PACK_THREADS, one thread a column.
//   matrices      [E, depth, width]                            read
//   bias          [E, width]                                   read
//   packed        [E, column tiles, steps, RIGHT_WORDS]        written; zeros beyond depth and width
//   columns       [E, column tiles · PANEL_COLUMNS, 2]         written
//   norms         [E, 2]   f32 >= 0 as their bits              from 0
//   exact_experts [E]                                          from 0
//   weaves        whether the depth is woven, as that of the second product
KERNEL(PACK_THREADS)
pack_weights(Global<const float> matrices, Global<const float> bias, Global<uint64> packed, Global<float> columns,
             Global<int> norms, Global<int> exact_experts, int64 depth, int64 width, int64 column_tiles,
             int64 weaves) {
    wait_for_earlier_kernels();
    const int64 expert = blockIdx.x / column_tiles, column_tile = blockIdx.x % column_tiles;
    const int line = threadIdx.x;
    const int64 column = column_tile * PANEL_COLUMNS + line;
    const bool exists = column < width;
    const int64 first = expert * depth * width + column;

    int largest = 0;
    float squares = 0.0f;
    for (int64 d = 0; exists && d < depth; d++) {
        const float value = matrices[first + d * width];
        if (magnitude(value) > largest) largest = magnitude(value);
        squares += value * value;
    }
    const Scale scale = scale_of(largest);
    int large = 0;
    for (int64 d = 0; exists && d < depth; d++) large += fabsf(matrices[first + d * width] * scale.up) >= LARGE_COLUMN;

    const float own_bias = exists ? bias[expert * width + column] : 0.0f;
    columns[((expert * column_tiles + column_tile) * PANEL_COLUMNS + line) * 2] = scale.down;
    columns[((expert * column_tiles + column_tile) * PANEL_COLUMNS + line) * 2 + 1] = own_bias;
    if (exists) {
        const bool splits = scale.regular && (largest == 0 || 2 * large > depth);
        if (!splits) atomicMax(&exact_experts[expert], 1);
        // 1.001 stands for the roundings of the sum.
        atomicMax(&norms[expert * 2], magnitude(1.001f * sqrtf(squares)));
        atomicMax(&norms[expert * 2 + 1], magnitude(own_bias));
    }

    const int64 steps = steps_of(depth);
    for (int64 step = 0; step < steps; step++) {
        const int64 image = ((expert * column_tiles + column_tile) * steps + step) * RIGHT_WORDS;
        for (int group = 0; group < STEP / 4; group++) {
            float values[4];
            for (int i = 0; i < 4; i++) {
                const int q = group % 4;
                const int64 d = step * STEP + group / 4 * 16 + (weaves ? i * 4 + q : q * 4 + i);
                values[i] = exists && d < depth ? matrices[first + d * width] * scale.up : 0.0f;
            }
            store_split(packed, image, line, group, values);
        }
    }
}

#endif
