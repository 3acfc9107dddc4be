//! Gates and ups near one power of two, from 2^16 to 2^56 (2^2 to 2^5 in f16). Three in four gates are positive.

use super::Values;
use super::gentle::Gentle;
use super::scales::{Scales, between};
use crate::case::{CaseSpec, power_of_two};
use crate::draw::numbers::Draw;

pub(super) struct HugeGates {
    gentle: Gentle,
    scales: Scales,
}

impl HugeGates {
    pub(super) fn new(spec: &CaseSpec) -> HugeGates {
        HugeGates {
            gentle: Gentle::new(spec),
            scales: Scales::new(spec, exponents),
        }
    }
}

fn exponents(draw: Draw, is_f16: bool) -> (i32, i32) {
    if is_f16 {
        (between(draw, -2, 6, 1), between(draw, 2, 5, 2))
    } else {
        (between(draw, -20, 40, 1), between(draw, 16, 56, 2))
    }
}

impl Values for HugeGates {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        self.gentle.hidden(token, h) * self.scales.token(token)
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gentle.gate_up(e, h, j) * self.scales.gate_up()
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        (0.75 + self.gentle.gate_up_bias(e, j)) * power_of_two(self.scales.gates)
    }
}
