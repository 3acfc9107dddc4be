// down: for each kept row of each expert
//
//   expert_output = activated · down_proj[e] + down_proj_bias[e]
#include "common.cuh"
#include "tile.cuh"

// Grid: bound of the row tiles (tile.cuh) · ceil(H / TILE_COLUMNS). Block: TILE_THREADS.
//   activated      [R, I]      read
//   down_proj      [E, I, H]   read
//   down_proj_bias [E, H]      read
//   row_starts     [E + 1]     read
//   tile_starts    [E + 1]     read
//   expert_output  [R, H]      written
// Requirements: H >= 1; I may be 0.
KERNEL(TILE_THREADS)
down(Global<const float> activated, Global<const float> down_proj, Global<const float> down_proj_bias,
     Global<const int> row_starts, Global<const int> tile_starts, Global<float> expert_output, int64 hidden,
     int64 intermediate, int64 experts) {
    const Tile tile = find_tile(row_starts, tile_starts, hidden, experts);
    if (tile.rows == 0) return;

    int64 rows[SOURCES];
    for (int s = 0; s < SOURCES; s++) rows[s] = source_row(s) < tile.rows ? tile.first_row + source_row(s) : -1;
    Sums sums;
    multiply_tile(tile, activated, rows, down_proj, intermediate, hidden, sums);

    for (int i = 0; i < THREAD_ROWS; i++) {
        if (sum_row(i) >= tile.rows) continue;
        const int64 row = tile.first_row + sum_row(i);
        for (int j = 0; j < THREAD_COLUMNS; j++) {
            const int64 column = sum_column(tile, j);
            if (column >= hidden) continue;
            expert_output[row * hidden + column] = sums[i][j] + down_proj_bias[tile.expert * hidden + column];
        }
    }
}
