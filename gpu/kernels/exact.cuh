// The rows that are left to the exact kernels.
//
//   exact_rows [1 + R]   how many there are, and then for each row whether it is one
//
// A null array stands for all rows.
#pragma once
#include "tile.cuh"

// Whether no row is left to the exact kernels. The same for all threads of the grid.
__device__ __forceinline__ bool is_nothing_exact(Global<const int> exact_rows) {
    return exact_rows && exact_rows[0] == 0;
}

__device__ __forceinline__ bool is_exact(Global<const int> exact_rows, int64 row) {
    return !exact_rows || exact_rows[1 + row] != 0;
}

// Whether the exact kernels have nothing to do in a tile. The same for all threads of the block, which all call it.
__device__ __forceinline__ bool has_no_exact_row(Global<const int> exact_rows, const Tile &tile) {
    const int lane = threadIdx.x % WARP;
    bool found = false;
    for (int row = lane; row < tile.rows; row += WARP) found |= is_exact(exact_rows, tile.first_row + row);
    return __ballot_sync(ALL_LANES, found) == 0;
}
