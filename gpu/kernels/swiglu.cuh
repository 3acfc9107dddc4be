// The activation: gate = min(gate, limit), up = min(max(up, -limit), limit),
// (up + up_offset) · (gate · sigmoid(alpha · gate)). With alpha 1 and up_offset 0 it is silu(gate) · up; a limit of
// infinity clamps nothing. NaN passes the clamps. The fast power and reciprocal err by a few units, and give 0 for a
// sigmoid below 2^-126.
#pragma once
#include "ptx.cuh"

constexpr float LOG2_E = 1.44269504f;

__device__ __forceinline__ float clamped_swiglu(float gate, float up, float alpha, float limit, float up_offset) {
    gate = at_most(gate, limit);
    up = at_most(at_least(up, -limit), limit);
    return (up + up_offset) * (gate * fast_reciprocal(1.0f + fast_exp2(gate * alpha * -LOG2_E)));
}
