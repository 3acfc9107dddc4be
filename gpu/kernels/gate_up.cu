// gate_up and the activation, with the gather: for each kept row of each expert
//
//   x         = hidden_states[assignment_of[row] / K]
//   gate_up   = x · gate_up_proj[e] + gate_up_proj_bias[e]        even columns gate, odd columns up
//   gate      = min(gate, limit),  up = min(max(up, -limit), limit)
//   activated = (up + up_offset) · (gate · sigmoid(alpha · gate))
//
// NaN passes the clamps. Row r of expert e is row row_starts[e] + r of R = row_starts[E]. With fallback_rows, only the
// rows that it names are computed.
#include "common.cuh"
#include "fallback.cuh"
#include "swiglu.cuh"
#include "tile.cuh"

// Grid: any. Block: TILE_THREADS.
//   hidden_states     [T, H]       read
//   gate_up_proj      [E, H, 2I]   read
//   gate_up_proj_bias [E, 2I]      read
//   assignment_of     [R]          read
//   row_starts        [E + 1]      read
//   tile_starts       [E + 1]      read
//   fallback_rows     [1 + R]      read unless null (fallback.cuh)
//   gate_up           [R, 2I]      written unless null; before the clamps
//   activated         [R, I]       written
// Requirements: I >= 1, K >= 1; H may be 0.
KERNEL(TILE_THREADS)
gate_up(Global<const float> hidden_states, Global<const float> gate_up_proj, Global<const float> gate_up_proj_bias,
        Global<const int> assignment_of, Global<const int> row_starts, Global<const int> tile_starts,
        Global<const int> fallback_rows, Global<float> gate_up, Global<float> activated, int64 hidden,
        int64 intermediate, int64 experts, int64 top_k, float alpha, float limit, float up_offset) {
    wait_for_earlier_kernels();
    if (nothing_falls_back(fallback_rows)) return;
    const int64 width = 2 * intermediate;
    const int64 tiles = tile_count(tile_starts, width, experts);
    for (int64 number = blockIdx.x; number < tiles; number += gridDim.x) {
        const Tile tile = find_tile(number, row_starts, tile_starts, width, experts);
        if (has_no_fallback_row(fallback_rows, tile)) continue;

        int64 tokens[SOURCES];
        for (int s = 0; s < SOURCES; s++) {
            const bool exists = source_row(s) < tile.rows;
            tokens[s] = exists ? assignment_of[tile.first_row + source_row(s)] / top_k : -1;
        }
        Sums sums;
        multiply_tile(tile, hidden_states, tokens, gate_up_proj, hidden, width, sums);

        for (int i = 0; i < THREAD_ROWS; i++) {
            const int64 row = tile.first_row + sum_row(i);
            if (sum_row(i) >= tile.rows || !is_fallback(fallback_rows, row)) continue;
            for (int j = 0; j < THREAD_COLUMNS; j += 2) {
                const int64 column = sum_column(tile, j);
                if (column >= width) continue;
                const float gate = sums[i][j] + gate_up_proj_bias[tile.expert * width + column];
                const float up = sums[i][j + 1] + gate_up_proj_bias[tile.expert * width + column + 1];
                if (gate_up) {
                    gate_up[row * width + column] = gate;
                    gate_up[row * width + column + 1] = up;
                }
                activated[row * intermediate + column / 2] = clamped_swiglu(gate, up, alpha, limit, up_offset);
            }
        }
    }
}
