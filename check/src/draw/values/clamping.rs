//! Pre-activations far beyond the limit on both sides.

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;

/// Standard deviation of the pre-activations.
const SIZE: f64 = 8.0;

pub(super) struct Clamping(Gentle);

impl Clamping {
    pub(super) fn new(spec: &CaseSpec) -> Clamping {
        Clamping(Gentle {
            gate_up_scale: SIZE / (spec.hidden.max(1) as f64).sqrt(),
            ..Gentle::new(spec)
        })
    }
}

impl Values for Clamping {
    fn gentle(&self) -> &Gentle {
        &self.0
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        2.0 * self.0.gate_up_bias.normal([e, j, 0])
    }
}
