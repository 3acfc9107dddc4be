// f16, bf16 and f32, on the CPU.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace simt {

inline uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The nearest f16, ties to even; beyond the largest one infinity.
inline uint16_t to_half(float value) {
    const uint32_t bits = bits_of(value);
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    const float magnitude = std::fabs(value);
    if (magnitude != magnitude) return sign | 0x7fff;
    if (magnitude >= 65520.0f) return sign | 0x7c00;
    // The distance of f16 at this magnitude is 2^-24 below 2^-14, else 2^(exponent - 10). From 2^(exponent + 13) on it is
    // that of f32, so that the sum is rounded to it.
    const int exponent = std::max(int(bits >> 23 & 255) - 127, -14);
    const uint32_t zero = uint32_t(exponent + 13 + 127) << 23;
    const uint32_t steps = bits_of(magnitude + float_of(zero)) - zero;
    // `steps` counts from zero below 2^-14, and has its leading bit at 2^10 from there on.
    return uint16_t(sign | ((uint32_t(exponent + 14) << 10) + steps));
}

inline float from_half(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16, magnitude = uint32_t(half & 0x7fff) << 13;
    if ((half & 0x7c00) == 0x7c00) return float_of(sign | 0x7f800000 | magnitude);
    // An exponent in f32 counts from 112 more.
    return float_of(sign | magnitude) * 0x1p112f;
}

// The nearest bf16, ties to even; beyond the largest one infinity.
inline uint16_t to_bf16(float value) {
    const uint32_t bits = bits_of(value);
    if (value != value) return 0x7fff;
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float from_bf16_bits(uint16_t half) {
    return float_of(uint32_t(half) << 16);
}

}  // namespace simt
