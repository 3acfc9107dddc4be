//! Large biases, distinct for each expert and channel.

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;

pub(super) struct LargeBias(Gentle);

impl LargeBias {
    pub(super) fn new(spec: &CaseSpec) -> LargeBias {
        LargeBias(Gentle::new(spec))
    }
}

impl Values for LargeBias {
    fn gentle(&self) -> &Gentle {
        &self.0
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        ((e * 31 + j * 17) % 64) as f64 / 8.0 - 4.0
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        ((e % 32) * 8 + h % 64) as f64 / 8.0
    }
}
