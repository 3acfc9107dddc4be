// pack_weights: the matrices of all experts, split for the tensor cores, once.
//
// For each expert e and column n of its matrix [depth, width], with values scaled by the column's power of two:
//
//   packed               the images of the columns as right operands (split.cuh)
//   columns              the inverse scale and the bias of the column
//   norms[e]             upper bounds of |column| in the 2-norm and of |bias|, over the columns
//   fallback_experts[e]  1 if a column cannot be split
#include "split.cuh"

#ifdef HOPPER

constexpr int PACK_COLUMNS = 64;  // a block
constexpr int PACK_PARTS = 8;     // of the depth, at most
constexpr int PACK_THREADS = PACK_COLUMNS * PACK_PARTS;

static_assert(PANEL_COLUMNS % PACK_COLUMNS == 0, "the columns of a block are in one image");

// A block of parts() · PACK_COLUMNS threads shares its columns: thread part · PACK_COLUMNS + c has every parts()-th depth
// of column c.
__device__ __forceinline__ int parts() {
    return int(blockDim.x) / PACK_COLUMNS;
}

// What another part's thread of the same column has stored.
template <class T>
__device__ __forceinline__ T of_part(Shared<T> put_down, int part) {
    return put_down[part * PACK_COLUMNS + int(threadIdx.x) % PACK_COLUMNS];
}

// Grid: E · column tiles · PANEL_COLUMNS / PACK_COLUMNS. Block: PACK_COLUMNS for each part of the depth.
//   matrices         [E, depth, width]                         read
//   bias             [E, width]                                read
//   packed           [E, column tiles, k_blocks, RIGHT_WORDS]  written; zeros beyond depth and width
//   columns          [E, column tiles · PANEL_COLUMNS, 2]      written
//   norms            [E, 2]   f32 >= 0 as their bits           from 0; null where no kernel asks for them
//   fallback_experts [E]                                       from 0
//   permutes         whether the depth is permuted, as that of the second product
KERNEL(PACK_THREADS)
pack_weights(Global<const float> matrices, Global<const float> bias, Global<uint64> packed, Global<float> columns,
             Global<int> norms, Global<int> fallback_experts, int64 depth, int64 width, int64 column_tiles,
             int64 permutes) {
    wait_for_earlier_kernels();
    SHARED_ARRAY(int, largest_of_parts, PACK_THREADS);
    SHARED_ARRAY(float, squares_of_parts, PACK_THREADS);
    SHARED_ARRAY(int, large_of_parts, PACK_THREADS);
    const int part = int(threadIdx.x) / PACK_COLUMNS;
    const int64 packed_column = int64(blockIdx.x) * PACK_COLUMNS + threadIdx.x % PACK_COLUMNS;  // of all experts
    const int64 tile = packed_column / PANEL_COLUMNS, expert = tile / column_tiles;
    const int line = int(packed_column % PANEL_COLUMNS);
    const int64 column = tile % column_tiles * PANEL_COLUMNS + line;
    const bool exists = column < width;
    const int64 first = expert * depth * width + column;

    int largest = 0;
    float squares = 0.0f;
    for (int64 d = part; exists && d < depth; d += parts()) {
        const float value = matrices[first + d * width];
        if (magnitude(value) > largest) largest = magnitude(value);
        squares += value * value;
    }
    largest_of_parts[threadIdx.x] = largest;
    squares_of_parts[threadIdx.x] = squares;
    __syncthreads();
    squares = 0.0f;
    for (int other = 0; other < parts(); other++) {
        if (of_part(largest_of_parts, other) > largest) largest = of_part(largest_of_parts, other);
        squares += of_part(squares_of_parts, other);
    }
    const Scale scale = scale_of(largest);
    int large = 0;
    for (int64 d = part; exists && d < depth; d += parts())
        large += fabsf(matrices[first + d * width] * scale.factor) >= LARGE_COLUMN;
    large_of_parts[threadIdx.x] = large;
    __syncthreads();

    if (part == 0) {
        large = 0;
        for (int other = 0; other < parts(); other++) large += of_part(large_of_parts, other);
        const float own_bias = exists ? bias[expert * width + column] : 0.0f;
        columns[packed_column * 2] = scale.inverse;
        columns[packed_column * 2 + 1] = own_bias;
        if (exists) {
            const bool splits = scale.regular && (largest == 0 || 2 * large > depth);
            if (!splits) atomicMax(&fallback_experts[expert], 1);
        }
        if (exists && norms) {
            // 1.001 stands for the roundings of the sum.
            atomicMax(&norms[expert * 2], magnitude(1.001f * sqrtf(squares)));
            atomicMax(&norms[expert * 2 + 1], magnitude(own_bias));
        }
    }

    const int64 k_blocks = k_blocks_of(depth);
    for (int64 k_block = part; k_block < k_blocks; k_block += parts()) {
        const int64 image = (tile * k_blocks + k_block) * RIGHT_WORDS;
        for (int group = 0; group < K_BLOCK / 4; group++) {
            float values[4];
            for (int i = 0; i < 4; i++) {
                const int q = group % 4;
                const int64 d = k_block * K_BLOCK + group / 4 * 16 + (permutes ? i * 4 + q : q * 4 + i);
                values[i] = exists && d < depth ? matrices[first + d * width] * scale.factor : 0.0f;
            }
            store_split(packed, image, line, group, values);
        }
    }
}

#endif
