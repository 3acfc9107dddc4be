// Times of the layer, replayed as a graph.
//
// Every workload has several inputs with routings of their own, which the replays take in turns. The weights that a
// replay reads are 199 MB or more, four times the L2 cache, so each replay reads them from memory.
#pragma once
#include <unistd.h>

#include <memory>

#include "check.cuh"

namespace bf16 {

// On an H100 with 80 GB of HBM3: what a kernel that only reads memory reached, and cuBLAS with a bf16 product of
// 8192 x 8192 x 8192 in short bursts.
constexpr double BYTES_A_MS = 3.11e9;
constexpr double OPERATIONS_A_MS = 774e9;

inline double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

// A workload as graphs, one for each of its inputs.
class Graphs {
  public:
    Graphs(cudaStream_t stream, const std::vector<Call> &calls, const std::function<void(const Call &)> &enqueue)
        : stream(stream) {
        for (const Call &call : calls) graphs.push_back(captured(stream, [&] { enqueue(call); }));
        expect(cudaEventCreate(&start), "event");
        expect(cudaEventCreate(&end), "event");
    }
    Graphs(const Graphs &) = delete;
    ~Graphs() {
        for (auto graph : graphs) cudaGraphExecDestroy(graph);
        cudaEventDestroy(start);
        cudaEventDestroy(end);
    }

    // Milliseconds of one replay of so many that follow one another.
    double ms_of(int replays) {
        expect(cudaEventRecord(start, stream), "event");
        for (int i = 0; i < replays; i++) expect(cudaGraphLaunch(graphs[next++ % graphs.size()], stream), "graph");
        expect(cudaEventRecord(end, stream), "event");
        expect(cudaStreamSynchronize(stream), "replays");
        float ms;
        expect(cudaEventElapsedTime(&ms, start, end), "event");
        return ms / replays;
    }

    // The median of bursts of so many replays, each after a rest and two replays more.
    double burst_ms(int bursts, int replays, unsigned rest_us) {
        std::vector<double> times;
        for (int i = 0; i < bursts; i++) {
            usleep(rest_us);
            if (replays > 1) ms_of(2);
            times.push_back(ms_of(replays));
        }
        return median(times);
    }

  private:
    cudaStream_t stream;
    std::vector<cudaGraphExec_t> graphs;
    cudaEvent_t start, end;
    size_t next = 0;
};

// Bytes of the packed weights of the experts that have rows.
inline double weight_bytes(const Weights &weights, const std::vector<int64> &expert_of) {
    std::vector<bool> has_rows(weights.experts, false);
    for (int64 expert : expert_of) has_rows[expert] = true;
    const double bytes = double(weights.gate_up_packed.bytes() + weights.down_packed.bytes());
    return bytes / weights.experts * std::count(has_rows.begin(), has_rows.end(), true);
}

inline void print_header() {
    printf("| E | T | ms | alone | under load | floor | floor / ms | TB/s | TFLOP/s | route, gather | combine |\n");
    printf("|---|---|---|---|---|---|---|---|---|---|---|\n");
}

// Checks a workload and prints its row. Returns whether it is right.
inline bool time_layer(const Weights &weights, int64 tokens, int64 top_k) {
    const Sizes sizes = {tokens, weights.hidden, weights.intermediate, weights.experts, top_k, tokens * top_k};
    const bool is_short = tokens <= 512;
    std::vector<Inputs> inputs;
    std::vector<Call> calls;
    double bytes = 0;
    for (unsigned i = 0; i < (is_short ? 4 : 2); i++) {
        inputs.push_back(random_inputs(sizes, UNIFORM, 1000 + i));
        calls.push_back(inputs.back().from(0, sizes));
        bytes += weight_bytes(weights, inputs.back().expert_of);
    }
    bytes /= calls.size();
    Layer layer(weights, sizes);
    Errors errors;
    if (!is_right(layer, inputs[0], 12, 1, true, errors)) return false;

    cudaStream_t stream;
    expect(cudaStreamCreate(&stream), "stream");
    double ms, alone, under_load = 0, front, back;
    {
        Graphs whole(stream, calls, [&](const Call &call) { layer.run(stream, call); });
        Graphs first(stream, calls, [&](const Call &call) { layer.route(stream, call); });
        Graphs last(stream, calls, [&](const Call &call) { layer.combine(stream, call); });
        const int replays = is_short ? 40 : 6;
        const unsigned rest_us = is_short ? 2000 : 120000;
        ms = whole.burst_ms(7, replays, rest_us);
        front = first.burst_ms(7, replays, rest_us);
        back = last.burst_ms(7, replays, rest_us);
        alone = whole.burst_ms(15, 1, 500);
        const int load = 1 + int(300 / ms);
        whole.ms_of(load);
        under_load = whole.ms_of(load);
    }
    expect(cudaStreamDestroy(stream), "stream");
    const double operations = 2.0 * sizes.assignments() * sizes.hidden * 3 * sizes.intermediate;
    const double floor = std::max(bytes / BYTES_A_MS, operations / OPERATIONS_A_MS);
    printf("| %lld | %lld | %.4f | %.4f | %.4f | %.3f | %.2f | %.2f | %.0f | %.4f | %.4f |\n", sizes.experts, tokens,
           ms, alone, under_load, floor, floor / ms, bytes / ms * 1e-9, operations / ms * 1e-9, front, back);
    return true;
}

}  // namespace bf16
