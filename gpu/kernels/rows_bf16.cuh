// Where the rows of the experts stand in the images of their panels (tiles_bf16.cuh).
#pragma once
#include "tiles_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

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
    const int64 first_line = all.line_starts[expert] + panel * height;
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
