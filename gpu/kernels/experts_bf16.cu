// experts_bf16: both products of all experts in bf16, with bias and activation, on Hopper's tensor cores (sm_90a).
//
//   activated     = bf16(clamped_swiglu(x · gate_up_proj[e] + gate_up_proj_bias[e]))
//   expert_output = bf16(activated · down_proj[e] + down_proj_bias[e])
//
// Operands are bf16, sums f32. The matrix is the left operand, 192 lines of it a tile, since its lines are many; the
// rows of an expert are the right one, whose lines a product takes in eights or sixteens: so few rows cost little.
//
// A block draws tiles (tiles_bf16.cuh). It has four warpgroups: one producer, which copies, and three consumers, which
// multiply 64 lines of the matrix each. One thread of the producer draws the tiles and copies the matrix, from images
// that pack_weights_bf16 made; it never waits for activations, so that memory is read while gate_up ends. Another one
// copies the rows, gate_up's from the images that were gathered and down's from those that tiles of gate_up leave. A
// k-block of both stands in one slot of a ring, which has as many slots as there is room for: with fewer rows, more.
//
// The other two warps of the producer gather the rows that no kernel before has gathered, in the order of the panels, while
// others multiply. They draw rows one by one, and wait for nothing.
//
// Few assignments are counted by each block here, while route_gather_bf16 gathers their rows: that kernel lets this one
// start once everything before it is there and `progress` is cleared. Then only the copies of rows wait for it.
//
// A tile waits only for tiles drawn before it, by blocks that run, and for rows that any block can draw, so the kernel
// ends on any number of blocks. Every sum has one order, so two runs give the same bits.
#include "finish_bf16.cuh"
#include "rows_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int RING_BYTES = 209 * 1024;
constexpr int MATRIX_BYTES = MATRIX_WORDS * 8;
constexpr int LINE_BYTES = LINE_WORDS * 8;
constexpr int MOST_SLOTS = 8;
constexpr int TILES_AHEAD = 2;
constexpr int FEW_LINES = 32;     // of a panel: their products take less time than the wait for them
constexpr int SIXTEEN = 32 >> 4;  // of an operand: 16 further on in the depth
constexpr int FEWEST_LINES = 8;   // of a product: one block of sums
constexpr int CHUNKS_IN_FLIGHT = 2;  // that a lane loads, beside few registers

// What `progress` counts: tiles drawn, rows drawn, the signals of each panel, and then the rows gathered of each.
enum Count { TILES_DRAWN, ROWS_DRAWN, FIRST_SIGNALS };

// Words of a tile in shared memory.
enum Word { KIND, PANEL, LINE_TILE, SKIPPED, TAKEN, FIRST_ROW, ROWS, FIRST_LINE, LINES, K_BLOCKS, TILE_WORDS };

// A place in a ring of `count` slots. `parity` is that of the phase of `full` in which the slot fills. The barriers
// stand one after the other, MOST of `full` and then as many of `empty`.
template <int MOST>
struct Ring {
    Address barriers;
    int count, slot = 0;
    unsigned parity = 0;

    __device__ __forceinline__ void next() {
        if (++slot == count) {
            slot = 0;
            parity ^= 1;
        }
    }
    __device__ __forceinline__ Address full() const { return barriers + 8 * slot; }
    __device__ __forceinline__ Address empty() const { return barriers + 8 * (MOST + slot); }
    __device__ __forceinline__ Address empty_before() const {
        return barriers + 8 * (MOST + (slot > 0 ? slot : count) - 1);
    }
    __device__ __forceinline__ void init(unsigned to_fill, unsigned to_empty) const {
        for (int i = 0; i < MOST; i++) {
            barrier_init(barriers + 8 * i, to_fill);
            barrier_init(barriers + 8 * (MOST + i), to_empty);
        }
    }
};

// The ring of k-blocks: a slot holds the image of the matrix and then the rows.
struct Slots : Ring<MOST_SLOTS> {
    Address first;
    int bytes;  // of a slot

    __device__ __forceinline__ Address matrix() const { return first + slot * bytes; }
    __device__ __forceinline__ Address rows() const { return matrix() + MATRIX_BYTES; }
};

// Of the ring of k-blocks: bytes of a slot, and slots.
struct Shape {
    int bytes, count;
};

// As many slots as there is room for with panels of so many lines.
__device__ __forceinline__ Shape shape_of(int most_lines) {
    const int bytes = MATRIX_BYTES + most_lines * LINE_BYTES;
    return {bytes, int(smaller(MOST_SLOTS, RING_BYTES / bytes))};
}

