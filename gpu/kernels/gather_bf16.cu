// The gather in bf16, into the images of the panels (tiles_bf16.cuh): the line of each row of an expert is that of its
// token in hidden_states.
//
//   gather_bf16         the first panels, after the kernels of route.cu; experts_bf16 gathers the others as it goes
//   route_gather_bf16   the routing as well, for few assignments: each block counts all of them
#include "rows_bf16.cuh"

#ifdef HOPPER

namespace bf16 {

constexpr int CHUNKS_AT_ONCE = 4;  // that a lane loads
constexpr int MOST_ROUTED = 2048;  // assignments of route_gather_bf16

// Clears what experts_bf16 counts. Threads of the whole grid call it.
__device__ __forceinline__ void clear(Global<int> progress, int64 progress_words) {
    for (int64 i = global_thread(); i < progress_words; i += int64(gridDim.x) * blockDim.x) progress[i] = 0;
}

// Copies a token to lines[first_line .. end_line), those of its assignments; `thread` of `threads` that share it. Zeros
// beyond H.
__device__ __forceinline__ void copy_token(Global<const Bf16> hidden_states, Global<uint64> packed, int64 token,
                                           int64 hidden, int64 k_blocks, Shared<const Line> lines, int first_line,
                                           int end_line, int thread, int threads) {
    const Chunk nothing = {{0, 0}};
    for (int64 first = thread; first < k_blocks * 8; first += threads * CHUNKS_AT_ONCE) {
        Chunk found[CHUNKS_AT_ONCE];
#pragma unroll
        for (int i = 0; i < CHUNKS_AT_ONCE; i++) {
            const int64 chunk = first + i * threads;
            found[i] = chunk * CHUNK < hidden ? load_chunk(hidden_states, token * hidden + chunk * CHUNK) : nothing;
        }
        for (int own = first_line; own < end_line; own++) {
            const Line line = lines[own];
            if (line.first < 0) continue;
#pragma unroll
            for (int i = 0; i < CHUNKS_AT_ONCE; i++) {
                const int64 chunk = first + i * threads;
                const int64 at = line.first + chunk / 8 * line.next + (chunk % 8 ^ line.swizzle);
                if (chunk < k_blocks * 8) store_chunk(packed, at * CHUNK_WORDS, found[i]);
            }
        }
    }
}

// Grid: any number of blocks. Block: EXPERTS_THREADS, a warp takes a token at a time.
//   hidden_states  [T, H]                 read
//   router_indices [T·K]                  read
//   row_of         [T·K]                  read
//   row_starts     [E + 1]                read
//   packed         [lines, k_blocks, LINE_WORDS]   written, the lines of rows of the first gathered_panels; zeros beyond H
//   progress       [progress_words]       written: 0
// Requirements: H is a multiple of 8, E <= LARGEST_EXPERTS.
KERNEL(EXPERTS_THREADS)
gather_bf16(Global<const Bf16> hidden_states, Global<const int64> router_indices, Global<const int> row_of,
            Global<const int> row_starts, Global<uint64> packed, Global<int> progress, int64 tokens, int64 hidden,
            int64 n_experts, int64 top_k, int64 first_expert, int64 gathered_panels, int64 progress_words) {
    let_next_kernel_start();
    wait_for_earlier_kernels();
    clear(progress, progress_words);
    SHARED_ARRAY(int, starts, LARGEST_EXPERTS + 1);
    SHARED_ARRAY(int, panel_starts, LARGEST_EXPERTS + 1);
    SHARED_ARRAY(Line, lines, EXPERTS_THREADS);
    const auto all = find_rows(rows_between(row_starts, int(n_experts)), starts, panel_starts, int(n_experts));
    const int lane = threadIdx.x % WARP, first = int(threadIdx.x) / WARP * WARP;
    const int end_row = first_row_of(all, gathered_panels);
    const int64 k_blocks = ceil_div(hidden, K_BLOCK), warps = int64(gridDim.x) * (EXPERTS_THREADS / WARP);
    for (int64 token = global_thread() / WARP; token < tokens; token += warps) {
        for (int64 slot = 0; slot < top_k; slot += WARP) {
            const int slots = int(smaller(WARP, top_k - slot));
            const int64 assignment = token * top_k + slot + lane;
            const int row = lane < slots ? row_of[assignment] : -1;
            const bool is_first = row >= 0 && row < end_row;
            if (!__ballot_sync(ALL_LANES, is_first)) continue;
            __syncwarp();
            if (lane < slots) {
                const int expert = local_expert(router_indices[assignment], first_expert, n_experts);
                lines[first + lane] = line_of(all, expert, is_first ? row : -1, k_blocks);
            }
            __syncwarp();
            copy_token(hidden_states, packed, token, hidden, k_blocks, lines, first, first + slots, lane, WARP);
        }
    }
}

// Grid: T. Block: EXPERTS_THREADS, one block a token.
//   hidden_states  [T, H]                 read
//   router_indices [T·K]                  read
//   row_starts     [E + 1]                written
//   row_of         [T·K]                  written
//   packed         [lines, k_blocks, LINE_WORDS]   written, the lines of rows; zeros beyond H
//   progress       [progress_words]       written: 0
// Requirements: as gather_bf16, T·K <= MOST_ROUTED, K <= WARP.
KERNEL(EXPERTS_THREADS)
route_gather_bf16(Global<const Bf16> hidden_states, Global<const int64> router_indices, Global<int> row_starts,
                  Global<int> row_of, Global<uint64> packed, Global<int> progress, int64 tokens, int64 hidden,
                  int64 n_experts, int64 top_k, int64 first_expert, int64 capacity, int64 progress_words) {
    SHARED_ARRAY(int, panel_starts, LARGEST_EXPERTS + 1);
    SHARED_ARRAY(int, starts, LARGEST_EXPERTS + 1);
    SHARED_ARRAY(int, counts, LARGEST_EXPERTS);
    SHARED_ARRAY(int, ranks, WARP);
    SHARED_ARRAY(int, own_experts, WARP);
    SHARED_ARRAY(Line, lines, WARP);
    const int experts = int(n_experts), assignments = int(tokens * top_k), own = int(blockIdx.x * top_k);
    if (threadIdx.x < WARP) ranks[threadIdx.x] = 0;
    wait_for_earlier_kernels();
    clear(progress, progress_words);
    fence();
    __syncthreads();
    // experts_bf16 begins to count without waiting for this kernel.
    let_next_kernel_start();
    const auto expert_of = [&](int assignment) {
        return local_expert(router_indices[assignment], first_expert, n_experts);
    };
    if (threadIdx.x < top_k) own_experts[threadIdx.x] = expert_of(own + int(threadIdx.x));
    __syncthreads();
    for (int first = 0; first < assignments; first += EXPERTS_THREADS) {
        const int assignment = first + int(threadIdx.x);
        const int expert = assignment < assignments ? expert_of(assignment) : -1;
        for (int slot = 0; slot < top_k; slot++) {
            const bool is_earlier = assignment < own + slot && expert == own_experts[slot];
            const unsigned earlier = __ballot_sync(ALL_LANES, is_earlier);
            if (earlier && threadIdx.x % WARP == 0) atomicAdd(&ranks[slot], __popc(earlier));
        }
    }
    const int rows = count_rows(router_indices, assignments, first_expert, capacity, experts, counts);
    const auto all = find_rows(rows, starts, panel_starts, experts);
    const int64 k_blocks = ceil_div(hidden, K_BLOCK);
    if (blockIdx.x == 0) {
        for (int expert = threadIdx.x; expert <= experts; expert += EXPERTS_THREADS)
            row_starts[expert] = starts[expert];
    }
    if (threadIdx.x < top_k) {
        const int rank = ranks[threadIdx.x], expert = own_experts[threadIdx.x];
        const int row = expert >= 0 && rank < capacity ? starts[expert] + rank : -1;
        row_of[own + threadIdx.x] = row;
        lines[threadIdx.x] = line_of(all, expert, row, k_blocks);
    }
    __syncthreads();
    copy_token(hidden_states, packed, blockIdx.x, hidden, k_blocks, lines, 0, int(top_k), threadIdx.x,
               EXPERTS_THREADS);
}

}  // namespace bf16

#endif
