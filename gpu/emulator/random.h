// Numbers that look random and depend on a seed alone.
#pragma once
#include <cstdint>

namespace simt {

// xorshift64*, seeded through a mixing step so that neighbouring seeds differ.
class Random {
public:
    explicit Random(uint64_t seed) {
        state = seed + 0x9e3779b97f4a7c15u;
        state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
        state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
        state = (state ^ (state >> 31)) | 1;
    }

    // A number in 0..bound.
    uint32_t below(uint32_t bound) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        const uint64_t high = (state * 0x2545f4914f6cdd1du) >> 32;
        return uint32_t((high * bound) >> 32);
    }

private:
    uint64_t state;
};

}  // namespace simt
