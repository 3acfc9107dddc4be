// experts: both products of all experts, with bias and activation, on Hopper's tensor cores (sm_90a).
//
//   activated     = clamped_swiglu(x · gate_up_proj[e] + gate_up_proj_bias[e])
//   expert_output = activated · down_proj[e] + down_proj_bias[e]
//
// Operands in f32 are split in two f16 (split.cuh) and multiplied as lo·hi + hi·lo + hi·hi. The tensor cores truncate
// their sums, so each covers 64 of the depth, the small products first; these are added up in f32 registers.
//
// Blocks draw pieces of work from one queue (queue.cuh, with a glossary): tiles of gate_up; tiles of down, each of which
// waits for all tiles of gate_up of its panel; and parts of tiles of down, added up by the block that ends last. A piece
// waits only for pieces drawn before it, by blocks that run, so the kernel ends on any number of blocks. Every sum has
// one order, so two runs give the same bits.
//
// A block has three warpgroups: one producer, which copies, and two consumers, which multiply 64 rows each. They share a
// ring of RING_SLOTS slots, each for one k-block of both operands. `full` counts the bytes that have come into a slot,
// `empty` the consumer warps that are done with it.
//
// The second consumer begins a tile after the first products of the first one, so that one adds up while the other
// multiplies. A tile of a single pair skips this barrier; otherwise the first consumer could run a tile ahead.
#include "finish.cuh"

#ifdef HOPPER

constexpr int EXPERTS_THREADS = 3 * WARPGROUP;
constexpr int RING_SLOTS = 5;
constexpr int SLOT_WORDS = LEFT_WORDS + RIGHT_WORDS;
constexpr int FIRST_LEADS = 1;  // the named barrier that the second consumer waits at
// A piece takes two slots of the ring at least, so copies begin no more than three pieces ahead of the slowest warp.
constexpr int PIECE_SLOTS = 4;

static_assert((RING_SLOTS + 1) / 2 < PIECE_SLOTS, "nothing is overwritten while a warp reads it");

// What the warpgroups of a block share, but for the ring.
struct Block {
    Queue queue;
    Global<int> progress;   // pieces drawn, parts that are there of each tile that is cut, signals of each panel
    Shared<Piece> pieces;   // by piece slot
    Shared<float> columns;  // by piece slot: inverse scale and bias of each column
};

// Where the signals of the panels begin in `progress`.
__device__ __forceinline__ int first_signal() {
    return 1 + CONSUMER_WARPS * int(gridDim.x);
}

// A place in the ring of slots. `parity` is that of the phase of `full` in which the slot fills.
struct Ring {
    Address full, empty, slots;
    int slot = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void next() {
        if (++slot == RING_SLOTS) {
            slot = 0;
            parity ^= 1;
        }
    }
    __device__ __forceinline__ Address full_here() const { return full + 8 * slot; }
    __device__ __forceinline__ Address empty_here() const { return empty + 8 * slot; }
    __device__ __forceinline__ Address left() const { return slots + slot * SLOT_WORDS * 8; }
    __device__ __forceinline__ Address right() const { return left() + LEFT_WORDS * 8; }
};

// What all tiles of a product share: the packed rows, the packed matrices, and the columns' scales and biases.
struct Product {
    Global<const uint64> left, right, columns;
    int k_blocks, column_tiles;
};

// Copies the images of a piece, one k-block after the other; with the first its description, scales and biases.
__device__ __forceinline__ void copy_piece(Ring &ring, const Product &product, const Piece &piece, const Block &block,
                                           int piece_slot) {
    const int64 matrix = int64(piece.expert) * product.column_tiles + piece.column_tile;
    const int64 first_k_block = 2 * piece.first_pair;
    const unsigned left_words = piece.rows > HALF_PANEL ? LEFT_WORDS : LEFT_WORDS / 2;
    int64 left = (int64(piece.panel) * product.k_blocks + first_k_block) * LEFT_WORDS;
    int64 right = (matrix * product.k_blocks + first_k_block) * RIGHT_WORDS;
    for (int i = 0; i < 2 * piece.pairs; i++, left += LEFT_WORDS, right += RIGHT_WORDS, ring.next()) {
        barrier_wait(ring.empty_here(), ring.parity ^ 1);
        if (i == 0) {
            block.pieces[piece_slot] = piece;
            barrier_arrive_expecting(ring.full_here(), (left_words + RIGHT_WORDS + COLUMN_WORDS) * 8);
            bulk_copy(shared_address(block.columns) + piece_slot * COLUMN_WORDS * 8, product.columns,
                      matrix * COLUMN_WORDS, COLUMN_WORDS, ring.full_here());
        } else {
            barrier_arrive_expecting(ring.full_here(), (left_words + RIGHT_WORDS) * 8);
        }
        bulk_copy(ring.left(), product.left, left, left_words, ring.full_here());
        bulk_copy(ring.right(), product.right, right, RIGHT_WORDS, ring.full_here());
    }
}

