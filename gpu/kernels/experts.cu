// experts: both products of all experts, with bias and activation, on Hopper's tensor cores (sm_90a).
//
//   activated     = clamped_swiglu(x · gate_up_proj[e] + gate_up_proj_bias[e])
//   expert_output = activated · down_proj[e] + down_proj_bias[e]
//
// f32 operands are split in two f16 (split.cuh) and multiplied as lo·hi + hi·lo + hi·hi. The tensor cores truncate
// their sums, so sums over 64 of the depth are added up in registers, in f32, the small products first.
//
// A tile is a panel of PANEL_ROWS rows of one expert times PANEL_COLUMNS columns of its matrix. Blocks draw tiles from
// one queue: first those of gate_up, then those of down, which wait until all tiles of gate_up of their panel are
// there. A tile waits only for tiles drawn before it, by blocks that run, so that any number of blocks comes to an end.
// Every tile is computed by one block in one order, so two runs give the same bits.
//
// A block has one warpgroup that copies and two that multiply, 64 rows each. The images of a step of both operands
// stand in one of STAGES slots; `full` counts the bytes that have come, `empty` the warps that are done with them. The
// second warpgroup begins a tile after the first products of the first one, so that one adds up while the other
// multiplies. Tiles of one pair of steps do without: there the first warpgroup could be a tile ahead.
#include "exact.cuh"
#include "split.cuh"
#include "swiglu.cuh"

#ifdef HOPPER

constexpr int EXPERTS_THREADS = 3 * WARPGROUP;
constexpr int STAGES = 5;
constexpr int STAGE_WORDS = LEFT_WORDS + RIGHT_WORDS;
constexpr int CONSUMER_WARPS = 8;
constexpr int PANELS_TOGETHER = 8;  // panels that share the columns in the cache
constexpr int HALF_PANEL = PANEL_ROWS / 2;
constexpr int FIRST_LEADS = 1;      // the named barrier that the second warpgroup waits at
constexpr int COLUMN_WORDS = PANEL_COLUMNS;
// Descriptions, inverse scales and biases of this many tiles stand in shared memory, by turns. A tile takes two slots at
// least, so that copies begin no more than three tiles ahead of the slowest warp.
constexpr int TILES_AHEAD = 4;

static_assert((STAGES + 1) / 2 < TILES_AHEAD, "nothing is overwritten while a warp reads it");
static_assert(PANEL_COLUMNS * HALF_PANEL == PRODUCT_SUMS * WARPGROUP, "each sum has one thread");

// Words of a tile's description, written by the copying thread with the first step.
enum Description { KIND, PANEL, COLUMN_TILE, FIRST_ROW, ROWS, DESCRIPTION_WORDS = 8 };
enum Kind { GATE_UP, DOWN, END };

// The queue of tiles, whose numbers fit an int.
struct Queue {
    Global<const int> row_starts;
    Global<const int> panel_starts;
    int experts, gate_up_tiles, down_tiles;  // column tiles
};

struct Piece {
    int kind, expert, panel, column_tile, first_row, rows;
};

// Column after column for groups of PANELS_TOGETHER panels.
__device__ __forceinline__ void locate(Piece &piece, int tile, int panels, int column_tiles) {
    const int in_group = PANELS_TOGETHER * column_tiles;
    const int first = tile / in_group * PANELS_TOGETHER;
    const int together = int(smaller(PANELS_TOGETHER, panels - first));
    piece.panel = first + tile % in_group % together;
    piece.column_tile = tile % in_group / together;
}

// The tile with this number in the queue.
__device__ __forceinline__ Piece piece_at(const Queue &queue, int ticket) {
    const int panels = queue.panel_starts[queue.experts];
    Piece piece = {END, 0, 0, 0, 0, 0};
    if (ticket < panels * queue.gate_up_tiles) {
        piece.kind = GATE_UP;
        locate(piece, ticket, panels, queue.gate_up_tiles);
    } else if (ticket < panels * (queue.gate_up_tiles + queue.down_tiles)) {
        piece.kind = DOWN;
        locate(piece, ticket - panels * queue.gate_up_tiles, panels, queue.down_tiles);
    } else {
        return piece;
    }
    int low = 0, high = queue.experts;  // panel_starts[low] <= panel < panel_starts[high]
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (queue.panel_starts[middle] <= piece.panel) low = middle;
        else high = middle;
    }
    piece.expert = low;
    piece.first_row = queue.row_starts[low] + (piece.panel - queue.panel_starts[low]) * PANEL_ROWS;
    piece.rows = int(smaller(PANEL_ROWS, queue.row_starts[low + 1] - piece.first_row));
    return piece;
}

