// experts: both products of all experts, with bias and activation, on Hopper's tensor cores (sm_90a).
//
//   activated     = clamped_swiglu(x · gate_up_proj[e] + gate_up_proj_bias[e])
//   expert_output = activated · down_proj[e] + down_proj_bias[e]
//
// f32 operands are split in two f16 (split.cuh) and multiplied as lo·hi + hi·lo + hi·hi. The tensor cores truncate
// their sums, so sums over 64 of the depth are added up in registers, in f32, the small products first.
//
// Blocks draw pieces of work from one queue (queue.cuh): tiles of gate_up, tiles of down, which wait until all tiles of
// gate_up of their panel are there, and parts of tiles of down, whose sums the last one adds up. A piece waits only for
// pieces drawn before it, by blocks that run, so that any number of blocks comes to an end. Every sum has one order, so
// two runs give the same bits.
//
// A block has one warpgroup that copies and two that multiply, 64 rows each. The images of a step of both operands
// stand in one of STAGES slots; `full` counts the bytes that have come, `empty` the warps that are done with them. The
// second warpgroup begins a tile after the first products of the first one, so that one adds up while the other
// multiplies. Tiles of one pair of steps do without: there the first warpgroup could be a tile ahead.
#include "finish.cuh"

#ifdef HOPPER

constexpr int EXPERTS_THREADS = 3 * WARPGROUP;
constexpr int STAGES = 5;
constexpr int STAGE_WORDS = LEFT_WORDS + RIGHT_WORDS;
constexpr int FIRST_LEADS = 1;  // the named barrier that the second warpgroup waits at
// Descriptions, inverse scales and biases of this many pieces stand in shared memory, by turns. A piece takes two slots
// at least, so that copies begin no more than three pieces ahead of the slowest warp.
constexpr int PIECES_AHEAD = 4;

static_assert((STAGES + 1) / 2 < PIECES_AHEAD, "nothing is overwritten while a warp reads it");

