//! Everything is exact in every precision.
//!
//! A token is 0 or has one feature, a power of two; so each sum of the first product has one term beside its bias, both
//! of few bits. One factor of each activation is exactly 0: the gate, or up + 1, or up where no 1 is added. The second biases of all experts are
//! the same small integers, each in the scale of its expert, by which the routing weights `powers-of-two` are divided.

use binned_experts_reference::ActivationKind;

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;
use crate::draw::weights::expert_scale;

pub(super) struct Exact {
    gentle: Gentle,
    hidden: usize,
    /// The up that makes an activation 0, where a case can have it: the limit has to let it pass.
    zero_up: Option<f64>,
}

impl Exact {
    pub(super) fn new(spec: &CaseSpec) -> Exact {
        Exact {
            gentle: Gentle::new(spec),
            hidden: spec.hidden,
            zero_up: match spec.layer.activation {
                ActivationKind::ClampedSwiglu => (spec.limit >= 1.0 && spec.layer.bias).then_some(-1.0),
                _ => Some(0.0),
            },
        }
    }

    /// The value of a column that is the same for all tokens; none for the other column of its pair.
    fn fixed(&self, e: usize, j: usize) -> Option<f64> {
        let fixes_up = self.gentle.gate_up_bias.below(2, [e, j / 2, 1]) == 1;
        match (self.zero_up.filter(|_| fixes_up), j % 2) {
            (None, 0) => Some(0.0),
            (Some(up), 1) => Some(up),
            _ => None,
        }
    }
}

impl Values for Exact {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        let draw = self.gentle.hidden;
        let is_zero = draw.below(4, [token, 0, 0]) == 3;
        if is_zero || h != draw.below(self.hidden, [token, 0, 1]) {
            return 0.0;
        }
        [0.25, 0.5, 1.0, 2.0, 4.0][draw.below(5, [token, 0, 2])]
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        match self.fixed(e, j) {
            Some(_) => 0.0,
            None => self.gentle.gate_up.below(5, [e, h, j]) as f64 - 2.0,
        }
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.fixed(e, j)
            .unwrap_or_else(|| self.gentle.gate_up_bias.below(5, [e, j, 0]) as f64 - 2.0)
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.gentle.down.below(5, [e, i, h]) as f64 - 2.0
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        let integer = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0, 3.0, 4.0][self.gentle.down_bias.below(8, [0, h, 0])];
        integer / expert_scale(e)
    }
}