// A place in the ring of slots. `parity` is that of the phase of `full` in which the slot fills.
struct Ring {
    Address full, empty, slots;
    int slot = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void next() {
        if (++slot == STAGES) {
            slot = 0;
            parity ^= 1;
        }
    }
    __device__ __forceinline__ Address full_here() const { return full + 8 * slot; }
    __device__ __forceinline__ Address empty_here() const { return empty + 8 * slot; }
    __device__ __forceinline__ Address left() const { return slots + slot * STAGE_WORDS * 8; }
    __device__ __forceinline__ Address right() const { return left() + LEFT_WORDS * 8; }
};

// An operand in shared memory as the tensor cores take it: lines of 128 bytes along the depth, swizzled.
__device__ __forceinline__ uint64 operand(Address address) {
    return uint64(address >> 4) | uint64(1) << 16 | uint64(1024 >> 4) << 32 | uint64(1) << 62;
}

constexpr int LO = 64 >> 4;       // of an operand, from the hi to the lo of a line
constexpr int SIXTEEN = 32 >> 4;  // 16 further on in the depth

// What all tiles of a product share: the packed rows, the packed matrices, and the columns' scales and biases.
struct Product {
    Global<const uint64> left, right, columns;
    int steps, column_tiles;
};

// Copies the images of a tile, step after step, and with the first step its description and its scales and biases.
__device__ __forceinline__ void copy_tile(Ring &ring, const Product &product, const Piece &piece,
                                          Shared<int> descriptions, int turn, Address columns) {
    const int64 matrix = int64(piece.expert) * product.column_tiles + piece.column_tile;
    int64 left = int64(piece.panel) * product.steps * LEFT_WORDS, right = matrix * product.steps * RIGHT_WORDS;
    for (int step = 0; step < product.steps; step++, left += LEFT_WORDS, right += RIGHT_WORDS, ring.next()) {
        barrier_wait(ring.empty_here(), ring.parity ^ 1);
        if (step == 0) {
            const int word = turn * DESCRIPTION_WORDS;
            descriptions[word + KIND] = piece.kind;
            descriptions[word + PANEL] = piece.panel;
            descriptions[word + COLUMN_TILE] = piece.column_tile;
            descriptions[word + FIRST_ROW] = piece.first_row;
            descriptions[word + ROWS] = piece.rows;
            barrier_arrive_expecting(ring.full_here(), (STAGE_WORDS + COLUMN_WORDS) * 8);
            bulk_copy(columns + turn * COLUMN_WORDS * 8, product.columns, matrix * COLUMN_WORDS, COLUMN_WORDS,
                      ring.full_here());
        } else {
            barrier_arrive_expecting(ring.full_here(), STAGE_WORDS * 8);
        }
        bulk_copy(ring.left(), product.left, left, LEFT_WORDS, ring.full_here());
        bulk_copy(ring.right(), product.right, right, RIGHT_WORDS, ring.full_here());
    }
}

// Gives a slot back; once a warp.
__device__ __forceinline__ void release(Address empty) {
    if (threadIdx.x % WARP == 0) barrier_arrive(empty);
}

