// sort_tokens_by_expert: the stable order of the assignments, the bins, and the rows that a capacity keeps.
//
// The assignments are cut into tiles of 256, one warp a tile. No block writes what another block of the same launch
// reads, so the result does not depend on the order in which blocks run.
//
//   count_assignments   counts[tile, e] = the tile's assignments of expert e
//   scan_bins           counts[tile, e] = the assignments of expert e in earlier tiles; bins, row_starts, tile_starts,
//                       panel_starts
//   rank_assignments    the place of each assignment in the stable order
//   place_order         the same from an order that the caller gives
//
// The local experts are those from the id first_expert on. An assignment with any other id is in no bin and has no row.
//
// Requirements: 0 <= first_expert < 2^63 - E, T·K < 2^31, E < 2^31 - 1, C <= T·K.
#include "ptx.cuh"
#include "tile.cuh"

constexpr int ROUTE_TILE = 256;
constexpr int ROUTE_WARPS = 4;
constexpr int ROUTE_THREADS = ROUTE_WARPS * WARP;
constexpr int ROUTE_STEPS = ROUTE_TILE / WARP;
constexpr int SCAN_THREADS = 128;
constexpr int SCAN_TILES = 16;  // that a thread loads at once

__device__ __forceinline__ int64 route_tile() {
    return int64(blockIdx.x) * ROUTE_WARPS + threadIdx.x / WARP;
}

// The lanes of the warp below this one.
__device__ __forceinline__ unsigned lanes_below() {
    return (1u << threadIdx.x % WARP) - 1;
}

// The local experts of the tile's assignments, as the lane takes them: one in each step, or -1 where there is none.
__device__ __forceinline__ void load_experts(Global<const int64> router_indices, int64 assignments, int64 experts,
                                             int64 first_expert, int (&expert_of)[ROUTE_STEPS]) {
    const int64 first = route_tile() * ROUTE_TILE + threadIdx.x % WARP;
#pragma unroll
    for (int step = 0; step < ROUTE_STEPS; step++) {
        const int64 assignment = first + step * WARP;
        expert_of[step] =
            assignment < assignments ? local_expert(router_indices[assignment], first_expert, experts) : -1;
    }
}

// Position in the sorted order of an expert's first assignment; bins are inclusive.
__device__ __forceinline__ int expert_start(Global<const int> bins, int expert) {
    return expert == 0 ? 0 : bins[expert - 1];
}

// Gives the assignment with this rank in its expert its row, or none if the rank lies beyond the capacity.
__device__ __forceinline__ void assign_row(Global<const int> row_starts, Global<int> row_of, Global<int> assignment_of,
                                           int64 assignment, int expert, int rank, int64 capacity) {
    if (rank < capacity) {
        const int row = row_starts[expert] + rank;
        row_of[assignment] = row;
        assignment_of[row] = int(assignment);
    } else {
        row_of[assignment] = -1;
    }
}

// counts[tile, e] = the number of assignments of expert e in the tile.
//
// Grid: ceil(tiles / ROUTE_WARPS), tiles = ceil(T·K / ROUTE_TILE). Block: ROUTE_THREADS.
//   router_indices [T·K]        read
//   counts         [tiles, E]   written
KERNEL(ROUTE_THREADS)
count_assignments(Global<const int64> router_indices, Global<int> counts, int64 assignments, int64 experts,
                  int64 first_expert) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    const int64 first = route_tile() * ROUTE_TILE;
    if (first >= assignments) return;
    const int64 row = route_tile() * experts;
    const int lane = threadIdx.x % WARP;

    int expert_of[ROUTE_STEPS];
    load_experts(router_indices, assignments, experts, first_expert, expert_of);
    for (int64 expert = lane; expert < experts; expert += WARP) counts[row + expert] = 0;
    __syncwarp();