// Where the signals of the panels stand in `progress`.
__device__ __forceinline__ int first_signal() {
    return 1 + CONSUMER_WARPS * int(gridDim.x);
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

// Copies the images of a piece, step after step, and with the first step its description and its scales and biases.
__device__ __forceinline__ void copy_piece(Ring &ring, const Product &product, const Piece &piece,
                                           Shared<int> descriptions, int turn, Address columns) {
    const int64 matrix = int64(piece.expert) * product.column_tiles + piece.column_tile;
    const int64 first_step = 2 * piece.first_pair;
    const unsigned left_words = piece.rows > HALF_PANEL ? LEFT_WORDS : LEFT_WORDS / 2;
    int64 left = (int64(piece.panel) * product.steps + first_step) * LEFT_WORDS;
    int64 right = (matrix * product.steps + first_step) * RIGHT_WORDS;
    for (int step = 0; step < 2 * piece.pairs; step++, left += LEFT_WORDS, right += RIGHT_WORDS, ring.next()) {
        barrier_wait(ring.empty_here(), ring.parity ^ 1);
        if (step == 0) {
            const int word = turn * DESCRIPTION_WORDS;
            descriptions[word + KIND] = piece.kind;
            descriptions[word + PANEL] = piece.panel;
            descriptions[word + COLUMN_TILE] = piece.column_tile;
            descriptions[word + FIRST_ROW] = piece.first_row;
            descriptions[word + ROWS] = piece.rows;
            descriptions[word + PAIRS] = piece.pairs;
            descriptions[word + CUT_TILE] = piece.cut_tile;
            descriptions[word + PART] = piece.part;
            barrier_arrive_expecting(ring.full_here(), (left_words + RIGHT_WORDS + COLUMN_WORDS) * 8);
            bulk_copy(columns + turn * COLUMN_WORDS * 8, product.columns, matrix * COLUMN_WORDS, COLUMN_WORDS,
                      ring.full_here());
        } else {
            barrier_arrive_expecting(ring.full_here(), (left_words + RIGHT_WORDS) * 8);
        }
        bulk_copy(ring.left(), product.left, left, left_words, ring.full_here());
        bulk_copy(ring.right(), product.right, right, RIGHT_WORDS, ring.full_here());
    }
}

// Gives a slot back; once a warp.
__device__ __forceinline__ void release(Address empty) {
    if (threadIdx.x % WARP == 0) barrier_arrive(empty);
}

// sums = the products of this warpgroup's 64 rows with the columns of the tile, over `pairs` pairs of steps.
__device__ __forceinline__ void multiply(Ring &ring, int warpgroup, int pairs, float (&sums)[PRODUCT_SUMS]) {
    float part[PRODUCT_SUMS];
#pragma unroll
    for (int i = 0; i < PRODUCT_SUMS; i++) sums[i] = 0.0f;
    for (int pair = 0; pair < pairs; pair++) {
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

// Gives back the slots of a piece in which this warpgroup has no rows.
__device__ __forceinline__ void pass(Ring &ring, int pairs) {
    for (int step = 0; step < 2 * pairs; step++, ring.next()) {
        barrier_wait(ring.full_here(), ring.parity);
        // A lane that still waited could miss the phase once the slot fills again.
        __syncwarp();
        release(ring.empty_here());
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
//   progress         [1 + CONSUMER_WARPS · blocks + panels]                 from 0
//                    pieces drawn, parts that have come of each tile that is cut, signals of each panel
//   large_counts     [R]            activations of LARGE_ROW or more        from 0
//   packed_activated [panels, steps, LEFT_WORDS]                            written and read, the lines of rows
//   part_sums        [cut tiles, parts, PANEL_ROWS · PANEL_COLUMNS]         written and read
//   gate_up          [R, 2I]                                                written unless null; before the clamps
//   activated        [R, I]                                                 written unless gate_up is null
//   expert_output    [R, H]                                                 written
// Requirements: gate_up_tiles · PANEL_COLUMNS >= 2 · DEPTH_UNIT · ceil(I / DEPTH_UNIT), so that the padding of the
// activations is written.
KERNEL_ALONE(EXPERTS_THREADS)
experts(Global<const uint64> tokens, Global<const uint64> gate_up_packed, Global<const uint64> gate_up_columns,
        Global<const uint64> down_packed, Global<const uint64> down_columns, Global<const int> row_starts,
        Global<const int> panel_starts, Global<const float> row_scales, Global<int> progress, Global<int> large_counts,
        Global<uint64> packed_activated, Global<float> part_sums, Global<float> gate_up, Global<float> activated,
        Global<float> expert_output, int64 hidden, int64 intermediate, int64 n_experts, int64 gate_up_tiles,
        int64 down_tiles, float alpha, float limit) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    LARGE_SHARED_ARRAY(uint64, slots, STAGES * STAGE_WORDS);
    SHARED_ARRAY(uint64, full, STAGES);
    SHARED_ARRAY(uint64, empty, STAGES);
    ALIGNED_SHARED_ARRAY(float, columns, PIECES_AHEAD * COLUMN_WORDS * 2);
    SHARED_ARRAY(int, descriptions, PIECES_AHEAD * DESCRIPTION_WORDS);
    Ring ring = {shared_address(full), shared_address(empty), shared_address(slots)};
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < STAGES; slot++) {
            barrier_init(ring.full + 8 * slot, 1);
            barrier_init(ring.empty + 8 * slot, CONSUMER_WARPS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    const Queue queue = {row_starts,
                         panel_starts,
                         int(n_experts),
                         int(gridDim.x),
                         int(gate_up_tiles),
                         int(down_tiles),
                         int(steps_of(hidden) / 2),
                         int(steps_of(intermediate) / 2)};
    if (threadIdx.x < WARPGROUP) {
        release_registers<40>();
        if (threadIdx.x != 0) return;
        const Product of_gate_up = {tokens, gate_up_packed, gate_up_columns, int(steps_of(hidden)),
                                    int(gate_up_tiles)};
        const Product of_down = {packed_activated, down_packed, down_columns, int(steps_of(intermediate)),
                                 int(down_tiles)};
        int turn = 0;
        for (;; turn = (turn + 1) % PIECES_AHEAD) {
            const Piece piece = piece_at(queue, atomicAdd(&progress[0], 1));
            if (piece.kind == END) break;
            if (piece.kind == GATE_UP) {
                copy_piece(ring, of_gate_up, piece, descriptions, turn, shared_address(columns));
            } else {
                wait_for_signals(progress, first_signal() + piece.panel, int(gate_up_tiles) * CONSUMER_WARPS);
                copy_piece(ring, of_down, piece, descriptions, turn, shared_address(columns));
            }
        }
        barrier_wait(ring.empty_here(), ring.parity ^ 1);
        descriptions[turn * DESCRIPTION_WORDS + KIND] = END;
        barrier_arrive(ring.full_here());
    } else {
        claim_registers<232>();
        const int warpgroup = int(threadIdx.x) / WARPGROUP - 1, warp = int(threadIdx.x) / WARP - WARPGROUP / WARP;
        const int line = warp * 16 + int(threadIdx.x) % WARP / 4;
        const GateUp to_gate_up = {packed_activated, large_counts, gate_up, activated, intermediate,
                                   steps_of(intermediate), alpha, limit};
        const Down to_down = {expert_output, hidden};
        float sums[PRODUCT_SUMS];
        for (int turn = 0;; turn = (turn + 1) % PIECES_AHEAD) {
            barrier_wait(ring.full_here(), ring.parity);
            const int word = turn * DESCRIPTION_WORDS;
            const int kind = descriptions[word + KIND];
            if (kind == END) break;
            const int pairs = descriptions[word + PAIRS];
            const RowScales scales = row_scales_of(descriptions, turn, line, row_scales);
            const bool has_rows = warpgroup * HALF_PANEL < descriptions[word + ROWS];
            if (warpgroup == 1 && pairs > 1) group_wait(FIRST_LEADS, 2 * WARPGROUP);
            multiply(ring, warpgroup, has_rows ? pairs : 0, sums);
            if (!has_rows) pass(ring, pairs);
            const Place place = place_of(descriptions, turn, line);
            if (kind == GATE_UP) {
                if (gate_up) finish_gate_up<true>(to_gate_up, place, scales, columns, sums);
                else finish_gate_up<false>(to_gate_up, place, scales, columns, sums);
                publish();
                __syncwarp();
                if (threadIdx.x % WARP == 0) signal(progress, first_signal() + place.panel);
                continue;
            }
            const int cut_tile = descriptions[word + CUT_TILE], part = descriptions[word + PART];
            if (!has_rows) continue;
            if (cut_tile < 0 || sum_parts(part_sums, progress, cut_tile, part, parts_of(queue), warp, sums))
                finish_down(to_down, place, scales, columns, sums);
        }
    }
}

#endif
