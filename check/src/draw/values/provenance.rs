//! Values that name their sources. x encodes token and column, the biases encode the expert, and the products copy
//! single values.

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;

pub(super) struct Provenance {
    gentle: Gentle,
    hidden: usize,
    intermediate: usize,
}

impl Provenance {
    pub(super) fn new(spec: &CaseSpec) -> Provenance {
        Provenance {
            gentle: Gentle::new(spec),
            hidden: spec.hidden,
            intermediate: spec.intermediate,
        }
    }
}

impl Values for Provenance {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        ((token * 7 + h) % 61 + 1) as f64 / 64.0
    }

    /// The up value of column i is x of column i mod H; the gate is the bias alone.
    fn gate_up(&self, _e: usize, h: usize, j: usize) -> f64 {
        f64::from(u8::from(j % 2 == 1 && h == j / 2 % self.hidden))
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        if j.is_multiple_of(2) {
            2.0
        } else {
            (e % 13) as f64 / 16.0
        }
    }

    /// Column h of the output is activation h mod I.
    fn down(&self, _e: usize, i: usize, h: usize) -> f64 {
        f64::from(u8::from(i == h % self.intermediate))
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        (e % 29) as f64 + (h % 31) as f64 / 32.0
    }
}
