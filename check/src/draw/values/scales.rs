//! Powers of two that all values of a tensor share.

use crate::case::{CaseSpec, ElementType, power_of_two};
use crate::draw::numbers::{Draw, Stream};

/// The scales of a case.
pub(super) struct Scales {
    draw: Draw,
    /// Exponent of the hidden states.
    pub(super) hidden: i32,
    /// Exponent of the gates and ups.
    pub(super) gates: i32,
}

impl Scales {
    /// `exponents` draws the exponent of the hidden states and the one of the gates and ups; its flag says whether the
    /// element type is f16.
    pub(super) fn new(spec: &CaseSpec, exponents: impl Fn(Draw, bool) -> (i32, i32)) -> Scales {
        let draw = spec.draw(Stream::Scale);
        let (hidden, gates) = exponents(draw, spec.element == ElementType::F16);
        Scales { draw, hidden, gates }
    }

    /// The scale of a token's hidden state; tokens differ by at most a factor of 2 from the middle.
    pub(super) fn token(&self, token: usize) -> f64 {
        power_of_two(self.hidden + self.draw.below(3, [token, 0, 3]) as i32 - 1)
    }

    /// The scale of the first matrix.
    pub(super) fn gate_up(&self) -> f64 {
        power_of_two(self.gates - self.hidden)
    }
}

/// An exponent from `least` to `most`; `number` tells the draws of a case apart.
pub(super) fn between(draw: Draw, least: i32, most: i32, number: usize) -> i32 {
    least + draw.below((most - least + 1) as usize, [0, 0, number]) as i32
}

/// 0 for half of the experts, 1 for the others.
pub(super) fn half_of_experts(draw: Draw, e: usize) -> f64 {
    draw.below(2, [e, 0, 5]) as f64
}
