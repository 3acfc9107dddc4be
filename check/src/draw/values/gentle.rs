//! Pre-activations of standard deviation about 1.

use super::Values;
use crate::case::CaseSpec;
use crate::draw::numbers::{Draw, Stream};

/// Normal values, scaled so that sums are as large as their terms. The other profiles start from these.
pub(in crate::draw) struct Gentle {
    pub(super) hidden: Draw,
    pub(super) gate_up: Draw,
    pub(super) gate_up_bias: Draw,
    pub(super) down: Draw,
    pub(super) down_bias: Draw,
    pub(super) gate_up_scale: f64,
    pub(super) down_scale: f64,
}

impl Gentle {
    pub(super) fn new(spec: &CaseSpec) -> Gentle {
        Gentle {
            hidden: spec.draw(Stream::Hidden),
            gate_up: spec.draw(Stream::GateUp),
            gate_up_bias: spec.draw(Stream::GateUpBias),
            down: spec.draw(Stream::Down),
            down_bias: spec.draw(Stream::DownBias),
            gate_up_scale: 1.0 / (spec.hidden.max(1) as f64).sqrt(),
            down_scale: 1.0 / (spec.intermediate.max(1) as f64).sqrt(),
        }
    }
}

impl Values for Gentle {
    fn gentle(&self) -> &Gentle {
        self
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        self.hidden.normal([token, h, 0])
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gate_up.normal([e, h, j]) * self.gate_up_scale
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        0.25 * self.gate_up_bias.normal([e, j, 0])
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.down.normal([e, i, h]) * self.down_scale
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        0.25 * self.down_bias.normal([e, h, 0])
    }
}
