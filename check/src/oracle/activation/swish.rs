//! g · σ(αg): of the clamped SwiGLU, and with α = 1 of SiLU.

use super::{EVALUATION, GateFunction, TAIL, between_ends, moved_by_slope, underflow};
use crate::oracle::Roundings;

/// Rounding of alpha, of alpha · gate and of a fast exponential's argument, in units of u.
const ARGUMENT: f64 = 4.0;
/// The largest slope of g·σ(g), rounded up.
const SLOPE: f64 = 1.1;

pub(super) struct Swish {
    pub(super) alpha: f64,
}

impl Swish {
    fn sigmoid(&self, gate: f64) -> f64 {
        sigma(self.alpha * gate)
    }

    /// α·g at the end where it is greatest.
    fn upper(&self, gate: f64, error: f64) -> f64 {
        self.alpha * gate + self.alpha.abs() * error
    }
}

impl GateFunction for Swish {
    fn value(&self, gate: f64) -> f64 {
        gate * self.sigmoid(gate)
    }

    fn has_sigmoid(&self) -> bool {
        true
    }

    fn slope(&self, gate: f64) -> f64 {
        let sigmoid = self.sigmoid(gate);
        sigmoid * (1.0 + self.alpha * gate * (1.0 - sigmoid))
    }

    fn moved(&self, gate: f64, error: f64) -> f64 {
        let moved = moved_by_slope(self.slope(gate), 0.5 * self.alpha.abs(), SLOPE, error);
        let upper = self.upper(gate, error);
        if upper > TAIL {
            return moved;
        }
        let lower = self.alpha * gate - self.alpha.abs() * error;
        let size = |x: f64| x / self.alpha * sigma(x);
        moved.min(between_ends(size(lower), self.value(gate), size(upper)))
    }

    fn evaluation(&self, gate: f64) -> f64 {
        EVALUATION + ARGUMENT * (self.alpha * gate).abs() * (1.0 - self.sigmoid(gate))
    }

    fn absolute(&self, gate: f64, error: f64, roundings: &Roundings) -> f64 {
        let mut lost = roundings.sigmoid_step + roundings.between.step;
        let upper = self.upper(gate, error);
        if upper <= TAIL {
            lost = lost.min(2.0 * sigma(upper));
        }
        (lost + roundings.sigmoid_error) * gate.abs() + underflow(roundings.between)
    }
}

fn sigma(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
