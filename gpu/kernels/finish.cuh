// From the sums of a tile to what its product leaves: bias, activation, and the split for the next product.
#pragma once
#include "queue.cuh"
#include "swiglu.cuh"

#ifdef HOPPER

constexpr int CONSUMER_WARPS = 8;
constexpr int COLUMN_WORDS = PANEL_COLUMNS;

static_assert(PANEL_COLUMNS * HALF_PANEL == PRODUCT_SUMS * WARPGROUP, "each sum has one thread");

// Words of a piece's description in shared memory, as in Piece.
enum Description { KIND, PANEL, COLUMN_TILE, FIRST_ROW, ROWS, PAIRS, CUT_TILE, PART, DESCRIPTION_WORDS };

// What a thread needs to finish its sums of a tile: it has two rows, 8 apart.
struct Place {
    int panel, first_column;
    int line, row, rows;  // the first row's, of the panel and of all rows; and how many the panel has
    int first_float;      // of the columns' inverse scales and biases

    __device__ __forceinline__ bool has(int h) const { return line + 8 * h < rows; }
};

__device__ __forceinline__ Place place_of(Shared<int> descriptions, int turn, int line) {
    const int word = turn * DESCRIPTION_WORDS;
    return {descriptions[word + PANEL],
            descriptions[word + COLUMN_TILE] * PANEL_COLUMNS,
            line,
            descriptions[word + FIRST_ROW] + line,
            descriptions[word + ROWS],
            turn * COLUMN_WORDS * 2};
}

// Of a thread's two rows: the inverse scale, and the scale of the activations.
struct RowScales {
    float down[2], activated[2];
};

__device__ __forceinline__ RowScales row_scales_of(Shared<int> descriptions, int turn, int line,
                                                   Global<const float> row_scales) {
    const Place place = place_of(descriptions, turn, line);
    RowScales scales = {{1.0f, 1.0f}, {1.0f, 1.0f}};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (!place.has(h)) continue;
        scales.down[h] = row_scales[int64(place.row + 8 * h) * 2];
        scales.activated[h] = row_scales[int64(place.row + 8 * h) * 2 + 1];
    }
    return scales;
}

// The sums are finished in thirds, by code that stands there once: a block has to fetch it before its first tile ends.
constexpr int THIRD = PRODUCT_SUMS / 3;

// Moves the second and the last third up by one.
__device__ __forceinline__ void next_third(float (&sums)[PRODUCT_SUMS]) {
#pragma unroll
    for (int i = 0; i < PRODUCT_SUMS - THIRD; i++) sums[i] = sums[i + THIRD];
}

// Keeps this warp's sums of a part of a tile that is cut. Whether it is the last part to come: then its sums become
// those of all parts, added up in their order.
//   part_sums [cut tiles, parts, CONSUMER_WARPS, PRODUCT_SUMS · WARP]
//   progress  [1 + cut tiles · CONSUMER_WARPS ..]    parts that have come, from the second word on
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
    int64 intermediate, steps;
    float alpha, limit;
};

// Stores what the stages of the thread's row h have in a column of the activations.
__device__ __forceinline__ void store_stages(const GateUp &to, const Place &place, int h, int64 column, float gate,
                                             float up, float value) {
    if (!place.has(h) || column >= to.intermediate) return;
    const int64 at = int64(place.row + 8 * h) * to.intermediate + column;
    store_pair(to.gate_up, at * 2, gate, up);
    to.activated[at] = value;
}

// The thread has rows m and m + 8 of its warpgroup, m = 16 · warp + lane / 4, and columns 8j + 2q and 8j + 2q + 1: the
// gate and the up of one activation. sums[4j + 2h], sums[4j + 2h + 1] are those of row m + 8h. `columns` holds the
// inverse scale and the bias of each column of the tile. Of 16 activations the thread has every fourth, which stand
// beside one another in a woven operand.
template <bool WITH_STAGES>
__device__ __forceinline__ void finish_gate_up(const GateUp &to, const Place &place, const RowScales &scales,
                                               Shared<const float> columns, float (&sums)[PRODUCT_SUMS]) {
    const int q = threadIdx.x % 4;
    const int64 images = int64(place.panel) * to.steps * LEFT_WORDS;
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
                    const float gate = sums[j + i * 4 + h * 2] * scales.down[h] * of[0] + of[1];
                    const float up = sums[j + i * 4 + h * 2 + 1] * scales.down[h] * of[2] + of[3];
                    const float value = clamped_swiglu(gate, up, to.alpha, to.limit);
                    if (WITH_STAGES) store_stages(to, place, h, (place.first_column + column) / 2, gate, up, value);
                    values[h][i] = value * scales.activated[h];
                    large[h] += fabsf(values[h][i]) >= LARGE_ROW;
                }
            }
            const int depth = place.first_column / 2 + third + j + q * 4;
            const int64 image = images + int64(depth / STEP) * LEFT_WORDS;
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (place.has(h) && depth < to.steps * STEP)
                    store_split(to.packed, image, place.line + 8 * h, depth % STEP / 4, values[h]);
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
    const float down[2] = {1.0f / scales.activated[0], 1.0f / scales.activated[1]};
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
                const float first = sums[j + h * 2] * down[h] * of[0] + of[1];
                const float second = sums[j + h * 2 + 1] * down[h] * of[2] + of[3];
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
