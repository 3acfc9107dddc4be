//! Hidden states near 2^-81, whose squares underflow, and a first matrix near 2^55, whose squares do not overflow
//! (2^-12 and 2^6 in f16). The first biases are far below the sums. The second biases are as large as the sums, or
//! zero.

use super::Values;
use super::gentle::Gentle;
use super::scales::{Scales, between, half_of_experts};
use crate::case::{CaseSpec, power_of_two};
use crate::draw::numbers::{Draw, Stream};

/// The first biases are 2^-8 of the sums, so that they cannot make up for the lost squares.
const BIAS_BELOW: i32 = 8;

pub(super) struct LostSquares {
    gentle: Gentle,
    scales: Scales,
    scale: Draw,
}

impl LostSquares {
    pub(super) fn new(spec: &CaseSpec) -> LostSquares {
        LostSquares {
            gentle: Gentle::new(spec),
            scales: Scales::new(spec, exponents),
            scale: spec.draw(Stream::Scale),
        }
    }
}

fn exponents(draw: Draw, is_f16: bool) -> (i32, i32) {
    let (hidden, gate_up) = if is_f16 {
        (between(draw, -13, -11, 1), between(draw, 5, 7, 2))
    } else {
        (between(draw, -84, -78, 1), between(draw, 52, 58, 2))
    };
    (hidden, hidden + gate_up)
}

impl Values for LostSquares {
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
        self.gentle.gate_up_bias(e, j) * power_of_two(self.scales.gates - BIAS_BELOW)
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.gentle.down_bias(e, h) * (half_of_experts(self.scale, e) * power_of_two(self.scales.gates))
    }
}
