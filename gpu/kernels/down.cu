// down: for each kept row of each expert
//
//   expert_output = activated · down_proj[e] + down_proj_bias[e]
//
// With fallback_rows, only the rows that it names are computed.
#include "ptx.cuh"
#include "fallback.cuh"
#include "tile.cuh"

// Grid: any. Block: TILE_THREADS.
//   activated      [R, I]      read
//   down_proj      [E, I, H]   read
//   down_proj_bias [E, H]      read
//   row_starts     [E + 1]     read
//   tile_starts    [E + 1]     read
//   fallback_rows  [1 + R]     read unless null (fallback.cuh)
//   expert_output  [R, H]      written
// Requirements: H >= 1; I may be 0.
KERNEL(TILE_THREADS)
down(Global<const float> activated, Global<const float> down_proj, Global<const float> down_proj_bias,
     Global<const int> row_starts, Global<const int> tile_starts, Global<const int> fallback_rows,
     Global<float> expert_output, int64 hidden, int64 intermediate, int64 experts) {
    wait_for_earlier_kernels();
    if (nothing_falls_back(fallback_rows)) return;
    const int64 tiles = tile_count(tile_starts, hidden, experts);
    for (int64 number = blockIdx.x; number < tiles; number += gridDim.x) {
        const Tile tile = find_tile(number, row_starts, tile_starts, hidden, experts);
        if (has_no_fallback_row(fallback_rows, tile)) continue;

        int64 rows[SOURCES];
        for (int s = 0; s < SOURCES; s++) {
            const int64 row = tile.first_row + source_row(s);
            // The activations of other rows may not be there.
            rows[s] = source_row(s) < tile.rows && is_fallback(fallback_rows, row) ? row : -1;
        }
        Sums sums;
        multiply_tile(tile, activated, rows, down_proj, intermediate, hidden, sums);

        for (int i = 0; i < THREAD_ROWS; i++) {
            const int64 row = tile.first_row + sum_row(i);
            if (sum_row(i) >= tile.rows || !is_fallback(fallback_rows, row)) continue;
            for (int j = 0; j < THREAD_COLUMNS; j++) {
                const int64 column = sum_column(tile, j);
                if (column >= hidden) continue;
                expert_output[row * hidden + column] = sums[i][j] + down_proj_bias[tile.expert * hidden + column];
            }
        }
    }
}
