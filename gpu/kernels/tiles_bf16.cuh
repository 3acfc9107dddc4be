// The rows of the experts in bf16, and the tiles of experts_bf16.
//
// Panel, image and line are the words of queue.cuh. A chunk is 16 bytes of a line.
//
// The rows of all experts follow one another. The rows of an expert are cut evenly into panels of at most PANEL_ROWS,
// whose lines are padded to what the tensor cores take. A panel has an image for each k-block of the depth: its lines
// of 128 bytes, chunk c of line l at chunk c ^ (l % 8), which is the swizzle of 128 bytes. The images of panels follow
// one another.
//
// A tile is a panel times MATRIX_LINES lines of the expert's matrix, over all of the depth. Blocks draw tiles from a
// queue, first those of gate_up, then those of down. Tiles of an expert follow one another in groups of PANELS_TOGETHER
// panels, for one set of matrix lines after the other. A tile of down waits until gate_up is there for its panel.
//
// Tiles are whole and one sum runs through the depth, so a row's bits depend on its token and the weights alone,
// whatever else is in the batch.
#pragma once
#include "ptx_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int MATRIX_LINES = 192;
constexpr int K_BLOCK = 64;
constexpr int PANEL_ROWS = 256;
constexpr int CHUNK_WORDS = 2;   // of 8 bytes
constexpr int LINE_WORDS = 16;   // of an image
constexpr int MATRIX_WORDS = MATRIX_LINES * LINE_WORDS;
constexpr int LINES_UNIT = 16;  // of a panel: two blocks of sums, of 8 rows or more
constexpr int PANELS_TOGETHER = 16;
constexpr int LARGEST_EXPERTS = 512;
constexpr int EXPERTS_THREADS = 4 * WARPGROUP;

enum Kind { GATE_UP, DOWN, END };

struct Tile {
    int kind, panel, expert, line_tile;
    int panels;             // of the expert
    int first_row, rows;    // of all rows
    int first_line, lines;  // of the panels' images
};

// Where the rows of each expert are. RowStarts is an array in global or shared memory.
template <class RowStarts>
struct Rows {
    RowStarts row_starts;
    Shared<const int> panel_starts;  // [E + 1]
    int experts, panels;
    int most_lines;  // of a panel
};

// Lines of a panel of so many rows.
__device__ __forceinline__ int lines_of(int rows) {
    return (rows + LINES_UNIT - 1) / LINES_UNIT * LINES_UNIT;
}

__device__ __forceinline__ int panels_of(int rows) {
    return (rows + PANEL_ROWS - 1) / PANEL_ROWS;
}

// Rows of an expert's panels but the last one.
__device__ __forceinline__ int panel_height(int rows) {
    const int panels = panels_of(rows);
    return panels ? lines_of((rows + panels - 1) / panels) : 0;
}

// The sum of one value a thread over the threads before this one, and in `total` over all.
__device__ __forceinline__ int sum_before(int value, Shared<int> of_warps, int &total) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int sum = value;
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int below = __shfl_up_sync(ALL_LANES, sum, distance);
        if (lane >= distance) sum += below;
    }
    if (lane == WARP - 1) of_warps[warp] = sum;
    __syncthreads();
    int before = sum - value;
    total = 0;
    for (int other = 0; other < EXPERTS_THREADS / WARP; other++) {
        if (other < warp) before += of_warps[other];
        total += of_warps[other];
    }
    return before;
}

// The largest value over the block.
__device__ __forceinline__ int largest_of(int value, Shared<int> of_warps) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int other = __shfl_xor_sync(ALL_LANES, value, lanes);
        if (other > value) value = other;
    }
    if (threadIdx.x % WARP == 0) of_warps[threadIdx.x / WARP] = value;
    __syncthreads();
    for (int warp = 0; warp < EXPERTS_THREADS / WARP; warp++)
        if (of_warps[warp] > value) value = of_warps[warp];
    return value;
}

// The first line of an expert's panels. Only its last panel is padded, so each expert before it that has rows takes up to
// LINES_UNIT - 1 lines more than it has.
template <class RowStarts>
__device__ __forceinline__ int first_line_of(const Rows<RowStarts> &all, int expert) {
    const int row = all.row_starts[expert];
    return lines_of(row + int(smaller(expert, row)) * (LINES_UNIT - 1));
}

