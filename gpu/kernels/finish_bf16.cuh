// The end of a tile (epilogue): from its sums to bias, activation and bf16.
//
// A warp has 16 lines of the matrix. A thread has lines m = lane / 4 and m + 8 of them and rows 8j + 2q and
// 8j + 2q + 1, q = lane % 4: sums[4j + 2h + i] is that of line m + 8h and row 8j + 2q + i. Of gate_up, line m is the
// gate and m + 8 the up of one activation. What a row has of a warpgroup is 32 activations or 64 columns of down beside
// one another: they are transposed through a buffer in shared memory, some rows at a time, and neighbouring threads
// write chunks of 16 bytes.
#pragma once
#include "swiglu.cuh"
#include "tiles_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int CONSUMER_WARPS = 3 * WARPGROUP / WARP;
constexpr int GATE_UP_ROWS = 32, DOWN_ROWS = 16;  // transposed at a time
constexpr int BUFFER_BYTES = GATE_UP_ROWS * 64;     // of a warpgroup; as many as DOWN_ROWS * 128
constexpr int BUFFERS = 2;                          // so that one is filled while the other is read
constexpr int FIRST_BUFFER_BARRIER = 1;             // of the named barriers, one a warpgroup

// The second block of sums takes the place of the first.
__device__ __forceinline__ void next_block(float (&sums)[WIDE_SUMS]) {
#pragma unroll
    for (int i = 0; i < BLOCK_SUMS; i++) sums[i] = sums[BLOCK_SUMS + i];
}

// What the tiles of gate_up leave: images of panels, of which the warpgroup has up to 4 chunks from `chunk`
// on.
struct GateUp {
    Global<uint64> activated;
    int first_line, lines;
    int64 k_blocks, chunks, chunk;  // of the depth; chunks beyond the depth are zeros
    int taken;                      // chunks that the tile has from `chunk` on
    float alpha, limit, up_offset;
};

// What the tiles of down leave: rows of H columns, of which the warpgroup has up to 64 from `column` on.
struct Down {
    Global<Bf16> expert_output;
    int first_row;
    int64 hidden, column;
    int taken;  // columns that the tile has from `column` on
};

// Waits until the warpgroup has filled a buffer. Each is filled again only after the next wait.
__device__ __forceinline__ void buffer_wait() {
    group_wait(FIRST_BUFFER_BARRIER + int(threadIdx.x) / WARPGROUP - 1, WARPGROUP);
}

// Both blocks of sums, of `height` rows each, are finished by one copy of the code: the fetch of its instructions
// delays a block's first tile. `bias` is that of the thread's two lines; `buffers` are the warpgroup's.
__device__ __forceinline__ void finish_gate_up(const GateUp &to, Address buffers, int rows, int height,
                                               const float (&bias)[2], float (&sums)[WIDE_SUMS]) {
    const int thread = threadIdx.x % WARPGROUP, lane = thread % WARP, warp = thread / WARP;
    // Chunk c of a row stands at chunk c ^ (row / 2 % 4), to spread them over the banks.
    const Address fills = buffers + lane * 64 + (warp ^ lane / 2 % 4) * 16;
    const Address reads = buffers + thread / 4 * 64 + (thread % 4 ^ thread / 8 % 4) * 16;
    const int64 chunk = to.chunk + thread % 4;
    const bool is_of_tile = thread % 4 < to.taken && chunk < to.k_blocks * (K_BLOCK / CHUNK);
    // Of line thread / 4. A chunk has the same place in lines that are a multiple of 8 apart, as first rows are.
    const int64 word = word_of_image(to.first_line, to.lines, to.k_blocks, thread / 4, chunk);
#pragma unroll 1
    for (int first = 0; first < rows; first += height) {
        const int end = int(smaller(rows, first + height));
#pragma unroll
        for (int group = 0; group < BLOCK_SUMS * 2 / GATE_UP_ROWS; group++) {
            const int first_row = first + group * GATE_UP_ROWS, row = first_row + thread / 4;
            if (first_row >= end) break;
            unsigned activated[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int from = group * GATE_UP_ROWS / 2 + 4 * j;
                float values[2];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    values[i] = clamped_swiglu(sums[from + i] + bias[0], sums[from + 2 + i] + bias[1], to.alpha,
                                               to.limit, to.up_offset);
                activated[j] = to_bf16_pair(values[0], values[1]);
            }
            store_transposed(fills + group % BUFFERS * BUFFER_BYTES, activated);
            buffer_wait();
            if (row < end && is_of_tile) {
                // What the activation makes of zeros need not be a zero.
                const Chunk nothing = {{0, 0}};
                store_chunk(to.activated, word + first_row * LINE_WORDS,
                            chunk < to.chunks ? shared_chunk(reads + group % BUFFERS * BUFFER_BYTES) : nothing);
            }
        }
        if (end < rows) next_block(sums);
        buffer_wait();
    }
}

__device__ __forceinline__ void finish_down(const Down &to, Address buffers, int rows, int height,
                                            const float (&bias)[2], float (&sums)[WIDE_SUMS]) {
    const int thread = threadIdx.x % WARPGROUP, lane = thread % WARP, warp = thread / WARP;
    // Of the four matrices, rows 0 to 7 and lines m, m + 8, then rows 8 to 15 and lines m, m + 8. Chunk c of a row
    // stands at chunk c ^ (row % 8).
    const Address fills = buffers + (lane / 16 * 8 + lane % 8) * 128 + ((warp * 2 + lane / 8 % 2) ^ lane % 8) * 16;
    const Address reads = buffers + thread / 8 * 128 + (thread % 8 ^ thread / 8 % 8) * 16;
    const int64 column = to.column + thread % 8 * CHUNK;
    const bool is_of_tile = thread % 8 * CHUNK < to.taken && column < to.hidden;
#pragma unroll 1
    for (int first = 0; first < rows; first += height) {
        const int end = int(smaller(rows, first + height));
#pragma unroll
        for (int group = 0; group < BLOCK_SUMS * 2 / DOWN_ROWS; group++) {
            const int first_row = first + group * DOWN_ROWS, row = first_row + thread / 8;
            if (first_row >= end) break;
            unsigned output[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int from = group * DOWN_ROWS / 2 + 4 * (i / 2) + 2 * (i % 2);
                output[i] = to_bf16_pair(sums[from] + bias[i % 2], sums[from + 1] + bias[i % 2]);
            }
            store_transposed(fills + group % BUFFERS * BUFFER_BYTES, output);
            buffer_wait();
            if (row < end && is_of_tile)
                store_chunk(to.expert_output, (to.first_row + row) * to.hidden + column,
                            shared_chunk(reads + group % BUFFERS * BUFFER_BYTES));
        }
        if (end < rows) next_block(sums);
        buffer_wait();
    }
}

}  // namespace bf16

#endif