// The producer: one thread draws pieces and copies them to the ring, and an end after the last.
__device__ __forceinline__ void produce(const Block &block, Ring ring, const Product &gate_up, const Product &down) {
    for (int piece_slot = 0;; piece_slot = (piece_slot + 1) % PIECE_SLOTS) {
        const Piece piece = piece_at(block.queue, atomicAdd(&block.progress[0], 1));
        if (piece.kind == GATE_UP) {
            copy_piece(ring, gate_up, piece, block, piece_slot);
        } else if (piece.kind == DOWN) {
            wait_for_signals(block.progress, first_signal() + piece.panel, gate_up.column_tiles * CONSUMER_WARPS);
            copy_piece(ring, down, piece, block, piece_slot);
        } else {
            barrier_wait(ring.empty_here(), ring.parity ^ 1);
            block.pieces[piece_slot] = piece;
            return barrier_arrive(ring.full_here());
        }
    }
}

// An operand in shared memory as the tensor cores take it: lines of 128 bytes along the depth, swizzled.
__device__ __forceinline__ uint64 operand(Address address) {
    return uint64(address >> 4) | uint64(1) << 16 | uint64(1024 >> 4) << 32 | uint64(1) << 62;
}

constexpr int LO = 64 >> 4;       // of an operand, from the hi to the lo of a line
constexpr int SIXTEEN = 32 >> 4;  // 16 further on in the depth

// Gives a slot back; once a warp.
__device__ __forceinline__ void release(Address empty) {
    if (threadIdx.x % WARP == 0) barrier_arrive(empty);
}

// sums = the products of this warpgroup's 64 rows with the columns of the tile, over so many pairs of k-blocks.
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
    for (int k_block = 0; k_block < 2 * pairs; k_block++, ring.next()) {
        barrier_wait(ring.full_here(), ring.parity);
        // A lane that still waited could miss the phase once the slot fills again.
        __syncwarp();
        release(ring.empty_here());
    }
}

// Finishes a piece, whose sums this warpgroup has if it has rows.
__device__ __forceinline__ void finish_piece(const Block &block, const Piece &piece, const Place &place,
                                             const RowScales &scales, const GateUp &gate_up, const Down &down,
                                             Global<float> part_sums, int warp, bool has_rows,
                                             float (&sums)[PRODUCT_SUMS]) {
    if (piece.kind == GATE_UP) {
        if (gate_up.gate_up) finish_gate_up<true>(gate_up, place, scales, block.columns, sums);
        else finish_gate_up<false>(gate_up, place, scales, block.columns, sums);
        publish();
        __syncwarp();
        if (threadIdx.x % WARP == 0) signal(block.progress, first_signal() + place.panel);
    } else if (has_rows) {
        const bool has_all = piece.cut_tile < 0 || sum_parts(part_sums, block.progress, piece.cut_tile, piece.part,
                                                             parts_of(block.queue), warp, sums);
        if (has_all) finish_down(down, place, scales, block.columns, sums);
    }
}

// A consumer: one warpgroup multiplies the pieces that come through the ring, and finishes them.
__device__ __forceinline__ void consume(const Block &block, Ring ring, const GateUp &gate_up, const Down &down,
                                        Global<const float> row_scales, Global<float> part_sums) {
    const int warpgroup = int(threadIdx.x) / WARPGROUP - 1, warp = int(threadIdx.x) / WARP - WARPGROUP / WARP;
    const int line = warp * 16 + int(threadIdx.x) % WARP / 4;
    float sums[PRODUCT_SUMS];
    for (int piece_slot = 0;; piece_slot = (piece_slot + 1) % PIECE_SLOTS) {
        barrier_wait(ring.full_here(), ring.parity);
        const Piece piece = block.pieces[piece_slot];
        if (piece.kind == END) return;
        const RowScales scales = row_scales_of(place_of(piece, piece_slot, line), row_scales);
        const bool has_rows = warpgroup * HALF_PANEL < piece.rows;
        if (warpgroup == 1 && piece.pairs > 1) group_wait(FIRST_LEADS, 2 * WARPGROUP);
        multiply(ring, warpgroup, has_rows ? piece.pairs : 0, sums);
        if (!has_rows) pass(ring, piece.pairs);
        // Read again: beside the sums there are no registers to keep it in.
        const Piece done = block.pieces[piece_slot];
        finish_piece(block, done, place_of(done, piece_slot, line), scales, gate_up, down, part_sums, warp, has_rows,
                     sums);
    }
}