// sums = the products of this warpgroup's 64 rows with the columns of the tile, over `pairs` pairs of steps.
__device__ __forceinline__ void multiply(Ring &ring, int warpgroup, int64 pairs, float (&sums)[PRODUCT_SUMS]) {
    float part[PRODUCT_SUMS];
#pragma unroll
    for (int i = 0; i < PRODUCT_SUMS; i++) sums[i] = 0.0f;
    for (int64 pair = 0; pair < pairs; pair++) {
        uint64 left[2], right[2];
        Address empty[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            barrier_wait(ring.full_here(), ring.parity);
            left[half] = operand(ring.left() + warpgroup * HALF_PANEL * LINE_WORDS * 8);
            right[half] = operand(ring.right());
            empty[half] = ring.empty_here();
            ring.next();
            product_fence();
            product_64x192x16(part, left[half] + LO, right[half], half == 1);
            product_64x192x16(part, left[half], right[half] + LO, true);
            product_64x192x16(part, left[half] + LO + SIXTEEN, right[half] + SIXTEEN, true);
            product_64x192x16(part, left[half] + SIXTEEN, right[half] + LO + SIXTEEN, true);
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            product_64x192x16(part, left[half], right[half], true);
            product_64x192x16(part, left[half] + SIXTEEN, right[half] + SIXTEEN, true);
        }
        products_commit();
        // The first warpgroup always has rows.
        if (warpgroup == 0 && pair == 0 && pairs > 1) group_arrive(FIRST_LEADS, 2 * WARPGROUP);
        products_wait();
        release(empty[0]);
        release(empty[1]);
        hold_sums(part);
#pragma unroll
        for (int i = 0; i < PRODUCT_SUMS; i++) sums[i] += part[i];
    }
}

// Gives back the slots of a tile in which this warpgroup has no rows.
__device__ __forceinline__ void pass(Ring &ring, int64 pairs) {
    for (int64 step = 0; step < 2 * pairs; step++, ring.next()) {
        barrier_wait(ring.full_here(), ring.parity);
        // A lane that still waited could miss the phase once the slot fills again.
        __syncwarp();
        release(ring.empty_here());
    }
}

// values[i] of lane q of a quad becomes values[q] of its lane i.
__device__ __forceinline__ void transpose_quad(float (&values)[4], int q) {
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if (i & lanes) continue;
            const float got = __shfl_xor_sync(ALL_LANES, q & lanes ? values[i] : values[i + lanes], lanes);
            if (q & lanes) values[i] = got;
            else values[i + lanes] = got;
        }
    }
}

// What a thread needs to finish its sums of a tile.
struct Place {
    int panel, first_column;
    int line, row, rows;  // of the panel, of all rows, and how many the panel has; the second row is 8 further on
    int first_float;      // of the columns' inverse scales and biases

    __device__ __forceinline__ bool has(int h) const { return line + 8 * h < rows; }
};

__device__ __forceinline__ Place place_of(Shared<int> descriptions, int turn, int line) {
    const int word = turn * DESCRIPTION_WORDS;
    return {descriptions[word + PANEL],
            descriptions[word + COLUMN_TILE] * PANEL_COLUMNS,
            line,
            descriptions[word + FIRST_ROW] + line,
            descriptions[word + ROWS],
            turn * COLUMN_WORDS * 2};
}

// What the tiles of gate_up write, and what they need for it.
struct GateUp {
    Global<const float> row_scales;
    Global<uint64> packed;
    Global<int> large_counts;
    Global<float> gate_up, activated;  // both null, or neither
    int64 intermediate, steps;
    float alpha, limit;
};

// The thread has rows m and m + 8 of its warpgroup, m = 16 · warp + lane / 4, and columns 8j + 2q and 8j + 2q + 1: the
// gate and the up of one activation. sums[4j + 2h], sums[4j + 2h + 1] are those of row m + 8h. `columns` holds the
// inverse scale and the bias of each column of the tile.
template <bool WITH_STAGES>
__device__ __forceinline__ void finish_gate_up(const GateUp &to, const Place &place, Shared<const float> columns,
                                               const float (&sums)[PRODUCT_SUMS]) {
    const int q = threadIdx.x % 4;
    const int64 images = int64(place.panel) * to.steps * LEFT_WORDS;
    float down[2], up_scale[2];
    int large[2] = {0, 0};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        down[h] = place.has(h) ? to.row_scales[int64(place.row + 8 * h) * 2] : 0.0f;
        up_scale[h] = place.has(h) ? to.row_scales[int64(place.row + 8 * h) * 2 + 1] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < PRODUCT_SUMS; j += 16) {
        float values[2][4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const Quad pair = shared_quad(columns, place.first_float + (j * 2 + i * 8 + q * 2) * 2);
            const float(&of)[4] = pair.values;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float gate = sums[j + i * 4 + h * 2] * down[h] * of[0] + of[1];
                const float up = sums[j + i * 4 + h * 2 + 1] * down[h] * of[2] + of[3];
                const float value = clamped_swiglu(gate, up, to.alpha, to.limit);
                if (WITH_STAGES) {
                    const int64 column = place.first_column / 2 + j + i * 4 + q;
                    const int64 at = int64(place.row + 8 * h) * to.intermediate + column;
                    if (place.has(h) && column < to.intermediate) {
                        store_pair(to.gate_up, at * 2, gate, up);
                        to.activated[at] = value;
                    }
                }
                values[h][i] = value * up_scale[h];
                large[h] += fabsf(values[h][i]) >= LARGE_ROW;
            }
        }
        const int depth = place.first_column / 2 + j + q * 4;
        const int64 image = images + int64(depth / STEP) * LEFT_WORDS;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            transpose_quad(values[h], q);
            if (place.has(h) && depth < to.steps * STEP)
                store_split(to.packed, image, place.line + 8 * h, depth % STEP / 4, values[h]);
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        large[h] += __shfl_xor_sync(ALL_LANES, large[h], 1);
        large[h] += __shfl_xor_sync(ALL_LANES, large[h], 2);
        if (q == 0 && place.has(h)) atomicAdd(&to.large_counts[place.row + 8 * h], large[h]);
    }
}

