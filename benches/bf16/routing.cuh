// Tokens with random values and random routings.
#pragma once
#include <cstring>
#include <numeric>
#include <random>

#include "device.cuh"
#include "reference.cuh"

namespace bf16 {

enum Routing {
    UNIFORM,     // K different experts, each equally likely
    ONE_EXPERT,  // all assignments to one expert
    SKEWED,      // two of three assignments to a quarter of the experts; a token may name one twice
    ZIPF,        // K different experts, those of low number more often
    ROUTINGS
};

struct Sizes {
    int64 tokens, hidden, intermediate, experts, top_k, capacity;

    int64 assignments() const { return tokens * top_k; }
};

// The arguments of a call, in device memory.
struct Call {
    const Bf16 *hidden_states, *routing_weights;
    const int64 *router_indices;
};

struct Inputs {
    Array<Bf16> hidden_states, routing_weights;
    Array<int64> router_indices;
    std::vector<int64> expert_of;  // router_indices

    // The call of the tokens from this one on.
    Call from(int64 token, const Sizes &sizes) const {
        return {hidden_states.data() + token * sizes.hidden, routing_weights.data() + token * sizes.experts,
                router_indices.data() + token * sizes.top_k};
    }
    void copy_from(const Inputs &other) {
        hidden_states.copy_from(other.hidden_states);
        routing_weights.copy_from(other.routing_weights);
        router_indices.copy_from(other.router_indices);
    }
};

inline float host_float(Bf16 bits) {
    const unsigned word = unsigned(bits) << 16;
    float value;
    memcpy(&value, &word, sizeof value);
    return value;
}

// Of a positive value, cut off rather than rounded.
inline Bf16 host_bf16(float value) {
    unsigned word;
    memcpy(&word, &value, sizeof word);
    return Bf16(word >> 16);
}

inline float uniform(std::mt19937 &random) {
    return std::generate_canonical<float, 24>(random);
}

// The experts of a token, K of them.
inline std::vector<int64> route_token(const Sizes &sizes, Routing routing, std::mt19937 &random) {
    const int64 experts = sizes.experts, few = std::max<int64>(1, experts / 4);
    std::vector<int64> chosen(sizes.top_k);
    if (routing == ONE_EXPERT) {
        std::fill(chosen.begin(), chosen.end(), experts / 2);
    } else if (routing == SKEWED) {
        for (auto &expert : chosen) expert = random() % 3 ? random() % few : random() % experts;
    } else {
        std::vector<std::pair<float, int64>> scores(experts);
        for (int64 e = 0; e < experts; e++) scores[e] = {uniform(random) + (routing == ZIPF ? 1.0f / (1 + e) : 0), e};
        std::partial_sort(scores.begin(), scores.begin() + std::min(sizes.top_k, experts), scores.end(),
                          std::greater<>());
        for (int64 k = 0; k < sizes.top_k; k++) chosen[k] = scores[k % experts].second;
    }
    return chosen;
}

inline Inputs random_inputs(const Sizes &sizes, Routing routing, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<int64> expert_of;
    for (int64 token = 0; token < sizes.tokens; token++)
        for (int64 expert : route_token(sizes, routing, random)) expert_of.push_back(expert);
    std::vector<Bf16> weights(sizes.tokens * sizes.experts);
    for (auto &weight : weights) weight = host_bf16(uniform(random));
    Inputs inputs = {Array<Bf16>(sizes.tokens * sizes.hidden), Array<Bf16>(weights), Array<int64>(expert_of),
                     expert_of};
    fill_randomly<<<1024, 256>>>(inputs.hidden_states.data(), sizes.tokens * sizes.hidden, seed * 7919 + 5, 1.0f);
    synchronize("random tokens");
    return inputs;
}

// Which assignments the capacity keeps.
inline std::vector<int> kept(const Sizes &sizes, const std::vector<int64> &expert_of) {
    std::vector<int64> counts(sizes.experts, 0);
    std::vector<int> is_kept;
    for (int64 expert : expert_of) is_kept.push_back(counts[expert]++ < sizes.capacity);
    return is_kept;
}

}  // namespace bf16
