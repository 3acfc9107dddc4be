//! max(g, 0)².

use super::{GateFunction, underflow};
use crate::oracle::Roundings;

/// Roundings of the square, in units of u; one of them is that of a power function.
const EVALUATION: f64 = 2.0;

pub(super) struct ReluSquared;

impl GateFunction for ReluSquared {
    fn value(&self, gate: f64) -> f64 {
        let positive = if gate < 0.0 { 0.0 } else { gate };
        positive * positive
    }

    fn has_sigmoid(&self) -> bool {
        false
    }

    fn slope(&self, gate: f64) -> f64 {
        2.0 * gate.max(0.0)
    }

    fn moved(&self, gate: f64, error: f64) -> f64 {
        if error == 0.0 {
            return 0.0;
        }
        let value = self.value(gate);
        (self.value(gate + error) - value).max(value - self.value(gate - error))
    }

    fn evaluation(&self, _gate: f64) -> f64 {
        EVALUATION
    }

    /// None where the gate is not above 0: every engine gives 0.
    fn absolute(&self, gate: f64, error: f64, roundings: &Roundings) -> f64 {
        if gate + error <= 0.0 {
            0.0
        } else {
            underflow(roundings.between)
        }
    }
}
