// From the sums of a tile to what its product leaves: bias, activation, and bf16.
//
// A warp has 16 lines of the matrix. A thread has lines m = lane / 4 and m + 8 of them and rows 8j + 2q and 8j + 2q + 1,
// q = lane % 4: sums[4j + 2h + i] is that of line m + 8h and row 8j + 2q + i. Of gate_up, line m is the gate and m + 8
// the up of one activation. What a row has of a warp is 8 activations or 16 columns of down beside one another: they are
// turned in shared memory, and written 16 bytes at a time.
#pragma once
#include "tiles_bf16.cuh"
#include "swiglu.cuh"

#ifdef HOPPER

constexpr int CONSUMER_WARPS = 3 * WARPGROUP / WARP;
constexpr int GROUP_ROWS = 32;                      // finished at a time
constexpr int GROUP_SUMS = GROUP_ROWS / 2;
constexpr int TURN_BYTES = GROUP_ROWS * CHUNK * 2;  // a warp

// The second block of sums takes the place of the first.
__device__ __forceinline__ void next_block(float (&sums)[WIDE_SUMS]) {
#pragma unroll
    for (int i = 0; i < BLOCK_SUMS; i++) sums[i] = sums[BLOCK_SUMS + i];
}

// The lane's chunk of what stands in `turn`.
__device__ __forceinline__ Chunk turned(Address turn) {
    return shared_chunk(turn + threadIdx.x % WARP * CHUNK * 2);
}

// What the tiles of gate_up leave: images of panels, in chunks of 8 activations.
struct GateUp {
    Global<Bf16> activated;
    int first_line, lines;
    int64 steps, chunk;  // of the depth; the warp's chunk
    float alpha, limit;
};

// What the tiles of down leave: rows of H columns, of which the warp has those from `column` on.
struct Down {
    Global<Bf16> expert_output;
    int first_row;
    int64 hidden, column;
};

// Both blocks of sums, of `height` rows each, are finished by code that stands there once: a block has to fetch it
// before its first tile ends. `bias` is that of the thread's two lines.
__device__ __forceinline__ void finish_gate_up(const GateUp &to, Address turn, int rows, int height,
                                               const float (&bias)[2], float (&sums)[WIDE_SUMS]) {
    const int lane = threadIdx.x % WARP;
#pragma unroll 1
    for (int first = 0; first < rows; first += height) {
        const int end = int(smaller(rows, first + height));
#pragma unroll
        for (int group = 0; group < BLOCK_SUMS / GROUP_SUMS; group++) {
            const int row = first + group * GROUP_ROWS + lane;
            if (row - lane >= end) break;
            unsigned activated[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const int from = group * GROUP_SUMS + 4 * j;
                float values[2];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    values[i] =
                        clamped_swiglu(sums[from + i] + bias[0], sums[from + 2 + i] + bias[1], to.alpha, to.limit);
                activated[j] = to_bf16_pair(values[0], values[1]);
            }
            __syncwarp();
            store_transposed(turn + lane * CHUNK * 2, activated);
            __syncwarp();
            if (row < end && to.chunk < to.steps * (STEP_DEPTH / CHUNK))
                store_chunk(to.activated, chunk_of_image(to.first_line, to.lines, to.steps, row, to.chunk),
                            turned(turn));
        }
        next_block(sums);
    }
}

__device__ __forceinline__ void finish_down(const Down &to, Address turn, int rows, int height, const float (&bias)[2],
                                            float (&sums)[WIDE_SUMS]) {
    const int lane = threadIdx.x % WARP;
    // Of the four matrices, rows 0 to 7 and lines m, m + 8, then rows 8 to 15 and lines m, m + 8; a row has two chunks.
    const int place = (lane / 16 * 8 + lane % 8) * 2 + lane / 8 % 2;
    const int64 column = to.column + lane % 2 * CHUNK;
#pragma unroll 1
    for (int first = 0; first < rows; first += height) {
        const int end = int(smaller(rows, first + height));
#pragma unroll
        for (int group = 0; group < BLOCK_SUMS / GROUP_SUMS * 2; group++) {
            const int row = first + group * (GROUP_ROWS / 2) + lane / 2;
            if (row - lane / 2 >= end) break;
            unsigned output[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int from = group * (GROUP_SUMS / 2) + 4 * (i / 2) + 2 * (i % 2);
                output[i] = to_bf16_pair(sums[from] + bias[i % 2], sums[from + 1] + bias[i % 2]);
            }
            __syncwarp();
            store_transposed(turn + place * CHUNK * 2, output);
            __syncwarp();
            if (row < end && column < to.hidden)
                store_chunk(to.expert_output, (to.first_row + row) * to.hidden + column, turned(turn));
        }
        next_block(sums);
    }
}

#endif
