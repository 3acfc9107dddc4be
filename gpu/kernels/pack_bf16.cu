// pack_weights_bf16: the matrices of all experts as the tensor cores read them, once.
//
// The columns of an expert's matrix [depth, width] become lines along the depth, MATRIX_LINES a tile. A tile has one
// image for each k-block of the depth: lines of 128 bytes in chunks of 16, of which chunk c of line l stands at chunk
// c ^ (l % 8), the swizzle of 128 bytes. Of gate_up, 16 lines are the gates of 8 activations and then their ups, so
// that one thread has both.
#include "tiles_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int PACK_THREADS = 256;
constexpr int PACK_PITCH = K_BLOCK + 2;  // spreads the lines over the banks

// The column of the matrix that is this line of a tile.
__device__ __forceinline__ int64 column_of(int64 tile, int line, bool pairs) {
    const int64 column = tile * MATRIX_LINES + line;
    return pairs ? column / 16 * 16 + column % 8 * 2 + column / 8 % 2 : column;
}

// Grid: E · line_tiles · k_blocks. Block: PACK_THREADS.
//   matrices [E, depth, width]                          read
//   bias     [E, width]                                 read
//   packed   [E, line_tiles, k_blocks, MATRIX_WORDS]    written; zeros beyond depth and width
//   biases   [E, line_tiles · MATRIX_LINES]             written
//   pairs    whether columns 2a and 2a + 1 are the gate and the up of activation a
KERNEL(PACK_THREADS)
pack_weights_bf16(Global<const Bf16> matrices, Global<const Bf16> bias, Global<uint64> packed,
                  Global<float> biases, int64 depth, int64 width, int64 line_tiles, int64 pairs) {
    wait_for_earlier_kernels();
    ALIGNED_SHARED_ARRAY(Bf16, lines, MATRIX_LINES * PACK_PITCH);
    const int64 k_blocks = ceil_div(depth, K_BLOCK), image = blockIdx.x;
    const int64 k_block = image % k_blocks, of_all = image / k_blocks;
    const int64 tile = of_all % line_tiles, expert = of_all / line_tiles;
    const int64 first = expert * depth * width;
    for (int i = threadIdx.x; i < K_BLOCK * MATRIX_LINES; i += PACK_THREADS) {
        // Neighbours read neighbouring columns.
        const int line = i % MATRIX_LINES, d = i / MATRIX_LINES;
        const int64 column = tile * MATRIX_LINES + line, at = k_block * K_BLOCK + d;
        const int place = pairs ? line / 16 * 16 + line % 2 * 8 + line % 16 / 2 : line;
        lines[place * PACK_PITCH + d] = column < width && at < depth ? matrices[first + at * width + column] : Bf16(0);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < MATRIX_LINES * K_BLOCK / CHUNK; i += PACK_THREADS) {
        const int line = i / 8, chunk = i % 8;
        Chunk values = {{0, 0}};
        for (int j = 0; j < CHUNK; j++)
            values.words[j / 4] |= uint64(lines[line * PACK_PITCH + chunk * CHUNK + j]) << j % 4 * 16;
        store_chunk(packed, image * MATRIX_WORDS + line * LINE_WORDS + (chunk ^ line % 8) * CHUNK_WORDS, values);
    }
    if (k_block != 0) return;
    for (int line = threadIdx.x; line < MATRIX_LINES; line += PACK_THREADS) {
        const int64 column = column_of(tile, line, pairs != 0);
        biases[of_all * MATRIX_LINES + line] = column < width ? from_bf16(bias[expert * width + column]) : 0.0f;
    }
}

}  // namespace bf16

#endif
