// Whether the layer is right: against the reference, from run to run, for a token alone, and replayed as a graph.
#pragma once
#include <cmath>
#include <functional>

#include "layer.cuh"

namespace bf16 {

// Of the error of all values, as a share of their norm. A rounding to bf16 is an error of 2^-9 at most, 1.95e-3.
constexpr double MOST_ERROR = 3e-3;
// Of a single value, as a share of itself and the root mean square.
constexpr double MOST_SINGLE_ERROR = 0.02;

struct Errors {
    double all, single;
};

// The tokens to compare: all, or so many of them with the first and the last one.
inline std::vector<int> sample(int64 tokens, int64 most) {
    std::vector<int> listed(std::min(tokens, most));
    std::iota(listed.begin(), listed.end(), 0);
    if (tokens <= most) return listed;
    std::mt19937 random(1);
    for (auto &token : listed) token = int(random() % tokens);
    listed.front() = 0;
    listed.back() = int(tokens - 1);
    return listed;
}

// The errors of `output` at the tokens listed.
inline Errors compare(const Layer &layer, const Inputs &inputs, const std::vector<Bf16> &output,
                      const std::vector<int> &listed) {
    const Weights &weights = layer.weights;
    const Sizes &sizes = layer.sizes;
    const Call call = inputs.from(0, sizes);
    const Array<int> is_kept(kept(sizes, inputs.expert_of)), tokens(listed);
    const Array<float> activated(listed.size() * sizes.intermediate);
    const Array<double> result(listed.size() * sizes.hidden);
    reference<<<unsigned(listed.size()), 512>>>(call.hidden_states, call.router_indices, is_kept.data(),
                                                call.routing_weights, weights.gate_up_proj.data(),
                                                weights.gate_up_bias.data(), weights.down_proj.data(),
                                                weights.down_bias.data(), tokens.data(), activated.data(),
                                                result.data(), sizes.hidden, sizes.intermediate, sizes.experts,
                                                sizes.top_k, ALPHA, LIMIT);
    synchronize("reference");
    const std::vector<double> expected = result.read();
    double squares = 0;
    for (double value : expected) squares += value * value;
    const double mean = std::sqrt(squares / expected.size()) + 1e-30;
    double error_squares = 0, single = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        const int64 token = listed[i / sizes.hidden], h = i % sizes.hidden;
        const float found = host_float(output[token * sizes.hidden + h]);
        const double error = std::isfinite(found) ? std::fabs(found - expected[i]) : 1e30;
        error_squares += error * error;
        single = std::max(single, error / (std::fabs(expected[i]) + mean));
    }
    return {std::sqrt(error_squares / (squares + 1e-30)), single};
}

inline std::vector<Bf16> run_once(Layer &layer, const Call &call, bool poisons) {
    if (poisons) layer.poison();
    layer.run(nullptr, call);
    synchronize("layer");
    return layer.output.read();
}

// Whether the layer is right; says so if not.
inline bool is_right(Layer &layer, const Inputs &inputs, int64 most_tokens, int reruns, bool poisons, Errors &errors) {
    const Call call = inputs.from(0, layer.sizes);
    const std::vector<Bf16> output = run_once(layer, call, poisons);
    bool is_deterministic = true;
    for (int i = 0; i < reruns; i++) is_deterministic &= run_once(layer, call, poisons) == output;
    errors = compare(layer, inputs, output, sample(layer.sizes.tokens, most_tokens));
    const bool right = errors.all <= MOST_ERROR && errors.single <= MOST_SINGLE_ERROR && is_deterministic;
    if (!right) {
        const auto &[tokens, hidden, intermediate, experts, top_k, capacity] = layer.sizes;
        printf("WRONG: T %lld H %lld I %lld E %lld K %lld C %lld, %lld blocks: error %.2e, single %.2e%s\n", tokens,
               hidden, intermediate, experts, top_k, capacity, layer.blocks, errors.all, errors.single,
               is_deterministic ? "" : ", two runs differ");
    }
    return right;
}

