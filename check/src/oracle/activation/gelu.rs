//! g · Φ(g), Φ by the error function.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::{EVALUATION, GateFunction, TAIL, between_ends, moved_by_slope, underflow};
use crate::oracle::Roundings;

/// The largest slope, at √2, rounded up.
pub(super) const SLOPE: f64 = 1.13;
/// Half of the most by which the slope changes for each unit: 2/√(2π) at 0, rounded up.
pub(super) const BEND: f64 = 0.4;
/// Roundings of ½ · (1 + erf), which cancels far below zero, in units of u.
const CANCELLED: f64 = 4.0;
/// Below this gate 1 + erf is exactly 0 in f32 and f64.
const SATURATED: f64 = -16.0;

pub(super) struct Gelu;

impl GateFunction for Gelu {
    fn value(&self, gate: f64) -> f64 {
        gate * phi(gate)
    }

    fn has_sigmoid(&self) -> bool {
        true
    }

    fn slope(&self, gate: f64) -> f64 {
        let density = 0.5 * FRAC_2_SQRT_PI * FRAC_1_SQRT_2 * (-0.5 * gate * gate).exp();
        phi(gate) + gate * density
    }

    fn moved(&self, gate: f64, error: f64) -> f64 {
        let moved = moved_by_slope(self.slope(gate), BEND, SLOPE, error);
        let (lower, upper) = (gate - error, gate + error);
        if upper > TAIL {
            return moved;
        }
        moved.min(between_ends(self.value(lower), self.value(gate), self.value(upper)))
    }

    fn evaluation(&self, _gate: f64) -> f64 {
        EVALUATION
    }

    fn absolute(&self, gate: f64, error: f64, roundings: &Roundings) -> f64 {
        cancelled(gate, phi(gate + error), gate + error, roundings)
    }
}

/// The absolute error of a function g · ½ · (1 + s(g)) with an s that falls to −1, where it is known up to the end
/// `upper`, at which ½ · (1 + s) is `share`. PyTorch takes the whole as one operation, in f32 for the 16-bit types, so its
/// roundings are those of the accumulator.
pub(super) fn cancelled(gate: f64, share: f64, upper: f64, roundings: &Roundings) -> f64 {
    let unit = roundings.accumulate.unit;
    let mut lost = CANCELLED * unit + roundings.sigmoid_step + roundings.between.step;
    if upper <= SATURATED {
        lost = lost.min(2.0 * share);
    }
    (lost + roundings.sigmoid_error) * gate.abs() + underflow(roundings.between)
}

/// The share of the normal distribution below x.
fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}