// An operand in shared memory as the tensor cores take it: lines of 128 bytes along the depth, swizzled.
__device__ __forceinline__ uint64 operand(Address address) {
    return uint64(address >> 4) | uint64(1) << 16 | uint64(1024 >> 4) << 32 | uint64(1) << 62;
}

// Copies so many lines of each image of a tile's matrix; `word` is that where those of the first image begin.
__device__ __forceinline__ void copy_matrix(Slots &slots, Global<const uint64> packed, int64 word, int lines,
                                            int k_blocks, uint64 policy) {
    for (int k_block = 0; k_block < k_blocks; k_block++, slots.next()) {
        barrier_wait(slots.empty(), slots.parity ^ 1);
        barrier_arrive_expecting(slots.full(), lines * LINE_BYTES);
        bulk_copy_hinted(slots.matrix(), packed, word + int64(k_block) * MATRIX_WORDS, lines * LINE_WORDS, slots.full(),
                         policy);
    }
}

// Copies the images of a tile's rows.
__device__ __forceinline__ void copy_rows(Slots &slots, Global<const uint64> packed, int64 first_line, int lines,
                                          int k_blocks) {
    for (int k_block = 0; k_block < k_blocks; k_block++, slots.next()) {
        barrier_wait(slots.empty(), slots.parity ^ 1);
        barrier_arrive_expecting(slots.full(), lines * LINE_BYTES);
        bulk_copy(slots.rows(), packed, (first_line * k_blocks + int64(k_block) * lines) * LINE_WORDS,
                  lines * LINE_WORDS, slots.full());
    }
}

// Copies a token to its line, by the warp: each lane one chunk of every fourth image. Zeros beyond H.
__device__ __forceinline__ void copy_row(Global<const Bf16> hidden_states, Global<uint64> packed_rows, int64 token,
                                         int hidden, int k_blocks, const Line &line) {
    const Chunk nothing = {{0, 0}};
    const int lane = threadIdx.x % WARP, step = WARP / 8 * line.next * CHUNK_WORDS;
    int64 from = token * hidden + lane * CHUNK;
    int64 to = (line.first + lane / 8 * line.next + (lane % 8 ^ line.swizzle)) * CHUNK_WORDS;
#pragma unroll 1
    for (int first = lane; first < k_blocks * 8; first += WARP * CHUNKS_IN_FLIGHT) {
        Chunk found[CHUNKS_IN_FLIGHT];
#pragma unroll
        for (int i = 0; i < CHUNKS_IN_FLIGHT; i++) {
            const bool is_of_depth = (first + i * WARP) * CHUNK < hidden;
            found[i] = is_of_depth ? load_chunk(hidden_states, from + i * WARP * CHUNK) : nothing;
        }
#pragma unroll
        for (int i = 0; i < CHUNKS_IN_FLIGHT; i++)
            if (first + i * WARP < k_blocks * 8) store_chunk(packed_rows, to + i * step, found[i]);
        from += CHUNKS_IN_FLIGHT * WARP * CHUNK;
        to += CHUNKS_IN_FLIGHT * step;
    }
}

// Gathers rows from the first row of a panel on, as long as there are some that no warp has drawn.
__device__ __forceinline__ void gather(const Work &work, Global<const Bf16> hidden_states,
                                       Global<const int> assignment_of, Global<uint64> packed_rows,
                                       Global<int> progress, int64 hidden, int64 top_k, int64 first_panel) {
    const auto &all = work.rows;
    const int lane = threadIdx.x % WARP, first = first_row_of(all, first_panel), end = all.row_starts[all.experts];
    while (first < end) {
        const int drawn = lane == 0 ? atomicAdd(&progress[ROWS_DRAWN], 1) : 0;
        const int row = first + __shfl_sync(ALL_LANES, drawn, 0);
        if (row >= end) break;
        const int k_blocks = work.of(GATE_UP).k_blocks;
        const Line line = line_of(all, last_not_above(all.row_starts, all.experts, row), row, k_blocks);
        copy_row(hidden_states, packed_rows, assignment_of[row] / int(top_k), int(hidden), k_blocks, line);
        publish();
        __syncwarp();
        if (lane == 0) signal(progress, FIRST_SIGNALS + all.panels + line.panel);
    }
}

// Gives a slot back; once a warp.
__device__ __forceinline__ void release(Address empty) {
    if (threadIdx.x % WARP == 0) barrier_arrive(empty);
}