#pragma unroll
    for (int step = 0; step < ROUTE_STEPS; step++) {
        const int expert = expert_of[step];
        const unsigned peers = __match_any_sync(ALL_LANES, expert);
        const bool is_first_peer = (peers & lanes_below()) == 0;
        if (expert >= 0 && is_first_peer) atomicAdd(&counts[row + expert], __popc(peers));
    }
}

// Pieces of so many rows for an expert that keeps so many assignments.
__device__ __forceinline__ int pieces(int kept, int rows) {
    return kept / rows + (kept % rows != 0);
}

// Inclusive prefix sum of one value a thread over the block, and in `total` the sum over the block.
__device__ __forceinline__ int block_prefix(int value, Shared<int> warp_sums, int &total) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int prefix = value;
    for (int distance = 1; distance < WARP; distance *= 2) {
        const int below = __shfl_up_sync(ALL_LANES, prefix, distance);
        if (lane >= distance) prefix += below;
    }
    if (lane == WARP - 1) warp_sums[warp] = prefix;
    __syncthreads();
    int earlier = 0;
    total = 0;
    for (int other = 0; other < SCAN_THREADS / WARP; other++) {
        const int sum = warp_sums[other];
        if (other < warp) earlier += sum;
        total += sum;
    }
    __syncthreads();
    return earlier + prefix;
}

// values[i] becomes values[0] + … + values[i - 1] for first <= i < end, the thread's share, and values[count]
// the sum of all.
__device__ __forceinline__ void starts_from_lengths(Global<int> values, int64 first, int64 end, int64 count,
                                                    Shared<int> warp_sums) {
    int own = 0;
    for (int64 i = first; i < end; i++) own += values[i];
    int total;
    int start = block_prefix(own, warp_sums, total) - own;
    for (int64 i = first; i < end; i++) {
        const int length = values[i];
        values[i] = start;
        start += length;
    }
    if (threadIdx.x == 0) values[count] = total;
}

// With n_e the assignments of expert e and kept_e = min(n_e, C):
//   bins[e]        = n_0 + … + n_e
//   row_starts[e]  = kept_0 + … + kept_(e-1)
//   tile_starts[e] = ceil(kept_0 / TILE_ROWS) + … + ceil(kept_(e-1) / TILE_ROWS)
//   panel_starts[e], with PANEL_ROWS in place of TILE_ROWS
//   counts[tile, e] becomes the assignments of expert e in earlier tiles.
//
// Grid: 1. Block: SCAN_THREADS; each thread takes ceil(E / SCAN_THREADS) experts that follow one another.
//   counts      [tiles, E]   read and written
//   bins        [E]          written
//   row_starts  [E + 1]      written
//   tile_starts [E + 1]      written
//   panel_starts [E + 1]     written
KERNEL(SCAN_THREADS)
scan_bins(Global<int> counts, Global<int> bins, Global<int> row_starts, Global<int> tile_starts,
          Global<int> panel_starts, int64 tiles, int64 experts, int64 capacity) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    SHARED_ARRAY(int, warp_sums, SCAN_THREADS / WARP);
    const int64 share = ceil_div(experts, SCAN_THREADS);
    const int64 first = smaller(experts, threadIdx.x * share), end = smaller(experts, first + share);

    int own = 0;
    for (int64 expert = first; expert < end; expert++) {
        int count = 0;
        for (int64 tile = 0; tile < tiles; tile += SCAN_TILES) {
            int here[SCAN_TILES];
#pragma unroll
            for (int i = 0; i < SCAN_TILES; i++) here[i] = tile + i < tiles ? counts[(tile + i) * experts + expert] : 0;
#pragma unroll
            for (int i = 0; i < SCAN_TILES; i++) {
                if (tile + i < tiles) counts[(tile + i) * experts + expert] = count;
                count += here[i];
            }
        }
        own += count;
        const int kept = int(smaller(count, capacity));
        bins[expert] = count;
        row_starts[expert] = kept;
        tile_starts[expert] = pieces(kept, TILE_ROWS);
        panel_starts[expert] = pieces(kept, PANEL_ROWS);
    }
    int assignments;
    int bin = block_prefix(own, warp_sums, assignments) - own;
    for (int64 expert = first; expert < end; expert++) {
        bin += bins[expert];
        bins[expert] = bin;
    }
    starts_from_lengths(row_starts, first, end, experts, warp_sums);
    starts_from_lengths(tile_starts, first, end, experts, warp_sums);
    starts_from_lengths(panel_starts, first, end, experts, warp_sums);
}