// Grid: at most one block a multiprocessor. Block: EXPERTS_THREADS. Shared memory: RING_SLOTS · SLOT_WORDS words.
// With k_blocks = k_blocks_of(H) for gate_up and k_blocks_of(I) for down:
//   tokens           [panels, k_blocks, LEFT_WORDS]                         read; from split_tokens
//   gate_up_packed   [E, gate_up_tiles, k_blocks, RIGHT_WORDS]              read; from pack_weights
//   gate_up_columns  [E, gate_up_tiles · COLUMN_WORDS]   pairs of f32       read; from pack_weights
//   down_packed      [E, down_tiles, k_blocks, RIGHT_WORDS]                 read; from pack_weights
//   down_columns     [E, down_tiles · COLUMN_WORDS]      pairs of f32       read; from pack_weights
//   row_starts       [E + 1]                                                read
//   panel_starts     [E + 1]                                                read
//   row_scales       [R, 2]                                                 read; from split_tokens
//   progress         [1 + CONSUMER_WARPS · blocks + panels]                 from 0
//                    as in Block
//   large_counts     [R]            activations of LARGE_ROW or more        from 0
//   packed_activated [panels, k_blocks, LEFT_WORDS]                         written and read, the lines of rows
//   part_sums        [cut tiles, parts, PANEL_ROWS · PANEL_COLUMNS]         written and read
//   gate_up          [R, 2I]                                                written unless null; before the clamps
//   activated        [R, I]                                                 written unless gate_up is null
//   expert_output    [R, H]                                                 written
//   cuts_tiles       whether tiles of down may be cut
// Requirements: gate_up_tiles · PANEL_COLUMNS >= 2 · DEPTH_UNIT · ceil(I / DEPTH_UNIT), so that the padding of the
// activations is written.
KERNEL_ALONE(EXPERTS_THREADS)
experts(Global<const uint64> tokens, Global<const uint64> gate_up_packed, Global<const uint64> gate_up_columns,
        Global<const uint64> down_packed, Global<const uint64> down_columns, Global<const int> row_starts,
        Global<const int> panel_starts, Global<const float> row_scales, Global<int> progress, Global<int> large_counts,
        Global<uint64> packed_activated, Global<float> part_sums, Global<float> gate_up, Global<float> activated,
        Global<float> expert_output, int64 hidden, int64 intermediate, int64 n_experts, int64 gate_up_tiles,
        int64 down_tiles, int64 cuts_tiles, float alpha, float limit, float up_offset) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    LARGE_SHARED_ARRAY(uint64, slots, RING_SLOTS * SLOT_WORDS);
    SHARED_ARRAY(uint64, full, RING_SLOTS);
    SHARED_ARRAY(uint64, empty, RING_SLOTS);
    ALIGNED_SHARED_ARRAY(float, columns, PIECE_SLOTS * COLUMN_WORDS * 2);
    SHARED_ARRAY(Piece, pieces, PIECE_SLOTS);
    const Ring ring = {shared_address(full), shared_address(empty), shared_address(slots)};
    if (threadIdx.x == 0) {
        for (int slot = 0; slot < RING_SLOTS; slot++) {
            barrier_init(ring.full + 8 * slot, 1);
            barrier_init(ring.empty + 8 * slot, CONSUMER_WARPS);
        }
        barrier_init_fence();
    }
    __syncthreads();

    const int64 hidden_k_blocks = k_blocks_of(hidden), intermediate_k_blocks = k_blocks_of(intermediate);
    const Block block = {.queue = {.row_starts = row_starts,
                                   .panel_starts = panel_starts,
                                   .experts = int(n_experts),
                                   .blocks = int(gridDim.x),
                                   .gate_up_tiles = int(gate_up_tiles),
                                   .down_tiles = int(down_tiles),
                                   .gate_up_pairs = int(hidden_k_blocks / 2),
                                   .down_pairs = int(intermediate_k_blocks / 2),
                                   .cuts = cuts_tiles != 0},
                         .progress = progress,
                         .pieces = pieces,
                         .columns = columns};
    if (threadIdx.x < WARPGROUP) {
        release_registers<40>();
        if (threadIdx.x != 0) return;
        const Product to_gate_up = {.left = tokens,
                                    .right = gate_up_packed,
                                    .columns = gate_up_columns,
                                    .k_blocks = int(hidden_k_blocks),
                                    .column_tiles = int(gate_up_tiles)};
        const Product to_down = {.left = packed_activated,
                                 .right = down_packed,
                                 .columns = down_columns,
                                 .k_blocks = int(intermediate_k_blocks),
                                 .column_tiles = int(down_tiles)};
        produce(block, ring, to_gate_up, to_down);
    } else {
        claim_registers<232>();
        const GateUp of_gate_up = {.packed = packed_activated,
                                   .large_counts = large_counts,
                                   .gate_up = gate_up,
                                   .activated = activated,
                                   .intermediate = intermediate,
                                   .k_blocks = intermediate_k_blocks,
                                   .alpha = alpha,
                                   .limit = limit,
                                   .up_offset = up_offset};
        const Down of_down = {.expert_output = expert_output, .hidden = hidden};
        consume(block, ring, of_gate_up, of_down, row_scales, part_sums);
    }
}

#endif
