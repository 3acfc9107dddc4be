// The rows that the tensor cores leave to gate_up.cu and down.cu.
//
//   fallback_rows [1 + R]   how many there are, and then for each row whether it is one
//
// A null array means all rows.
#pragma once
#include "tile.cuh"

// Whether there is no fallback row. The same for all threads of the grid.
__device__ __forceinline__ bool nothing_falls_back(Global<const int> fallback_rows) {
    return fallback_rows && fallback_rows[0] == 0;
}

__device__ __forceinline__ bool is_fallback(Global<const int> fallback_rows, int64 row) {
    return !fallback_rows || fallback_rows[1 + row] != 0;
}

// Whether a tile has no fallback row. The same for all threads of the block, which all call it.
__device__ __forceinline__ bool has_no_fallback_row(Global<const int> fallback_rows, const Tile &tile) {
    const int lane = threadIdx.x % WARP;
    bool found = false;
    for (int row = lane; row < tile.rows; row += WARP) found |= is_fallback(fallback_rows, tile.first_row + row);
    return __ballot_sync(ALL_LANES, found) == 0;
}
