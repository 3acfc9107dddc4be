// f16, bf16 and f32, on the CPU.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace simt {

// The nearest f16, ties to even; beyond the largest one infinity.
inline uint16_t to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    const float magnitude = std::fabs(value);
    if (magnitude != magnitude) return sign | 0x7fff;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    // The distance of f16 at this magnitude: 2^-24 below 2^-14, else 2^(exponent - 10).
    const int exponent = std::max(int(bits >> 23 & 255) - 127, -14);
    const float steps = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
    // `steps` counts from zero below 2^-14, and has its leading bit at 2^10 from there on.
    return uint16_t(sign | (((exponent + 14) << 10) + int(steps)));
}

inline float from_half_slowly(uint16_t half) {
    const int exponent = half >> 10 & 31, fraction = half & 1023;
    float magnitude = std::ldexp(float(exponent ? fraction | 1024 : fraction), (exponent ? exponent : 1) - 25);
    if (exponent == 31) magnitude = fraction ? NAN : INFINITY;
    return half & 0x8000 ? -magnitude : magnitude;
}

inline float from_half(uint16_t half) {
    static const std::vector<float> values = [] {
        std::vector<float> all(65536);
        for (uint32_t bits = 0; bits < 65536; bits++) all[bits] = from_half_slowly(uint16_t(bits));
        return all;
    }();
    return values[half];
}

// The nearest bf16, ties to even; beyond the largest one infinity.
inline uint16_t to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16_bits(uint16_t half) {
    const uint32_t bits = uint32_t(half) << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

}  // namespace simt