// Random cases; `small` ones for the sanitizers, without poison, so that initcheck sees reads of unwritten memory.
// Returns how many are wrong.
inline int check_random(int cases, bool small) {
    std::mt19937 random(77);
    const std::vector<int64> widths = small ? std::vector<int64>{8, 64, 72, 200}
                                            : std::vector<int64>{8, 16, 64, 72, 192, 200, 256, 584, 640, 1160};
    const std::vector<int64> token_counts =
        small ? std::vector<int64>{1, 3, 9, 33, 300}
              : std::vector<int64>{1, 2, 3, 7, 8, 9, 31, 33, 64, 65, 96, 97, 128, 200, 300, 700};
    const auto any = [&](const std::vector<int64> &values) { return values[random() % values.size()]; };
    int wrong = 0;
    Errors most = {0, 0};
    for (int i = 0; i < cases; i++) {
        Sizes sizes = {any(token_counts), any(widths), any(widths), 1, 1, 0};
        const bool wide = random() % 8 == 0;
        if (random() % 4) sizes.experts += random() % (wide ? LARGEST_EXPERTS : 40);
        sizes.top_k += random() % std::min<int64>(wide ? WARP : 6, sizes.experts);
        const int64 all = sizes.assignments();
        sizes.capacity = all;
        if (random() % 3 == 0)
            sizes.capacity = 1 + random() % std::max<int64>(1, std::min(all, 2 * all / sizes.experts));
        const Routing routing = Routing(random() % ROUTINGS);
        const Weights weights(sizes.hidden, sizes.intermediate, sizes.experts, unsigned(random()));
        const Inputs inputs = random_inputs(sizes, routing, unsigned(random()));
        Layer layer(weights, sizes);
        if (random() % 4 == 0) layer.blocks = 1 + random() % layer.blocks;
        if (random() % 3 == 0) layer.routes_at_once = false;
        Errors errors;
        wrong += !is_right(layer, inputs, sizes.tokens, small ? 1 : 3, !small, errors);
        most = {std::max(most.all, errors.all), std::max(most.single, errors.single)};
    }
    printf("- %d random cases%s: %d wrong; largest error %.2e, of a single value %.2e\n", cases,
           small ? ", small, memory not poisoned" : "", wrong, most.all, most.single);
    return wrong;
}

// Whether tokens give the same bits alone as in their batch. Returns how many do not.
inline int check_alone(const Weights &weights, int64 tokens, int64 top_k, int64 tried) {
    const Sizes sizes = {tokens, weights.hidden, weights.intermediate, weights.experts, top_k, tokens * top_k};
    Sizes one = sizes;
    one.tokens = 1;
    one.capacity = top_k;
    const Inputs inputs = random_inputs(sizes, UNIFORM, 4242);
    Layer batch(weights, sizes), alone(weights, one);
    const std::vector<Bf16> together = run_once(batch, inputs.from(0, sizes), true);
    int wrong = 0;
    for (int64 i = 0; i < tried; i++) {
        const int64 token = i * (tokens - 1) / (tried - 1);
        const std::vector<Bf16> output = run_once(alone, inputs.from(token, sizes), true);
        wrong += !std::equal(output.begin(), output.end(), together.begin() + token * sizes.hidden);
    }
    printf("- E %lld, T %lld: %lld tokens alone: %d differ from their bits in the batch\n", weights.experts, tokens,
           tried, wrong);
    return wrong;
}

inline cudaGraphExec_t captured(cudaStream_t stream, const std::function<void()> &enqueue) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    expect(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    enqueue();
    expect(cudaStreamEndCapture(stream, &graph), "capture");
    expect(cudaGraphInstantiate(&ready, graph, 0), "instantiate");
    expect(cudaGraphDestroy(graph), "destroy");
    return ready;
}

// Whether a graph, replayed with other routings, gives the bits of launches with separate routing kernels. Returns how
// many replays do not.
inline int check_replays(int replays) {
    std::mt19937 random(5);
    cudaStream_t stream;
    expect(cudaStreamCreate(&stream), "stream");
    int wrong = 0;
    for (int64 tokens : {3, 200, 900}) {
        const Sizes sizes = {tokens, 640, 576, 24, 4, tokens * 4};
        const Weights weights(sizes.hidden, sizes.intermediate, sizes.experts, 3);
        Inputs inputs = random_inputs(sizes, UNIFORM, 1);
        const Call call = inputs.from(0, sizes);
        Layer layer(weights, sizes), direct(weights, sizes);
        direct.routes_at_once = false;
        const cudaGraphExec_t graph = captured(stream, [&] { layer.run(stream, call); });
        for (int i = 0; i < replays; i++) {
            const Routing routing = Routing(random() % ROUTINGS);
            inputs.copy_from(random_inputs(sizes, routing, unsigned(random())));
            layer.output.set_bytes(0xff);
            synchronize("next routing");
            expect(cudaGraphLaunch(graph, stream), "graph");
            synchronize("graph");
            wrong += layer.output.read() != run_once(direct, call, true);
        }
        expect(cudaGraphExecDestroy(graph), "destroy");
    }
    expect(cudaStreamDestroy(stream), "stream");
    printf("- %d replays of three graphs with changing routings: %d differ from launches\n", 3 * replays, wrong);
    return wrong;
}

}  // namespace bf16
