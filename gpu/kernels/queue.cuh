// The queue of the tiles of both products: what the blocks of experts.cu draw, and in which order.
//
// A tile is a panel of PANEL_ROWS rows of one expert times PANEL_COLUMNS columns of its matrix. The tiles of gate_up
// come before those of down. In either product the tiles of an expert follow one another, so that what is read of its
// matrix serves all its panels: groups of at most PANELS_TOGETHER panels take one column tile after the other. A last
// panel of HALF_PANEL rows or fewer takes less time, and comes after the others.
//
// With whole tiles alone, most blocks would be idle in the last round. So the last tiles of down, as many as that round
// has, are cut into DOWN_PARTS parts along the depth. A round that is nearly full is left as it is: adding up the parts
// would cost more than is gained. A sum of parts has other bits than one along the whole depth, and which tiles are cut
// depends on the batch; so a caller may ask for whole tiles alone.
//
// Words of the kernels for the tensor cores that are not the field's:
//
//   panel              the rows of a tile (CTA tile): 128 rows of one expert, fewer in its last panel
//   piece              what a block draws (work tile): a tile, or a part of one along the depth (split-K)
//   piece slot         room in shared memory for the description of a piece, and for its columns' scales and biases
//   pair               two k-blocks, 64 of the depth
//   image              one operand of a tile for one k-block, swizzled for the tensor cores
//   line               a row of an image: 128 bytes of one row or column of the operand
//   permuted           of a depth: in the order in which a thread holds the sums of gate_up (split.cuh)
//   signal, wait_for_signals   release and acquire, by a counter in global memory
//   publish            the fence after which bulk copies of other blocks see what this thread wrote
//   leave_quad, left_quad      a store of partial sums for another block, and a load after its acquire
//   fallback rows      the rows that cannot be split; gate_up.cu and down.cu compute them
#pragma once
#include "split.cuh"

#ifdef HOPPER

constexpr int PANELS_TOGETHER = 8;
constexpr int DOWN_PARTS = 3;

enum Kind { GATE_UP, DOWN, END };

struct alignas(16) Piece {
    Kind kind;
    int expert, panel, column_tile, first_row, rows;
    int first_pair, pairs;  // of the depth
    int cut_tile, part;     // which of the tiles that are cut, and which part of it; -1 for a whole tile
};

// The numbers of tiles fit an int, and so do those of pieces.
struct Queue {
    Global<const int> row_starts, panel_starts;
    int experts, blocks;
    int gate_up_tiles, down_tiles;  // column tiles
    int gate_up_pairs, down_pairs;  // depths
    bool cuts;                      // whether tiles may be cut
};

// Parts of a tile of down that is cut.
__device__ __forceinline__ int parts_of(const Queue &queue) {
    return int(smaller(DOWN_PARTS, queue.down_pairs));
}

// How many tiles of down are cut, of so many tiles in all.
__device__ __forceinline__ int cut_tiles(const Queue &queue, int tiles, int of_down) {
    const int in_last_round = tiles % queue.blocks;
    return !queue.cuts || 4 * in_last_round > 3 * queue.blocks ? 0 : int(smaller(in_last_round, of_down));
}

// Expert, rows and columns of a product's tile.
__device__ __forceinline__ void locate(Piece &piece, const Queue &queue, int tile, int column_tiles) {
    int low = 0, high = queue.experts;  // the tile is one of expert `low`
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (queue.panel_starts[middle] <= tile / column_tiles) low = middle;
        else high = middle;
    }
    const int first_panel = queue.panel_starts[low], first_row = queue.row_starts[low];
    const int rows = queue.row_starts[low + 1] - first_row;
    const int full = rows / PANEL_ROWS + (rows % PANEL_ROWS > HALF_PANEL);  // panels, but for a small one
    const int of_expert = tile - first_panel * column_tiles;
    int panel = full, column_tile = of_expert - full * column_tiles;
    if (of_expert < full * column_tiles) {
        // Groups of the same size but for the last.
        const int groups = (full - 1) / PANELS_TOGETHER + 1, together = (full - 1) / groups + 1;
        const int group = of_expert / (together * column_tiles), in_group = of_expert % (together * column_tiles);
        const int rest = full - group * together, in_this_group = rest < together ? rest : together;
        panel = group * together + in_group % in_this_group;
        column_tile = in_group / in_this_group;
    }
    piece.expert = low;
    piece.panel = first_panel + panel;
    piece.column_tile = column_tile;
    piece.first_row = first_row + panel * PANEL_ROWS;
    piece.rows = int(smaller(PANEL_ROWS, rows - panel * PANEL_ROWS));
}

// The piece with this number.
__device__ __forceinline__ Piece piece_at(const Queue &queue, int number) {
    Piece piece = {};
    piece.kind = END;
    piece.cut_tile = -1;
    const int panels = queue.panel_starts[queue.experts];
    const int of_gate_up = panels * queue.gate_up_tiles, of_down = panels * queue.down_tiles;
    const int parts = parts_of(queue), cut = cut_tiles(queue, of_gate_up + of_down, of_down);
    const int whole = of_gate_up + of_down - cut;
    if (number < of_gate_up) {
        piece.kind = GATE_UP;
        piece.pairs = queue.gate_up_pairs;
        locate(piece, queue, number, queue.gate_up_tiles);
    } else if (number < whole) {
        piece.kind = DOWN;
        piece.pairs = queue.down_pairs;
        locate(piece, queue, number - of_gate_up, queue.down_tiles);
    } else if (number < whole + cut * parts) {
        piece.kind = DOWN;
        piece.cut_tile = (number - whole) / parts;
        piece.part = (number - whole) % parts;
        piece.first_pair = piece.part * queue.down_pairs / parts;
        piece.pairs = (piece.part + 1) * queue.down_pairs / parts - piece.first_pair;
        locate(piece, queue, whole - of_gate_up + piece.cut_tile, queue.down_tiles);
    }
    return piece;
}

#endif
