//! Gates from −12 to −40 (−3 to −6 in f16). Nearly all activations are then far below the bound that the norms of token
//! and weights give. The second biases are as small as the activations, or zero.

use binned_experts_reference::ActivationKind;

use super::Values;
use super::gentle::Gentle;
use super::scales::half_of_experts;
use crate::case::{CaseSpec, ElementType, power_of_two};
use crate::draw::numbers::{Draw, Stream};

/// At a gate of −d the activation is about 2^(−d · this): 1.702 / ln 2 and 1 / ln 2, rounded.
const OF_SWIGLU: f64 = 2.4555;
const OF_SILU: f64 = std::f64::consts::LOG2_E;
/// Of others less than 2^(− this) is left: 1 + erf and 1 + tanh cancel, and max(gate, 0) is 0.
const OF_OTHERS: f64 = 24.0;

pub(super) struct LowGates {
    gentle: Gentle,
    scale: Draw,
    is_f16: bool,
    activation: ActivationKind,
}

impl LowGates {
    pub(super) fn new(spec: &CaseSpec) -> LowGates {
        LowGates {
            gentle: Gentle::new(spec),
            scale: spec.draw(Stream::Scale),
            is_f16: spec.element == ElementType::F16,
            activation: spec.layer.activation,
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

    /// As large as the expert's activations, for the clamped SwiGLU with an alpha of 1.702; 0 for half of the experts.
    fn down_bias(&self, e: usize, h: usize) -> f64 {
        let bits = match self.activation {
            ActivationKind::ClampedSwiglu => OF_SWIGLU * self.depth(e),
            ActivationKind::Silu | ActivationKind::ClampedSilu => OF_SILU * self.depth(e),
            _ => OF_OTHERS,
        };
        let size = power_of_two(-bits as i32);
        self.gentle.down_bias(e, h) * (half_of_experts(self.scale, e) * size)
    }
}