// What the tiles of down write.
struct Down {
    Global<const float> row_scales;
    Global<float> expert_output;
    int64 hidden;
};

// Rows and columns as in finish_gate_up.
__device__ __forceinline__ void finish_down(const Down &to, const Place &place, Shared<const float> columns,
                                            const float (&sums)[PRODUCT_SUMS]) {
    const int q = threadIdx.x % 4;
    float down[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
        down[h] = place.has(h) ? 1.0f / to.row_scales[int64(place.row + 8 * h) * 2 + 1] : 0.0f;
#pragma unroll
    for (int j = 0; j < PRODUCT_SUMS / 4; j++) {
        const int64 column = place.first_column + j * 8 + q * 2;
        const Quad pair = shared_quad(columns, place.first_float + (j * 8 + q * 2) * 2);
        const float(&of)[4] = pair.values;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if (!place.has(h)) continue;
            const float first = sums[j * 4 + h * 2] * down[h] * of[0] + of[1];
            const float second = sums[j * 4 + h * 2 + 1] * down[h] * of[2] + of[3];
            const int64 at = int64(place.row + 8 * h) * to.hidden + column;
            if (column + 1 < to.hidden) store_pair(to.expert_output, at, first, second);
            else if (column < to.hidden) to.expert_output[at] = first;
        }
    }
}

