//! Magnitudes that all values of a tensor share.

use super::draw::{Draw, Stream};
use super::{CaseSpec, ValueProfile};
use crate::precision::power_of_two;
use crate::tensor::ElementType;

/// 1.702 / ln 2, rounded: at a gate of −d the sigmoid is about 2^(−d · this).
const BITS_PER_GATE: f64 = 2.4555;

/// Powers of two for the tensors of a case, and how far below zero its gates lie.
pub(super) struct Scales {
    draw: Draw,
    is_f16: bool,
    /// Of the hidden states.
    hidden: i32,
    /// Of the gates and ups.
    gates: i32,
    /// Of the first biases.
    gate_up_bias: i32,
}

impl Scales {
    pub(super) fn new(spec: &CaseSpec) -> Scales {
        let draw = spec.draw(Stream::Scale);
        let is_f16 = spec.element == ElementType::F16;
        let up = draw.below(2, [0, 0, 0]) == 0;
        let between =
            |least: i32, most: i32, at: usize| least + draw.below((most - least + 1) as usize, [0, 0, at]) as i32;
        let (hidden, gate_up) = match (is_f16, up) {
            (false, true) => (between(112, 124, 1), between(-110, -100, 2)),
            (false, false) => (between(-124, -112, 1), between(112, 122, 2)),
            (true, true) => (between(8, 11, 1), between(-8, -5, 2)),
            (true, false) => (between(-11, -8, 1), between(8, 10, 2)),
        };
        let (lost, kept) = if is_f16 {
            (between(-13, -11, 1), between(5, 7, 2))
        } else {
            (between(-84, -78, 1), between(52, 58, 2))
        };
        let (hidden, gates) = match (spec.values, is_f16) {
            (ValueProfile::HugeGates, false) => (between(-20, 40, 1), between(16, 56, 2)),
            (ValueProfile::HugeGates, true) => (between(-2, 6, 1), between(2, 5, 2)),
            (ValueProfile::Outliers, false) => (20, 0),
            (ValueProfile::Outliers, true) => (2, 0),
            (ValueProfile::LostSquares, _) => (lost, lost + kept),
            _ => (hidden, hidden + gate_up),
        };
        Scales {
            draw,
            is_f16,
            hidden,
            gates,
            // Far below, so that it does not stand for what the squares have lost.
            gate_up_bias: if spec.values == ValueProfile::LostSquares {
                gates - 8
            } else {
                gates
            },
        }
    }

    /// Of a token: up to a factor of two from the others.
    pub(super) fn hidden(&self, token: usize) -> f64 {
        power_of_two(self.hidden + self.draw.below(3, [token, 0, 3]) as i32 - 1)
    }

    /// Of a token, one in 32 of which is far above the others.
    pub(super) fn outlier(&self, token: usize) -> f64 {
        let above = match self.draw.below(32, [token, 0, 6]) {
            0 if self.is_f16 => 5,
            0 => 44,
            _ => 0,
        };
        power_of_two(self.hidden + above)
    }

    pub(super) fn gate_up(&self) -> f64 {
        power_of_two(self.gates - self.hidden)
    }

    pub(super) fn gate_up_bias(&self) -> f64 {
        power_of_two(self.gate_up_bias)
    }

    /// How far below zero the gates of an expert lie.
    pub(super) fn depth(&self, e: usize) -> f64 {
        let (least, range) = if self.is_f16 { (3, 4) } else { (12, 29) };
        (least + self.draw.below(range, [e, 0, 4])) as f64
    }

    /// The size of an expert's low activations for an alpha of 1.702 or, for half of the experts, 0.
    pub(super) fn low_down_bias(&self, e: usize) -> f64 {
        let exponent = -(BITS_PER_GATE * self.depth(e)) as i32;
        self.has_down_bias(e) * power_of_two(exponent)
    }

    /// The size of the gates or, for half of the experts, 0.
    pub(super) fn down_bias(&self, e: usize) -> f64 {
        self.has_down_bias(e) * power_of_two(self.gates)
    }

    /// 1 or 0.
    fn has_down_bias(&self, e: usize) -> f64 {
        self.draw.below(2, [e, 0, 5]) as f64
    }
}
