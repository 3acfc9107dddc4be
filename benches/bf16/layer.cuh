// The layer: packed weights, workspace, and the launches from routing to combine.
#pragma once
#include "route.cu"
#include "combine_bf16.cu"
#include "experts_bf16.cu"
#include "gather_bf16.cu"
#include "pack_bf16.cu"
#include "routing.cuh"

namespace bf16 {

constexpr float ALPHA = 1.702f;
constexpr float LIMIT = 7.0f;

// ceil_div and the tiles of tiles_bf16.cuh, for the CPU.
inline int64 host_ceil_div(int64 dividend, int64 divisor) {
    return (dividend + divisor - 1) / divisor;
}

inline int64 host_k_blocks(int64 depth) {
    return host_ceil_div(depth, K_BLOCK);
}

// Random weights of all experts, as they come and packed.
struct Weights {
    int64 hidden, intermediate, experts;
    int64 gate_up_tiles = host_ceil_div(host_k_blocks(intermediate) * K_BLOCK * 2, MATRIX_LINES);
    int64 down_tiles = host_ceil_div(hidden, MATRIX_LINES);
    int64 gate_up_images = experts * gate_up_tiles * host_k_blocks(hidden);
    int64 down_images = experts * down_tiles * host_k_blocks(intermediate);
    Array<Bf16> gate_up_proj, gate_up_bias, down_proj, down_bias;
    Array<uint64> gate_up_packed, down_packed;
    Array<float> gate_up_packed_bias, down_packed_bias;

    Weights(int64 hidden, int64 intermediate, int64 experts, unsigned seed)
        : hidden(hidden), intermediate(intermediate), experts(experts),
          gate_up_proj(experts * hidden * 2 * intermediate), gate_up_bias(experts * 2 * intermediate),
          down_proj(experts * intermediate * hidden), down_bias(experts * hidden),
          gate_up_packed(gate_up_images * MATRIX_WORDS), down_packed(down_images * MATRIX_WORDS),
          gate_up_packed_bias(experts * gate_up_tiles * MATRIX_LINES),
          down_packed_bias(experts * down_tiles * MATRIX_LINES) {
        const auto fill = [&](const Array<Bf16> &array, unsigned seed, float deviation) {
            fill_randomly<<<4096, 256>>>(array.data(), array.bytes() / sizeof(Bf16), seed, deviation);
        };
        // Some gates and ups pass the limit.
        fill(gate_up_proj, seed, 1.5f / sqrtf(float(hidden)));
        fill(gate_up_bias, seed + 1, 0.5f);
        fill(down_proj, seed + 2, 1.0f / sqrtf(float(intermediate)));
        fill(down_bias, seed + 3, 0.5f);
        pack_weights_bf16<<<gate_up_images, PACK_THREADS>>>(gate_up_proj.data(), gate_up_bias.data(),
                                                            gate_up_packed.data(), gate_up_packed_bias.data(), hidden,
                                                            2 * intermediate, gate_up_tiles, 1);
        pack_weights_bf16<<<down_images, PACK_THREADS>>>(down_proj.data(), down_bias.data(), down_packed.data(),
                                                         down_packed_bias.data(), intermediate, hidden, down_tiles, 0);
        synchronize("weights");
    }
};

// What a call with these sizes needs besides its arguments and the weights.
struct Layer {
    const Weights &weights;
    Sizes sizes;
    int64 route_tiles = host_ceil_div(sizes.assignments(), ROUTE_TILE);
    int64 most_panels = sizes.assignments() / PANEL_ROWS + sizes.experts;
    int64 most_lines = sizes.assignments() + LINES_UNIT * std::min<int64>(sizes.assignments(), most_panels);
    Array<int> counts, bins, row_starts, tile_starts, panel_starts, sorted_indices, row_of, assignment_of, progress;
    Array<uint64> packed_rows, activated;
    Array<Bf16> expert_output, output;
    int64 blocks = multiprocessors();  // of experts_bf16
    bool routes_at_once = sizes.assignments() <= MOST_ROUTED;

