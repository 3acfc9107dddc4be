// How many rows each expert has, and where they stand in the images of their panels (tiles_bf16.cuh).
#pragma once
#include "tiles_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

// The rows of the expert of this thread, which keeps at most `capacity` assignments; 0 where there is none. The block
// counts all assignments; `counts` [E] is what it counts in. All EXPERTS_THREADS threads call it.
__device__ __forceinline__ int count_rows(Global<const int64> router_indices, int assignments, int64 first_expert,
                                          int64 capacity, int experts, Shared<int> counts) {
    const int own = threadIdx.x;
    if (own < experts) counts[own] = 0;
    __syncthreads();
    for (int assignment = own; assignment < assignments; assignment += EXPERTS_THREADS) {
        const int expert = local_expert(router_indices[assignment], first_expert, experts);
        if (expert >= 0) atomicAdd(&counts[expert], 1);
    }
    __syncthreads();
    return own < experts ? int(smaller(counts[own], capacity)) : 0;
}

// The rows of the expert of this thread, from where the rows of each begin; 0 where there is none.
__device__ __forceinline__ int rows_between(Global<const int> row_starts, int experts) {
    const int own = threadIdx.x;
    return own < experts ? row_starts[own + 1] - row_starts[own] : 0;
}

// The first chunk of a row's line, and the chunks from one image to the next; the first is -1 where there is no row.
struct Line {
    int64 first;
    int next, swizzle;
    int panel;
};

__device__ __forceinline__ Line line_of(const Rows &all, int expert, int row, int64 k_blocks) {
    if (row < 0) return {-1, 0, 0, 0};
    const int first_row = all.row_starts[expert], rows = all.row_starts[expert + 1] - first_row;
    const int height = panel_height(rows), panel = (row - first_row) / height, line = (row - first_row) % height;
    const int lines = lines_of(int(smaller(height, rows - panel * height)));
    const int64 first_line = first_line_of(all, expert) + panel * height;
    return {(first_line * k_blocks + line) * 8, lines * 8, line % 8, all.panel_starts[expert] + panel};
}

// The first row of a panel; the number of rows where there are fewer panels.
__device__ __forceinline__ int first_row_of(const Rows &all, int64 panel) {
    if (panel >= all.panels) return all.row_starts[all.experts];
    const int expert = last_not_above(all.panel_starts, all.experts, int(panel)), first = all.row_starts[expert];
    return first + (int(panel) - all.panel_starts[expert]) * panel_height(all.row_starts[expert + 1] - first);
}

}  // namespace bf16

#endif
