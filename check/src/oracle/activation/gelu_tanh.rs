//! g · ½ · (1 + tanh(√(2/π) · (g + 0.044715 · g³))), which is g · σ of twice the argument.

use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

use super::gelu::{BEND, SLOPE, cancelled};
use super::{EVALUATION, GateFunction, TAIL, between_ends, moved_by_slope};
use crate::oracle::Roundings;

/// 2 · √(2/π).
const TWICE_ROOT: f64 = SQRT_2 * FRAC_2_SQRT_PI;
const CUBED: f64 = 0.044715;

pub(super) struct GeluTanh;

impl GateFunction for GeluTanh {
    fn value(&self, gate: f64) -> f64 {
        gate * share(gate)
    }

    fn has_sigmoid(&self) -> bool {
        true
    }

    fn slope(&self, gate: f64) -> f64 {
        let share = share(gate);
        let inner = TWICE_ROOT * (1.0 + 3.0 * CUBED * gate * gate);
        share + gate * share * (1.0 - share) * inner
    }

    /// Its slope and the change of that are those of the exact function to three digits.
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
        cancelled(gate, share(gate + error), gate + error, roundings)
    }
}

/// ½ · (1 + tanh).
fn share(gate: f64) -> f64 {
    let argument = TWICE_ROOT * (gate + CUBED * gate * gate * gate);
    1.0 / (1.0 + (-argument).exp())
}