// Adds the products of a k-block with one block of 8 rows.
__device__ __forceinline__ void products_with_fewest(uint64 left, uint64 right, float (&sums)[WIDE_SUMS]) {
#pragma unroll
    for (int i = 0; i < K_BLOCK / 16; i++) product_bf16<FEWEST_LINES, 0>(sums, left + i * SIXTEEN, right + i * SIXTEEN);
}

// Adds the products of a k-block with a block of LINES rows and then with another one.
template <int LINES>
__device__ __forceinline__ void products_with(uint64 left, uint64 right, float (&sums)[WIDE_SUMS]) {
    constexpr int NEXT_BLOCK = LINES * LINE_BYTES / 16;
#pragma unroll
    for (int i = 0; i < K_BLOCK / 16; i++) {
        product_bf16<LINES, 0>(sums, left + i * SIXTEEN, right + i * SIXTEEN);
        product_bf16<LINES, BLOCK_SUMS>(sums, left + i * SIXTEEN, right + NEXT_BLOCK + i * SIXTEEN);
    }
}

// sums += the products of this warpgroup's 64 lines of the matrix with so many lines of rows, over so many k-blocks.
// `lines` is the same for the warp: FEWEST_LINES, a multiple of 16, or 0 for a warpgroup that only gives slots back. The
// switch stands inside the loop, so that the sums keep their registers. With many rows a slot is given back at once,
// while the other warpgroups multiply. With few, the products of two k-blocks are under way.
__device__ __forceinline__ void multiply(Slots &slots, int lines, int k_blocks, float (&sums)[WIDE_SUMS]) {
    const int first_line = (int(threadIdx.x) / WARPGROUP - 1) * 64;
    for (int k_block = 0; k_block < k_blocks; k_block++) {
        barrier_wait(slots.full(), slots.parity);
        const uint64 left = operand(slots.matrix() + first_line * LINE_BYTES), right = operand(slots.rows());
        product_fence();
#define PRODUCTS_WITH(LINES) \
    case 2 * LINES:          \
        products_with<LINES>(left, right, sums); break
        switch (lines) {
            case FEWEST_LINES: products_with_fewest(left, right, sums); break;
            PRODUCTS_WITH(8);
            PRODUCTS_WITH(16);
            PRODUCTS_WITH(24);
            PRODUCTS_WITH(32);
            PRODUCTS_WITH(40);
            PRODUCTS_WITH(48);
            PRODUCTS_WITH(56);
            PRODUCTS_WITH(64);
            PRODUCTS_WITH(72);
            PRODUCTS_WITH(80);
            PRODUCTS_WITH(88);
            PRODUCTS_WITH(96);
            PRODUCTS_WITH(104);
            PRODUCTS_WITH(112);
            PRODUCTS_WITH(120);
            PRODUCTS_WITH(128);
        }
#undef PRODUCTS_WITH
        products_commit();
        if (lines > FEW_LINES) {
            products_wait();
            release(slots.empty());
        } else {
            products_wait_but_last();
            if (k_block > 0) release(slots.empty_before());
        }
        slots.next();
    }
    products_wait();
    if (lines <= FEW_LINES) release(slots.empty_before());
    hold_wide_sums(sums);
}