    Layer(const Weights &weights, const Sizes &sizes)
        : weights(weights), sizes(sizes), counts(route_tiles * sizes.experts), bins(sizes.experts),
          row_starts(sizes.experts + 1), tile_starts(sizes.experts + 1), panel_starts(sizes.experts + 1),
          sorted_indices(sizes.assignments()), row_of(sizes.assignments()), assignment_of(sizes.assignments()),
          progress(1 + most_panels), packed_rows(most_lines * host_k_blocks(sizes.hidden) * LINE_WORDS),
          activated(most_lines * host_k_blocks(sizes.intermediate) * LINE_WORDS),
          expert_output(sizes.assignments() * sizes.hidden), output(sizes.tokens * sizes.hidden) {}

    // Fills what a call writes with NaN, or with numbers far too large.
    void poison() {
        for (auto *array : {&packed_rows, &activated}) array->set_bytes(0xff);
        for (auto *array : {&expert_output, &output}) array->set_bytes(0xff);
        for (auto *array : {&row_of, &assignment_of, &progress}) array->set_bytes(0x7f);
    }

    void route(cudaStream_t stream, const Call &call) {
        const auto &[tokens, hidden, intermediate, experts, top_k, capacity] = sizes;
        const int64 assignments = sizes.assignments();
        if (routes_at_once) {
            launch(stream, route_gather_bf16, tokens, EXPERTS_THREADS, 0, call.hidden_states, call.router_indices,
                   row_starts.data(), row_of.data(), packed_rows.data(), progress.data(), tokens, hidden, experts, top_k,
                   capacity, 1 + most_panels);
            return;
        }
        const int64 grid = host_ceil_div(route_tiles, ROUTE_WARPS);
        launch(stream, count_assignments, grid, ROUTE_THREADS, 0, call.router_indices, counts.data(), assignments,
               experts);
        launch(stream, scan_bins, 1, SCAN_THREADS, 0, counts.data(), bins.data(), row_starts.data(), tile_starts.data(),
               panel_starts.data(), route_tiles, experts, capacity);
        launch(stream, rank_assignments, grid, ROUTE_THREADS, 0, call.router_indices, counts.data(), bins.data(),
               row_starts.data(), sorted_indices.data(), row_of.data(), assignment_of.data(), assignments, experts,
               capacity);
        const int64 token_blocks = host_ceil_div(tokens, EXPERTS_THREADS / WARP);
        launch(stream, gather_bf16, std::min<int64>(3 * multiprocessors(), token_blocks), EXPERTS_THREADS, 0,
               call.hidden_states, call.router_indices, row_of.data(), row_starts.data(), packed_rows.data(),
               progress.data(), tokens, hidden, experts, top_k, 1 + most_panels);
    }

    void multiply_experts(cudaStream_t stream) {
        const auto words = [](const auto &array) { return reinterpret_cast<const uint64 *>(array.data()); };
        launch(stream, experts_bf16, blocks, EXPERTS_THREADS, RING_BYTES, words(packed_rows), row_starts.data(),
               words(weights.gate_up_packed), words(weights.gate_up_packed_bias), words(weights.down_packed),
               words(weights.down_packed_bias), progress.data(), activated.data(), expert_output.data(), sizes.hidden,
               sizes.intermediate, sizes.experts, ALPHA, LIMIT);
    }

    void combine(cudaStream_t stream, const Call &call) {
        const int64 chunks = sizes.tokens * sizes.hidden / CHUNK;
        launch(stream, combine_bf16, host_ceil_div(chunks, COMBINE_THREADS), COMBINE_THREADS, 0, expert_output.data(),
               call.router_indices, call.routing_weights, row_of.data(), output.data(), sizes.tokens, sizes.hidden,
               sizes.experts, sizes.top_k);
    }

    void run(cudaStream_t stream, const Call &call) {
        route(stream, call);
        multiply_experts(stream);
        combine(stream, call);
    }
};

}  // namespace bf16
