// The end of a tile (epilogue): from its sums to bias, activation, and the split for the next product.
#pragma once
#include "queue.cuh"
#include "swiglu.cuh"

#ifdef HOPPER

constexpr int CONSUMER_WARPS = 8;
constexpr int COLUMN_WORDS = PANEL_COLUMNS;

static_assert(PANEL_COLUMNS * HALF_PANEL == PRODUCT_SUMS * WARPGROUP, "each sum has one thread");

// What a thread needs to finish its sums of a tile: it has two rows, 8 apart.
struct Place {
    int panel, first_column;
    int line, row, rows;  // the first row: within the panel, and among all rows; and how many the panel has
    int first_float;      // of the columns' inverse scales and biases

    __device__ __forceinline__ bool has(int h) const { return line + 8 * h < rows; }
};

__device__ __forceinline__ Place place_of(const Piece &piece, int piece_slot, int line) {
    return {.panel = piece.panel,
            .first_column = piece.column_tile * PANEL_COLUMNS,
            .line = line,
            .row = piece.first_row + line,
            .rows = piece.rows,
            .first_float = piece_slot * COLUMN_WORDS * 2};
}

// For each of a thread's two rows, the inverse of its scale, and the scale of its activations.
struct RowScales {
    float inverse[2], activated[2];
};

__device__ __forceinline__ RowScales row_scales_of(const Place &place, Global<const float> row_scales) {
    RowScales scales = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (!place.has(h)) continue;
        scales.inverse[h] = row_scales[int64(place.row + 8 * h) * 2];
        scales.activated[h] = row_scales[int64(place.row + 8 * h) * 2 + 1];
    }
    return scales;
}

// The sums are finished in thirds, by one copy of the code: the fetch of its instructions delays a block's first tile.
constexpr int THIRD = PRODUCT_SUMS / 3;

// Moves the second and the last third up by one.
__device__ __forceinline__ void next_third(float (&sums)[PRODUCT_SUMS]) {
#pragma unroll
    for (int i = 0; i < PRODUCT_SUMS - THIRD; i++) sums[i] = sums[i + THIRD];
}

// Stores this warp's sums of a part of a tile. Returns whether all other parts are there already: then `sums` becomes
// the sum of all parts, added up in their order.
//   part_sums [cut tiles, parts, CONSUMER_WARPS, PRODUCT_SUMS · WARP]
//   progress  [1 + cut tiles · CONSUMER_WARPS ..]    parts that are there, from the second word on
__device__ __forceinline__ bool sum_parts(Global<float> part_sums, Global<int> progress, int cut_tile, int part,
                                          int parts, int warp, float (&sums)[PRODUCT_SUMS]) {
    constexpr int WARP_SUMS = PRODUCT_SUMS * WARP;
    const int lane = threadIdx.x % WARP;
    const int64 first = (int64(cut_tile) * parts * CONSUMER_WARPS + warp) * WARP_SUMS + lane * 4;
    constexpr int64 NEXT_PART = CONSUMER_WARPS * WARP_SUMS;
#pragma unroll 1
    for (int third = 0; third < PRODUCT_SUMS; third += THIRD) {
#pragma unroll
        for (int i = 0; i < THIRD; i += 4) {
            const Quad own = {{sums[i], sums[i + 1], sums[i + 2], sums[i + 3]}};
            leave_quad(part_sums, first + part * NEXT_PART + (third + i) * WARP, own);
        }
        next_third(sums);
    }
    __syncwarp();
    const int counter = 1 + cut_tile * CONSUMER_WARPS + warp;
    const bool is_last = lane == 0 && signal_and_count(progress, counter) == parts - 1;
    if (__ballot_sync(ALL_LANES, is_last) == 0) return false;
    __syncwarp();
#pragma unroll 1
    for (int third = 0; third < PRODUCT_SUMS; third += THIRD) {
        next_third(sums);
        constexpr int LAST = PRODUCT_SUMS - THIRD;
#pragma unroll
        for (int i = 0; i < THIRD; i++) sums[LAST + i] = 0.0f;
        for (int other = 0; other < parts; other++) {
#pragma unroll
            for (int i = 0; i < THIRD; i += 4) {
                const Quad found = left_quad(part_sums, first + other * NEXT_PART + (third + i) * WARP);
                for (int j = 0; j < 4; j++) sums[LAST + i + j] += found.values[j];
            }
        }
    }
    return true;
}

