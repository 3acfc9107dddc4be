//! x = 0: nothing but biases.

use super::Values;
use super::gentle::Gentle;
use super::large_bias::LargeBias;
use crate::case::CaseSpec;

pub(super) struct PureBias(LargeBias);

impl PureBias {
    pub(super) fn new(spec: &CaseSpec) -> PureBias {
        PureBias(LargeBias::new(spec))
    }
}

impl Values for PureBias {
    fn gentle(&self) -> &Gentle {
        self.0.gentle()
    }

    fn hidden(&self, _token: usize, _h: usize) -> f64 {
        0.0
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.0.gate_up_bias(e, j)
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.0.down_bias(e, h)
    }
}