// Grid: at most one block a multiprocessor. Block: EXPERTS_THREADS. Shared memory: RING_BYTES.
// With line_tiles and k_blocks as in tiles_bf16.cuh:
//   hidden_states    [T, H]                                     read
//   assignment_of    [R]                                        read; null if all panels are gathered
//   packed_rows      [lines, k_blocks, LINE_WORDS]              read, the first gathered_panels; the others written and read
//   row_starts       [E + 1]                                    read; null if this kernel counts
//   router_indices   [assignments]                              read; null if this kernel does not count
//   gate_up_packed   [E, line_tiles, k_blocks, MATRIX_WORDS]    read; from pack_weights_bf16
//   gate_up_bias     [E, line_tiles · MATRIX_LINES]   f32       read; from pack_weights_bf16
//   down_packed      [E, line_tiles, k_blocks, MATRIX_WORDS]    read; from pack_weights_bf16
//   down_bias        [E, line_tiles · MATRIX_LINES]   f32       read; from pack_weights_bf16
//   progress         [2 + 2 · panels]                           from 0; see Count
//   activated        [lines, k_blocks, LINE_WORDS]              written and read, the lines of rows
//   expert_output    [R, H]                                     written
// Requirements: H and I are multiples of 8, E <= LARGEST_EXPERTS.
KERNEL_ALONE(EXPERTS_THREADS)
experts_bf16(Global<const Bf16> hidden_states, Global<const int> assignment_of, Global<uint64> packed_rows,
             Global<const int> row_starts, Global<const int64> router_indices, Global<const uint64> gate_up_packed,
             Global<const uint64> gate_up_bias, Global<const uint64> down_packed, Global<const uint64> down_bias,
             Global<int> progress, Global<uint64> activated, Global<Bf16> expert_output, int64 hidden,
             int64 intermediate, int64 n_experts, int64 top_k, int64 assignments, int64 first_expert, int64 capacity,
             int64 gathered_panels, float alpha, float limit, float up_offset) {
    let_next_kernel_start();
    LARGE_SHARED_ARRAY(uint64, ring, RING_BYTES / 8);
    SHARED_ARRAY(uint64, slot_barriers, 2 * MOST_SLOTS);
    SHARED_ARRAY(uint64, tile_barriers, 2 * TILES_AHEAD);
    SHARED_ARRAY(int, words, TILES_AHEAD * TILE_WORDS);
    ALIGNED_SHARED_ARRAY(float, biases, TILES_AHEAD * MATRIX_LINES);
    SHARED_ARRAY(int, starts, LARGEST_EXPERTS + 1);
    SHARED_ARRAY(int, panel_starts, LARGEST_EXPERTS + 1);
    ALIGNED_SHARED_ARRAY(uint64, buffers, 3 * BUFFERS * BUFFER_BYTES / 8);
    Ring<TILES_AHEAD> tiles = {shared_address(tile_barriers), TILES_AHEAD};
    Slots slots = {{shared_address(slot_barriers), MOST_SLOTS}, shared_address(ring), 0};
    if (threadIdx.x == 0) {
        slots.init(2, CONSUMER_WARPS);
        tiles.init(1, CONSUMER_WARPS * WARP + 1);
        barrier_init_fence();
    }
    const int experts = int(n_experts);
    int own_rows;  // of the expert of this thread
    if (row_starts) {
        wait_for_earlier_kernels();
        own_rows = rows_between(row_starts, experts);
    } else {
        own_rows = count_rows(router_indices, int(assignments), first_expert, capacity, experts, panel_starts);
    }
    // In shared memory, since the producer has few registers.
    SHARED_ARRAY(Product, products, 2);
    SHARED_ARRAY(Shape, shapes, 1);
    const Work work = {find_rows(own_rows, starts, panel_starts, experts), products};
    if (threadIdx.x == 0) products[GATE_UP] = gate_up_of(work.rows, hidden, intermediate);
    if (threadIdx.x == WARP) products[DOWN] = down_of(work.rows, hidden, intermediate);
    if (threadIdx.x == 2 * WARP) shapes[0] = shape_of(work.rows.most_lines);
    __syncthreads();
    const Shape shape = shapes[0];
    slots.bytes = shape.bytes;
    slots.count = shape.count;

    const int lane = threadIdx.x % WARP;
    if (threadIdx.x < WARPGROUP) {
        release_registers<32>();
        if (threadIdx.x == 0) {
            // The matrix of an expert with one panel is read once, and would push rows out of the L2 cache.
            const uint64 once = read_once(), again = read_again();
            for (;; tiles.next()) {
                const Tile tile = tile_at(work, atomicAdd(&progress[TILES_DRAWN], 1));
                barrier_wait(tiles.empty(), tiles.parity ^ 1);
                const int word = tiles.slot * TILE_WORDS;
                words[word + KIND] = tile.kind;
                if (tile.kind == END) {
                    barrier_arrive(tiles.full());
                    break;
                }
                const Product product = work.of(tile.kind);
                words[word + PANEL] = tile.panel;
                words[word + LINE_TILE] = tile.line_tile;
                words[word + SKIPPED] = tile.skipped;
                words[word + TAKEN] = tile.taken;
                words[word + FIRST_ROW] = tile.first_row;
                words[word + ROWS] = tile.rows;
                words[word + FIRST_LINE] = tile.first_line;
                words[word + LINES] = tile.lines;
                words[word + K_BLOCKS] = product.k_blocks;
                const int64 line_tile = int64(tile.expert) * product.line_tiles + tile.line_tile;
                barrier_arrive_expecting(tiles.full(), tile.taken * 4);
                bulk_copy(shared_address(biases) + tiles.slot * MATRIX_LINES * 4,
                          tile.kind == GATE_UP ? gate_up_bias : down_bias,
                          (line_tile * MATRIX_LINES + tile.skipped) / 2, tile.taken / 2, tiles.full());
                copy_matrix(slots, tile.kind == GATE_UP ? gate_up_packed : down_packed,
                            line_tile * product.k_blocks * MATRIX_WORDS + tile.skipped * LINE_WORDS, tile.taken,
                            product.k_blocks, tile.panels > 1 ? again : once);
            }
        } else if (threadIdx.x == WARP) {
            wait_for_earlier_kernels();
            for (;; tiles.next()) {
                barrier_wait(tiles.full(), tiles.parity);
                const int word = tiles.slot * TILE_WORDS, kind = words[word + KIND];
                if (kind == END) break;
                const int panel = words[word + PANEL], first_line = words[word + FIRST_LINE];
                const int rows = words[word + ROWS], lines = words[word + LINES];
                barrier_arrive(tiles.empty());
                if (kind == DOWN)
                    wait_for_signals(progress, FIRST_SIGNALS + panel,
                                     work.of(GATE_UP).parts_of_panel() * CONSUMER_WARPS);
                else if (panel >= gathered_panels)
                    wait_for_signals(progress, FIRST_SIGNALS + work.rows.panels + panel, rows);
                copy_rows(slots, Global<const uint64>(kind == GATE_UP ? packed_rows : activated), first_line, lines,
                          work.of(kind).k_blocks);
            }
        } else if (threadIdx.x >= 2 * WARP) {
            gather(work, hidden_states, assignment_of, packed_rows, progress, hidden, top_k, gathered_panels);
        }
    } else {
        claim_registers<160>();
        // First the epilogue of each product runs once with no tile and stores nothing: its code is fetched while the
        // first images come.
        for (int kind = END;;) {
            kind--;
            const bool fetches = kind >= GATE_UP;
            const Address word = shared_address(words) + tiles.slot * TILE_WORDS * 4;
            if (!fetches) {
                barrier_wait(tiles.full(), tiles.parity);
                if (shared_int(word + KIND * 4) == END) break;
            }
            float sums[WIDE_SUMS];
#pragma unroll
            for (int i = 0; i < WIDE_SUMS; i++) sums[i] = 0.0f;
            int height = LINES_UNIT / 2;  // rows of a block of sums
            if (!fetches) {
                const bool has_lines = (int(threadIdx.x) / WARPGROUP - 1) * 64 < shared_int(word + TAKEN * 4);
                const int lines = shared_int(word + LINES * 4);
                const bool is_one_block = shared_int(word + ROWS * 4) <= FEWEST_LINES;
                multiply(slots, __shfl_sync(ALL_LANES, !has_lines ? 0 : is_one_block ? FEWEST_LINES : lines, 0),
                         shared_int(word + K_BLOCKS * 4), sums);
                height = lines / 2;
                kind = shared_int(word + KIND * 4);
            }
            const int warp = int(threadIdx.x - WARPGROUP) / WARP, warpgroup = warp / (WARPGROUP / WARP);
            const Address buffer = shared_address(buffers) + warpgroup * BUFFERS * BUFFER_BYTES;
            const Address bias_at = shared_address(biases) + (tiles.slot * MATRIX_LINES + warp * 16 + lane / 4) * 4;
            const auto of_tile = [&](int which, int if_none) {
                return fetches ? if_none : shared_int(word + which * 4);
            };
            // Lines of the matrix: the first of the warpgroup, and so many from there on.
            const int64 first = int64(of_tile(LINE_TILE, 0)) * MATRIX_LINES + of_tile(SKIPPED, 0) + warpgroup * 64;
            const int taken = of_tile(TAKEN, 0) - warpgroup * 64;
            const float bias[2] = {fetches ? 0.0f : shared_float(bias_at),
                                   fetches ? 0.0f : shared_float(bias_at + 8 * 4)};
            if (kind == GATE_UP) {
                const GateUp to = {activated, of_tile(FIRST_LINE, 0), of_tile(LINES, 0),
                                   ceil_div(intermediate, K_BLOCK), intermediate / CHUNK, first / 16, taken / 16, alpha,
                                   limit, up_offset};
                finish_gate_up(to, buffer, of_tile(ROWS, 1), height, bias, sums);
                publish();
                __syncwarp();
                if (!fetches && lane == 0) signal(progress, FIRST_SIGNALS + shared_int(word + PANEL * 4));
            } else {
                const Down to = {expert_output, of_tile(FIRST_ROW, 0), hidden, first, taken};
                finish_down(to, buffer, of_tile(ROWS, 1), height, bias, sums);
            }
            if (fetches) continue;
            kind = GATE_UP;
            barrier_arrive(tiles.empty());  // each thread, since each has read
            tiles.next();
        }
    }
}

}  // namespace bf16

#endif