// Grid: at most one block a multiprocessor. Block: EXPERTS_THREADS. Shared memory: STAGES · STAGE_WORDS words.
// With steps = steps_of(H) for gate_up and steps_of(I) for down:
//   tokens           [panels, steps, LEFT_WORDS]                            read; from split_tokens
//   gate_up_packed   [E, gate_up_tiles, steps, RIGHT_WORDS]                 read; from pack_weights
//   gate_up_columns  [E, gate_up_tiles · COLUMN_WORDS]   pairs of f32         read; from pack_weights
//   down_packed      [E, down_tiles, steps, RIGHT_WORDS]                    read; from pack_weights
//   down_columns     [E, down_tiles · COLUMN_WORDS]      pairs of f32         read; from pack_weights
//   row_starts       [E + 1]                                                read
//   panel_starts     [E + 1]                                                read
//   row_scales       [R, 2]                                                 read; from split_tokens
//   progress         [2 + panels]   tiles drawn, -, signals of each panel   from 0
//   large_counts     [R]            activations of LARGE_ROW or more        from 0
//   packed_activated [panels, steps, LEFT_WORDS]                            written and read, the lines of rows
//   gate_up          [R, 2I]                                                written unless null; before the clamps
//   activated        [R, I]                                                 written unless gate_up is null
//   expert_output    [R, H]                                                 written
// Requirements: gate_up_tiles · PANEL_COLUMNS >= 2 · DEPTH_UNIT · ceil(I / DEPTH_UNIT), so that the padding of the
// activations is written.
KERNEL_ALONE(EXPERTS_THREADS)
experts(Global<const uint64> tokens, Global<const uint64> gate_up_packed, Global<const uint64> gate_up_columns,
        Global<const uint64> down_packed, Global<const uint64> down_columns, Global<const int> row_starts,
        Global<const int> panel_starts, Global<const float> row_scales, Global<int> progress, Global<int> large_counts,
        Global<uint64> packed_activated, Global<float> gate_up, Global<float> activated, Global<float> expert_output,
        int64 hidden, int64 intermediate, int64 n_experts, int64 gate_up_tiles, int64 down_tiles, float alpha,
        float limit) {
    LARGE_SHARED_ARRAY(uint64, slots, STAGES * STAGE_WORDS);
    SHARED_ARRAY(uint64, full, STAGES);
    SHARED_ARRAY(uint64, empty, STAGES);
    ALIGNED_SHARED_ARRAY(float, columns, TILES_AHEAD * COLUMN_WORDS * 2);
    SHARED_ARRAY(int, descriptions, TILES_AHEAD * DESCRIPTION_WORDS);
    Ring ring = {shared_address(full), shared_address(empty), shared_address(slots)};
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < STAGES; slot++) {
            barrier_init(ring.full + 8 * slot, 1);
            barrier_init(ring.empty + 8 * slot, CONSUMER_WARPS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    if (threadIdx.x < WARPGROUP) {
        release_registers<40>();
        if (threadIdx.x != 0) return;
        const Queue queue = {row_starts, panel_starts, int(n_experts), int(gate_up_tiles), int(down_tiles)};
        const Product of_gate_up = {tokens, gate_up_packed, gate_up_columns, int(steps_of(hidden)), int(gate_up_tiles)};
        const Product of_down = {packed_activated, down_packed, down_columns, int(steps_of(intermediate)),
                                 int(down_tiles)};
        int turn = 0;
        for (;; turn = (turn + 1) % TILES_AHEAD) {
            const Piece piece = piece_at(queue, atomicAdd(&progress[0], 1));
            if (piece.kind == END) break;
            if (piece.kind == GATE_UP) {
                copy_tile(ring, of_gate_up, piece, descriptions, turn, shared_address(columns));
            } else {
                wait_for_signals(progress, 2 + piece.panel, int(gate_up_tiles) * CONSUMER_WARPS);
                copy_tile(ring, of_down, piece, descriptions, turn, shared_address(columns));
            }
        }
        barrier_wait(ring.empty_here(), ring.parity ^ 1);
        descriptions[turn * DESCRIPTION_WORDS + KIND] = END;
        barrier_arrive(ring.full_here());
    } else {
        claim_registers<232>();
        const int warpgroup = int(threadIdx.x) / WARPGROUP - 1;
        const int line = warpgroup * HALF_PANEL + int(threadIdx.x) % WARPGROUP / WARP * 16 + int(threadIdx.x) % WARP / 4;
        const GateUp to_gate_up = {row_scales,   packed_activated,       large_counts, gate_up, activated,
                                   intermediate, steps_of(intermediate), alpha,        limit};
        const Down to_down = {row_scales, expert_output, hidden};
        float sums[PRODUCT_SUMS];
        for (int turn = 0;; turn = (turn + 1) % TILES_AHEAD) {
            barrier_wait(ring.full_here(), ring.parity);
            const int kind = descriptions[turn * DESCRIPTION_WORDS + KIND];
            if (kind == END) break;
            const int64 pairs = steps_of(kind == GATE_UP ? hidden : intermediate) / 2;
            const bool has_rows = warpgroup * HALF_PANEL < descriptions[turn * DESCRIPTION_WORDS + ROWS];
            if (warpgroup == 1 && pairs > 1) group_wait(FIRST_LEADS, 2 * WARPGROUP);
            multiply(ring, warpgroup, has_rows ? pairs : 0, sums);
            if (!has_rows) pass(ring, pairs);
            const Place place = place_of(descriptions, turn, line);
            if (kind == GATE_UP) {
                if (gate_up) finish_gate_up<true>(to_gate_up, place, columns, sums);
                else finish_gate_up<false>(to_gate_up, place, columns, sums);
                publish();
                __syncwarp();
                if (threadIdx.x % WARP == 0) signal(progress, 2 + place.panel);
            } else {
                finish_down(to_down, place, columns, sums);
            }
        }
    }
}

#endif
