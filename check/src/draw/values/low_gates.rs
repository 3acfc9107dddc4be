//! Gates from −12 to −40 (−3 to −6 in f16). Nearly all activations are then far below the bound that the norms of token
//! and weights give. The second biases are as small as the activations, or zero.

use super::Values;
use super::gentle::Gentle;
use super::scales::half_of_experts;
use crate::case::CaseSpec;
use crate::draw::numbers::{Draw, Stream};
use crate::tensor::{ElementType, power_of_two};

/// 1.702 / ln 2, rounded: at a gate of −d the sigmoid is about 2^(−d · this).
const BITS_PER_GATE: f64 = 2.4555;

pub(super) struct LowGates {
    gentle: Gentle,
    scale: Draw,
    is_f16: bool,
}

impl LowGates {
    pub(super) fn new(spec: &CaseSpec) -> LowGates {
        LowGates {
            gentle: Gentle::new(spec),
            scale: spec.draw(Stream::Scale),
            is_f16: spec.element == ElementType::F16,
        }
    }

    /// An expert's gates are around minus this.
    fn depth(&self, e: usize) -> f64 {
        let (least, range) = if self.is_f16 { (3, 4) } else { (12, 29) };
        (least + self.scale.below(range, [e, 0, 4])) as f64
    }
}

impl Values for LowGates {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        let bias = self.gentle.gate_up_bias(e, j);
        if j.is_multiple_of(2) {
            bias - self.depth(e)
        } else {
            bias
        }
    }

    /// As large as the expert's activations for an alpha of 1.702; 0 for half of the experts.
    fn down_bias(&self, e: usize, h: usize) -> f64 {
        let size = power_of_two(-(BITS_PER_GATE * self.depth(e)) as i32);
        self.gentle.down_bias(e, h) * (half_of_experts(self.scale, e) * size)
    }
}
