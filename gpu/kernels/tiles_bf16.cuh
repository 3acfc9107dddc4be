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
// With few rows memory is the limit, and few blocks do not reach it. So where a product has a tile for every second
// block or fewer, its tiles are cut into parts along the lines of the matrix.
//
// One sum runs through the depth in every part, so a row's bits depend on its token and the weights alone, whatever
// else is in the batch.
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
constexpr int MOST_PARTS = 3;       // of a tile that is cut, each of a multiple of 16 lines of the matrix
constexpr int MOST_LINES_CUT = 64;  // of a panel, where tiles are cut
constexpr int LARGEST_EXPERTS = 512;
constexpr int EXPERTS_THREADS = 4 * WARPGROUP;
static_assert(LARGEST_EXPERTS <= EXPERTS_THREADS, "a thread for each expert");

enum Kind { GATE_UP, DOWN, END };

struct Tile {
    int kind, panel, expert;
    int panels;                     // of the expert
    int line_tile, skipped, taken;  // of the matrix; `taken` lines of the line tile, after those skipped
    int first_row, rows;            // of all rows
    int first_line, lines;          // of the panels' images
};

// Where the rows of each expert are.
struct Rows {
    Shared<const int> row_starts, panel_starts;  // [E + 1]
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

// The first line of an expert's panels. Only its last panel is padded, so each expert before it that has rows takes up
// to LINES_UNIT - 1 lines more than it has.
__device__ __forceinline__ int first_line_of(const Rows &all, int expert) {
    const int row = all.row_starts[expert];
    return lines_of(row + int(smaller(expert, row)) * (LINES_UNIT - 1));
}

// The sum of a value over the lanes up to this one.
__device__ __forceinline__ int sum_up_to(int value) {
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int below = __shfl_up_sync(ALL_LANES, value, distance);
        if (int(threadIdx.x) % WARP >= distance) value += below;
    }
    return value;
}

// The largest value of the warp.
__device__ __forceinline__ int largest_of(int value) {
    for (int lanes = WARP / 2; lanes > 0; lanes /= 2) {
        const int other = __shfl_xor_sync(ALL_LANES, value, lanes);
        if (other > value) value = other;
    }
    return value;
}

// Writes row_starts and panel_starts, each thread those of one expert, which has `rows` rows. All EXPERTS_THREADS
// threads of the block call it.
__device__ __forceinline__ Rows find_rows(int rows, Shared<int> row_starts, Shared<int> panel_starts, int experts) {
    SHARED_ARRAY(int, row_sums, EXPERTS_THREADS / WARP);
    SHARED_ARRAY(int, panel_sums, EXPERTS_THREADS / WARP);
    SHARED_ARRAY(int, largest, EXPERTS_THREADS / WARP);
    const int lane = threadIdx.x % WARP, own = int(threadIdx.x) / WARP;
    int row_end = sum_up_to(rows), panel_end = sum_up_to(panels_of(rows)), most_lines = largest_of(panel_height(rows));
    if (lane == WARP - 1) {
        row_sums[own] = row_end;
        panel_sums[own] = panel_end;
        largest[own] = most_lines;
    }
    __syncthreads();
    int all_panels = 0;
    for (int warp = 0; warp < EXPERTS_THREADS / WARP; warp++) {
        if (warp < own) row_end += row_sums[warp];
        if (warp < own) panel_end += panel_sums[warp];
        all_panels += panel_sums[warp];
        most_lines = largest[warp] > most_lines ? largest[warp] : most_lines;
    }
    if (int(threadIdx.x) < experts) {
        row_starts[threadIdx.x + 1] = row_end;
        panel_starts[threadIdx.x + 1] = panel_end;
    }
    if (threadIdx.x == 0) row_starts[0] = panel_starts[0] = 0;
    __syncthreads();
    return {row_starts, panel_starts, experts, all_panels, most_lines};
}

// The word of a panel's images of so many k-blocks where a chunk of a line begins.
__device__ __forceinline__ int64 word_of_image(int first_line, int lines, int64 k_blocks, int line, int64 chunk) {
    const int64 image = first_line * k_blocks + chunk / 8 * lines;
    return ((image + line) * 8 + (chunk % 8 ^ line % 8)) * CHUNK_WORDS;
}

// A product of all experts.
struct Product {
    int line_tiles, k_blocks;  // of each expert's matrix
    int parts;                 // of a tile

    // Each tile counts as many as it has parts.
    __device__ __forceinline__ int parts_of_panel() const { return line_tiles * parts; }
};

// What all blocks do.
struct Work {
    Rows rows;
    Shared<const Product> products;  // of GATE_UP and DOWN

    __device__ __forceinline__ Product of(int kind) const { return products[kind]; }
};

// A product whose tiles are cut into as many parts as there are blocks for, where rows are few.
__device__ __forceinline__ Product product_of(const Rows &all, int64 matrix_lines, int64 depth) {
    const int line_tiles = int(ceil_div(matrix_lines, MATRIX_LINES)), tiles = all.panels * line_tiles;
    const bool cuts = all.most_lines <= MOST_LINES_CUT && 0 < tiles && tiles <= int(gridDim.x / 2);
    const int parts = cuts ? int(smaller(MOST_PARTS, gridDim.x / tiles)) : 1;
    return {line_tiles, int(ceil_div(depth, K_BLOCK)), parts};
}

// The lines of gate_up reach to where the padding of the activations ends.
__device__ __forceinline__ Product gate_up_of(const Rows &all, int64 hidden, int64 intermediate) {
    return product_of(all, ceil_div(intermediate, K_BLOCK) * K_BLOCK * 2, hidden);
}

__device__ __forceinline__ Product down_of(const Rows &all, int64 hidden, int64 intermediate) {
    return product_of(all, hidden, intermediate);
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

// Expert, rows and lines of a part of a product.
__device__ __forceinline__ void locate(Tile &tile, const Work &work, int part) {
    const auto &all = work.rows;
    const Product product = work.of(tile.kind);
    const int line_tiles = product.line_tiles, number = part / product.parts;
    tile.taken = MATRIX_LINES / product.parts;
    tile.skipped = part % product.parts * tile.taken;
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

// The tile, or part of one, with this number in the queue.
__device__ __forceinline__ Tile tile_at(const Work &work, int number) {
    Tile tile = {END, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    const int of_gate_up = work.rows.panels * work.of(GATE_UP).parts_of_panel();
    if (number >= of_gate_up + work.rows.panels * work.of(DOWN).parts_of_panel()) return tile;
    tile.kind = number < of_gate_up ? GATE_UP : DOWN;
    locate(tile, work, tile.kind == GATE_UP ? number : number - of_gate_up);
    return tile;
}

}  // namespace bf16

#endif
