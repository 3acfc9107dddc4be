// A tile of a product of the experts: rows of one expert times a range of columns of its matrix.
//
// The rows of all experts follow one another, [R, ·]; expert e has rows row_starts[e] .. row_starts[e + 1], cut into
// tiles of TILE_ROWS. Tile t belongs to the expert with tile_starts[e] <= t < tile_starts[e + 1]. A block of
// TILE_THREADS threads computes TILE_ROWS x TILE_COLUMNS sums, THREAD_ROWS x THREAD_COLUMNS a thread.
//
// Tiles are numbered row tile · column tiles + column tile. The blocks of the one-dimensional grid take them in turns, so
// that any number of blocks will do.
#pragma once
#include "common.cuh"

constexpr int PANEL_ROWS = 128;  // of a tile on the tensor cores (queue.cuh)
constexpr int HALF_PANEL = PANEL_ROWS / 2;
constexpr int TILE_ROWS = 64;
constexpr int TILE_COLUMNS = 64;
constexpr int TILE_DEPTH = 16;
constexpr int TILE_THREADS = 128;
constexpr int THREAD_ROWS = 8;
constexpr int THREAD_COLUMNS = 4;
constexpr int THREADS_ACROSS = TILE_COLUMNS / THREAD_COLUMNS;
constexpr int SOURCES = TILE_ROWS * TILE_DEPTH / TILE_THREADS;
constexpr int LOADS = TILE_DEPTH * TILE_COLUMNS / TILE_THREADS;
constexpr int PITCH = TILE_ROWS + 4;  // spreads the stores of a transposed column over the banks

static_assert(TILE_ROWS / THREAD_ROWS * THREADS_ACROSS == TILE_THREADS, "each sum has one thread");
static_assert(TILE_THREADS % TILE_DEPTH == 0 && TILE_THREADS % TILE_COLUMNS == 0, "each load has one thread");

struct Tile {
    int rows;
    int64 expert;
    int64 first_row;
    int64 first_column;
};

using Sums = float[THREAD_ROWS][THREAD_COLUMNS];

// How many tiles there are.
__device__ __forceinline__ int64 tile_count(Global<const int> tile_starts, int64 width, int64 experts) {
    return tile_starts[experts] * ceil_div(width, TILE_COLUMNS);
}

// The tile with a number below tile_count.
__device__ __forceinline__ Tile find_tile(int64 number, Global<const int> row_starts, Global<const int> tile_starts,
                                          int64 width, int64 experts) {
    const int64 column_tiles = ceil_div(width, TILE_COLUMNS);
    const int64 row_tile = number / column_tiles;
    Tile tile = {0, 0, 0, number % column_tiles * TILE_COLUMNS};

    int64 low = 0, high = experts;  // tile_starts[low] <= row_tile < tile_starts[high]
    while (high - low > 1) {
        const int64 middle = (low + high) / 2;
        if (tile_starts[middle] <= row_tile) low = middle;
        else high = middle;
    }
    tile.expert = low;
    tile.first_row = row_starts[low] + (row_tile - tile_starts[low]) * TILE_ROWS;
    tile.rows = int(smaller(TILE_ROWS, row_starts[low + 1] - tile.first_row));
    return tile;
}

// The row of the tile that this thread loads as its source-th.
__device__ __forceinline__ int source_row(int source) {
    return int(threadIdx.x) / TILE_DEPTH + source * (TILE_THREADS / TILE_DEPTH);
}

// The row of the tile and the column of the matrix that this thread sums as row i, column j of its sums.
__device__ __forceinline__ int sum_row(int i) {
    return int(threadIdx.x) / THREADS_ACROSS * THREAD_ROWS + i;
}

__device__ __forceinline__ int64 sum_column(const Tile &tile, int j) {
    return tile.first_column + int(threadIdx.x) % THREADS_ACROSS * THREAD_COLUMNS + j;
}

// sums[i][j] = the sum over d < depth, in ascending order, of x[row, d] · matrices[expert, d, column].
//
//   x        [·, depth]          sources[s] = the row of x for row source_row(s) of the tile; -1 means zeros
//   matrices [E, depth, width]
//
// Sums outside the tile's rows or the width are garbage and must be ignored. All threads of the block call this.
__device__ __forceinline__ void multiply_tile(const Tile &tile, Global<const float> x, const int64 (&sources)[SOURCES],
                                              Global<const float> matrices, int64 depth, int64 width, Sums &sums) {
    SHARED_ARRAY(float, x_tile, TILE_DEPTH * PITCH);
    SHARED_ARRAY(float, matrix_tile, TILE_DEPTH * TILE_COLUMNS);
    const int x_depth = int(threadIdx.x) % TILE_DEPTH;
    const int load_column = int(threadIdx.x) % TILE_COLUMNS;
    const int load_depth = int(threadIdx.x) / TILE_COLUMNS;
    const int64 column = tile.first_column + load_column;
    const int64 matrix = tile.expert * depth * width;
    const bool has_sums = sum_row(0) < tile.rows && sum_column(tile, 0) < width;
    const int row = sum_row(0), own_column = int(threadIdx.x) % THREADS_ACROSS * THREAD_COLUMNS;

    for (int i = 0; i < THREAD_ROWS; i++)
        for (int j = 0; j < THREAD_COLUMNS; j++) sums[i][j] = 0.0f;

    for (int64 first = 0; first < depth; first += TILE_DEPTH) {
        for (int s = 0; s < SOURCES; s++) {
            const int64 d = first + x_depth;
            const bool exists = sources[s] >= 0 && d < depth;
            x_tile[x_depth * PITCH + source_row(s)] = exists ? x[sources[s] * depth + d] : 0.0f;
        }
        for (int l = 0; l < LOADS; l++) {
            const int local = load_depth + l * (TILE_THREADS / TILE_COLUMNS);
            const int64 d = first + local;
            const bool exists = column < width && d < depth;
            matrix_tile[local * TILE_COLUMNS + load_column] = exists ? matrices[matrix + d * width + column] : 0.0f;
        }
        __syncthreads();
        for (int d = 0; has_sums && d < TILE_DEPTH; d++) {
            float factors[THREAD_COLUMNS];
            for (int j = 0; j < THREAD_COLUMNS; j++) factors[j] = matrix_tile[d * TILE_COLUMNS + own_column + j];
            for (int i = 0; i < THREAD_ROWS; i++) {
                const float value = x_tile[d * PITCH + row + i];
                for (int j = 0; j < THREAD_COLUMNS; j++) sums[i][j] += value * factors[j];
            }
        }
        __syncthreads();
    }
}