// Writes panel_starts. All EXPERTS_THREADS threads of the block call it.
template <class RowStarts>
__device__ __forceinline__ Rows<RowStarts> find_rows(RowStarts row_starts, Shared<int> panel_starts, int experts) {
    SHARED_ARRAY(int, panel_sums, EXPERTS_THREADS / WARP);
    SHARED_ARRAY(int, largest, EXPERTS_THREADS / WARP);
    const int share = (experts + EXPERTS_THREADS - 1) / EXPERTS_THREADS;
    const int first = int(smaller(experts, int64(threadIdx.x) * share)), end = int(smaller(experts, first + share));
    int panels = 0, most = 0;
    for (int expert = first; expert < end; expert++) {
        const int rows = row_starts[expert + 1] - row_starts[expert], height = panel_height(rows);
        panels += panels_of(rows);
        if (height > most) most = height;
    }
    most = largest_of(most, largest);
    int all_panels;
    int panel = sum_before(panels, panel_sums, all_panels);
    for (int expert = first; expert < end; expert++) {
        panel_starts[expert] = panel;
        panel += panels_of(row_starts[expert + 1] - row_starts[expert]);
    }
    if (threadIdx.x == 0) panel_starts[experts] = all_panels;
    __syncthreads();
    return {row_starts, panel_starts, experts, all_panels, most};
}

// The word of a panel's images of so many k-blocks where a chunk of a line begins.
__device__ __forceinline__ int64 word_of_image(int first_line, int lines, int64 k_blocks, int line, int64 chunk) {
    const int64 image = first_line * k_blocks + chunk / 8 * lines;
    return ((image + line) * 8 + (chunk % 8 ^ line % 8)) * CHUNK_WORDS;
}

// A product of all experts.
struct Product {
    int line_tiles, k_blocks;  // of each expert's matrix
};

// What all blocks do.
struct Work {
    Rows<Shared<const int>> rows;
    Product gate_up, down;

    // An array would stand in memory.
    __device__ __forceinline__ Product of(int kind) const { return kind == GATE_UP ? gate_up : down; }
};

// Tiles across the lines of a matrix. Those of gate_up reach to where the padding of the activations ends.
__device__ __forceinline__ int line_tiles_of_gate_up(int64 intermediate) {
    return int(ceil_div(ceil_div(intermediate, K_BLOCK) * K_BLOCK * 2, MATRIX_LINES));
}

__device__ __forceinline__ int line_tiles_of_down(int64 hidden) {
    return int(ceil_div(hidden, MATRIX_LINES));
}

// The last of `count` ascending numbers that is not above a value, which the first is not.
template <class Numbers>
__device__ __forceinline__ int last_not_above(Numbers numbers, int count, int value) {
    int low = 0, high = count;
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (numbers[middle] <= value) low = middle;
        else high = middle;
    }
    return low;
}

// Expert, rows and lines of a product's tile.
__device__ __forceinline__ void locate(Tile &tile, const Work &work, int number) {
    const auto &all = work.rows;
    const int line_tiles = work.of(tile.kind).line_tiles;
    const int expert = last_not_above(all.panel_starts, all.experts, number / line_tiles);
    const int first_panel = all.panel_starts[expert], panels = all.panel_starts[expert + 1] - first_panel;
    const int first_row = all.row_starts[expert], rows = all.row_starts[expert + 1] - first_row;
    // Groups of the same size but for the last.
    const int groups = (panels - 1) / PANELS_TOGETHER + 1, together = (panels - 1) / groups + 1;
    const int of_expert = number - first_panel * line_tiles;
    const int group = of_expert / (together * line_tiles), in_group = of_expert % (together * line_tiles);
    const int rest = panels - group * together, in_this_group = rest < together ? rest : together;
    const int panel = group * together + in_group % in_this_group, height = panel_height(rows);
    tile.expert = expert;
    tile.panels = panels;
    tile.panel = first_panel + panel;
    tile.line_tile = in_group / in_this_group;
    tile.first_row = first_row + panel * height;
    tile.rows = int(smaller(height, rows - panel * height));
    tile.first_line = first_line_of(all, expert) + panel * height;
    tile.lines = lines_of(tile.rows);
}

// The tile with this number in the queue.
__device__ __forceinline__ Tile tile_at(const Work &work, int number) {
    Tile tile = {END, 0, 0, 0, 0, 0, 0, 0, 0};
    const int of_gate_up = work.rows.panels * work.gate_up.line_tiles;
    if (number >= of_gate_up + work.rows.panels * work.down.line_tiles) return tile;
    tile.kind = number < of_gate_up ? GATE_UP : DOWN;
    locate(tile, work, tile.kind == GATE_UP ? number : number - of_gate_up);
    return tile;
}

}  // namespace bf16

#endif
