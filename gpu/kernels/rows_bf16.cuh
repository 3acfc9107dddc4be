// How many rows each expert has, and where they stand in the images of their panels (tiles_bf16.cuh).
#pragma once
#include "tiles_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

// starts[e] = the rows of the local experts before e, each of which keeps at most `capacity` assignments; starts[E] = all
// rows. The block counts all assignments; `counts` [E] is what it counts in. All EXPERTS_THREADS threads call it.
__device__ __forceinline__ void count_rows(Global<const int64> router_indices, int assignments, int64 first_expert,
                                           int64 capacity, int experts, Shared<int> counts, Shared<int> starts) {
    SHARED_ARRAY(int, sums, EXPERTS_THREADS / WARP);
    for (int expert = threadIdx.x; expert < experts; expert += EXPERTS_THREADS) counts[expert] = 0;
    __syncthreads();
    for (int assignment = threadIdx.x; assignment < assignments; assignment += EXPERTS_THREADS) {
        const int expert = local_expert(router_indices[assignment], first_expert, experts);
        if (expert >= 0) atomicAdd(&counts[expert], 1);
    }
    __syncthreads();
    const int share = (experts + EXPERTS_THREADS - 1) / EXPERTS_THREADS;
    const int first = int(smaller(experts, int64(threadIdx.x) * share)), end = int(smaller(experts, first + share));
    int kept = 0;
    for (int expert = first; expert < end; expert++) kept += int(smaller(counts[expert], capacity));
    int all_kept;
    int start = sum_before(kept, sums, all_kept);
    for (int expert = first; expert < end; expert++) {
        starts[expert] = start;
        start += int(smaller(counts[expert], capacity));
    }
    if (threadIdx.x == 0) starts[experts] = all_kept;
    __syncthreads();
}

// The first chunk of a row's line, and the chunks from one image to the next; the first is -1 where there is no row.
struct Line {
    int64 first;
    int next, swizzle;
    int panel;
};

template <class RowStarts>
__device__ __forceinline__ Line line_of(const Rows<RowStarts> &all, int expert, int row, int64 k_blocks) {
    if (row < 0) return {-1, 0, 0, 0};
    const int first_row = all.row_starts[expert], rows = all.row_starts[expert + 1] - first_row;
    const int height = panel_height(rows), panel = (row - first_row) / height, line = (row - first_row) % height;
    const int lines = lines_of(int(smaller(height, rows - panel * height)));
    const int64 first_line = first_line_of(all, expert) + panel * height;
    return {(first_line * k_blocks + line) * 8, lines * 8, line % 8, all.panel_starts[expert] + panel};
}

// The first row of a panel; the number of rows where there are fewer panels.
template <class RowStarts>
__device__ __forceinline__ int first_row_of(const Rows<RowStarts> &all, int64 panel) {
    if (panel >= all.panels) return all.row_starts[all.experts];
    const int expert = last_not_above(all.panel_starts, all.experts, int(panel)), first = all.row_starts[expert];
    return first + (int(panel) - all.panel_starts[expert]) * panel_height(all.row_starts[expert + 1] - first);
}

}  // namespace bf16

#endif