// What the tiles of gate_up write, and what they need for it.
struct GateUp {
    Global<uint64> packed;
    Global<int> large_counts;
    Global<float> gate_up, activated;  // both null, or neither
    int64 intermediate, k_blocks;
    float alpha, limit, up_offset;
};

// Stores gate, up and activation of the thread's row h, for a caller that asks for the stages.
__device__ __forceinline__ void store_stages(const GateUp &to, const Place &place, int h, int64 column, float gate,
                                             float up, float value) {
    if (!place.has(h) || column >= to.intermediate) return;
    const int64 at = int64(place.row + 8 * h) * to.intermediate + column;
    store_pair(to.gate_up, at * 2, gate, up);
    to.activated[at] = value;
}

// The thread has rows m and m + 8 of its warpgroup, m = 16 · warp + lane / 4, and columns 8j + 2q and 8j + 2q + 1: the
// gate and the up of one activation. sums[4j + 2h], sums[4j + 2h + 1] are those of row m + 8h. `columns` holds the
// inverse scale and the bias of each column of the tile. Of 16 activations the thread has every fourth; in a permuted
// depth these follow one another.
template <bool WITH_STAGES>
__device__ __forceinline__ void finish_gate_up(const GateUp &to, const Place &place, const RowScales &scales,
                                               Shared<const float> columns, float (&sums)[PRODUCT_SUMS]) {
    const int q = threadIdx.x % 4;
    const int64 images = int64(place.panel) * to.k_blocks * LEFT_WORDS;
    int large[2] = {0, 0};
#pragma unroll 1
    for (int third = 0; third < PRODUCT_SUMS; third += THIRD) {
#pragma unroll
        for (int j = 0; j < THIRD; j += 16) {
            float values[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int column = (third + j) * 2 + i * 8 + q * 2;
                const Quad pair = shared_quad(columns, place.first_float + column * 2);
                const float(&of)[4] = pair.values;
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const float gate = sums[j + i * 4 + h * 2] * scales.inverse[h] * of[0] + of[1];
                    const float up = sums[j + i * 4 + h * 2 + 1] * scales.inverse[h] * of[2] + of[3];
                    const float value = clamped_swiglu(gate, up, to.alpha, to.limit, to.up_offset);
                    if (WITH_STAGES) store_stages(to, place, h, (place.first_column + column) / 2, gate, up, value);
                    values[h][i] = value * scales.activated[h];
                    large[h] += fabsf(values[h][i]) >= LARGE_ROW;
                }
            }
            const int depth = place.first_column / 2 + third + j + q * 4;
            const int64 image = images + int64(depth / K_BLOCK) * LEFT_WORDS;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (place.has(h) && depth < to.k_blocks * K_BLOCK)
                    store_split(to.packed, image, place.line + 8 * h, depth % K_BLOCK / 4, values[h]);
            }
        }
        next_third(sums);
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        large[h] += __shfl_xor_sync(ALL_LANES, large[h], 1);
        large[h] += __shfl_xor_sync(ALL_LANES, large[h], 2);
        if (q == 0 && place.has(h)) atomicAdd(&to.large_counts[place.row + 8 * h], large[h]);
    }
}

// What the tiles of down write.
struct Down {
    Global<float> expert_output;
    int64 hidden;
};

// Rows and columns as in finish_gate_up.
__device__ __forceinline__ void finish_down(const Down &to, const Place &place, const RowScales &scales,
                                            Shared<const float> columns, float (&sums)[PRODUCT_SUMS]) {
    const int q = threadIdx.x % 4;
    const float inverse[2] = {1.0f / scales.activated[0], 1.0f / scales.activated[1]};
#pragma unroll 1
    for (int third = 0; third < PRODUCT_SUMS; third += THIRD) {
#pragma unroll
        for (int j = 0; j < THIRD; j += 4) {
            const int column = (third + j) * 2 + q * 2;
            const Quad pair = shared_quad(columns, place.first_float + column * 2);
            const float(&of)[4] = pair.values;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (!place.has(h)) continue;
                const float first = sums[j + h * 2] * inverse[h] * of[0] + of[1];
                const float second = sums[j + h * 2 + 1] * inverse[h] * of[2] + of[3];
                const int64 of_row = place.first_column + column;
                const int64 at = int64(place.row + 8 * h) * to.hidden + of_row;
                if (of_row + 1 < to.hidden) store_pair(to.expert_output, at, first, second);
                else if (of_row < to.hidden) to.expert_output[at] = first;
            }
        }
        next_third(sums);
    }
}

#endif
