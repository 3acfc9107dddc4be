// f32 as two f16, in the layout that the tensor cores read.
//
// A row of an operand is scaled by a power of two so that its largest magnitude lies in [2^14, 2^15), and each value
// is split into hi, the nearest f16, and lo, the nearest f16 of the rest: together 22 bits or more, and never off by
// more than 2^-25. A product of two such rows takes hi·hi + hi·lo + lo·hi; what lo·lo would add is below 2^-22 of it.
//
// The absolute error of 2^-25 is small against the product as long as both rows have enough large values. With LARGE
// values in more than half of the places, some of them stand opposite one another, so the root of the sum of the
// squared products r is at least LARGE_ROW · LARGE_COLUMN = 2^14, while the errors, which are independent, add up to
// 2 · sqrt(n) · 2^-25 · 2^15 = 2 · sqrt(n) · 2^-24 · 2^14, at most 2 · sqrt(n) · u · r. Three kinds of row are left to
// the fallback kernels: rows with too few large values, rows with values that are not finite, and rows whose largest
// magnitude lies outside 2^±62. So are all rows of an expert with such a column.
//
// Layout: an image holds the rows of a panel (128 of the left operand, 192 of the right one) for one k-block, 32 of the
// depth. A line of an image is 128 bytes: 32 hi, then 32 lo, in chunks of 16 bytes. Chunk c of line l is stored at chunk
// c ^ (l % 8), which is the swizzle of 128 bytes.
//
// The depth of the second product is permuted, into the order in which a thread holds the sums of the first one: place
// 4q + i of each 16 holds depth 4i + q. A sum does not depend on the order of the depth, as long as both operands agree.
#pragma once
#include "ptx.cuh"
#include "tile.cuh"

#ifdef HOPPER

constexpr int PANEL_COLUMNS = 192;
constexpr int K_BLOCK = 32;        // depth of an image
constexpr int LINE_WORDS = 16;     // 8-byte words
constexpr int LEFT_WORDS = PANEL_ROWS * LINE_WORDS;
constexpr int RIGHT_WORDS = PANEL_COLUMNS * LINE_WORDS;
constexpr int DEPTH_UNIT = 64;     // depths are padded to its multiples
constexpr float LARGE_ROW = 32.0f;       // 2^5
constexpr float LARGE_COLUMN = 512.0f;   // 2^9
constexpr int LARGEST_EXPONENT = 62;

// K-blocks of a depth, padding included.
__device__ __forceinline__ int64 k_blocks_of(int64 depth) {
    return ceil_div(depth, DEPTH_UNIT) * (DEPTH_UNIT / K_BLOCK);
}

// The word of an image with the group-th four hi of a line; their lo are in the group eight further on.
__device__ __forceinline__ int image_word(int line, int group) {
    return line * LINE_WORDS + (group / 2 ^ line % 8) * 2 + group % 2;
}

// |value| as an integer that orders as the magnitudes do; NaN is the largest.
__device__ __forceinline__ int magnitude(float value) {
    return __float_as_int(value) & 0x7fffffff;
}

struct Scale {
    float factor;  // a power of two
    float inverse;
    bool regular;  // whether the largest magnitude is 0 or within 2^±62
};

// The scale of values whose largest magnitude is this.
__device__ __forceinline__ Scale scale_of(int largest) {
    const int exponent = (largest >> 23) - 127;
    const bool regular = exponent >= -LARGEST_EXPONENT && exponent <= LARGEST_EXPONENT;
    if (!regular) return {1.0f, 1.0f, largest == 0};
    return {__int_as_float((127 + 14 - exponent) << 23), __int_as_float((127 + exponent - 14) << 23), true};
}

// Writes four scaled values of a line to their two words.
__device__ __forceinline__ void store_split(Global<uint64> packed, int64 image, int line, int group,
                                            const float (&values)[4]) {
    unsigned hi[2], lo[2];
    for (int i = 0; i < 2; i++) {
        const float first = values[2 * i], second = values[2 * i + 1];
        hi[i] = to_halves(first, second);
        lo[i] = to_halves(first - first_half(hi[i]), second - second_half(hi[i]));
    }
    packed[image + image_word(line, group)] = uint64(hi[1]) << 32 | hi[0];
    packed[image + image_word(line, group + 8)] = uint64(lo[1]) << 32 | lo[0];
}

#endif