// The rank of an assignment is the number of assignments of its expert with a smaller flat index:
//   sorted_indices[start_e + rank] = assignment
//   row_of[assignment]             = row_starts[e] + rank if rank < C, else -1
//   assignment_of[row]             = assignment
// An assignment to no local expert has no rank; its row_of is -1.
// counts[tile, e] ends as the assignments of expert e in the tiles up to this one.
//
// Grid: ceil(tiles / ROUTE_WARPS). Block: ROUTE_THREADS.
//   router_indices [T·K]        read
//   counts         [tiles, E]   read and written; from scan_bins
//   bins           [E]          read
//   row_starts     [E + 1]      read
//   sorted_indices [T·K]        written, one for each assignment to a local expert
//   row_of         [T·K]        written
//   assignment_of  [R]          written, R = row_starts[E]
KERNEL(ROUTE_THREADS)
rank_assignments(Global<const int64> router_indices, Global<int> counts, Global<const int> bins,
                 Global<const int> row_starts, Global<int> sorted_indices, Global<int> row_of,
                 Global<int> assignment_of, int64 assignments, int64 experts, int64 first_expert, int64 capacity) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    const int64 first = route_tile() * ROUTE_TILE;
    if (first >= assignments) return;
    const int64 row = route_tile() * experts;
    const int lane = threadIdx.x % WARP;

    int expert_of[ROUTE_STEPS];
    load_experts(router_indices, assignments, experts, first_expert, expert_of);
#pragma unroll
    for (int step = 0; step < ROUTE_STEPS; step++) {
        const int64 assignment = first + step * WARP + lane;
        const int expert = expert_of[step];
        const unsigned peers = __match_any_sync(ALL_LANES, expert);
        const int peers_below = __popc(peers & lanes_below());
        const int rank = expert >= 0 ? counts[row + expert] + peers_below : 0;
        __syncwarp();
        if (expert >= 0) {
            if (peers_below == 0) counts[row + expert] = rank + __popc(peers);
            sorted_indices[expert_start(bins, expert) + rank] = int(assignment);
            assign_row(row_starts, row_of, assignment_of, assignment, expert, rank, capacity);
        } else if (assignment < assignments) {
            row_of[assignment] = -1;
        }
        __syncwarp();
    }
}

// row_of and assignment_of, as rank_assignments writes them, for the order in sorted_indices.
//
// Grid: ceil(T·K / ROUTE_THREADS). Block: ROUTE_THREADS, one thread a position and an assignment.
//   router_indices [T·K]     read
//   bins           [E]       read
//   row_starts     [E + 1]   read
//   sorted_indices [T·K]     read; first the assignments to local experts, each once and sorted by expert
//   row_of         [T·K]     written
//   assignment_of  [R]       written
KERNEL(ROUTE_THREADS)
place_order(Global<const int64> router_indices, Global<const int> bins, Global<const int> row_starts,
            Global<const int> sorted_indices, Global<int> row_of, Global<int> assignment_of, int64 assignments,
            int64 experts, int64 first_expert, int64 capacity) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    const int64 position = global_thread();
    if (position >= assignments) return;
    if (local_expert(router_indices[position], first_expert, experts) < 0) row_of[position] = -1;
    if (position >= expert_start(bins, int(experts))) return;
    const int64 assignment = sorted_indices[position];
    const int expert = local_expert(router_indices[assignment], first_expert, experts);
    const int rank = int(position) - expert_start(bins, expert);
    assign_row(row_starts, row_of, assignment_of, assignment, expert, rank, capacity);
}
