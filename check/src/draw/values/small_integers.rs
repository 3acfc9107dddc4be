//! Integers from −2 to 2. Seven in eight weights of the first matrix are 0.

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;
use crate::draw::numbers::{Draw, Stream};

pub(super) struct SmallIntegers {
    gentle: Gentle,
    gate_up: Draw,
}

impl SmallIntegers {
    pub(super) fn new(spec: &CaseSpec) -> SmallIntegers {
        SmallIntegers {
            gentle: Gentle::new(spec),
            gate_up: spec.draw(Stream::Scale),
        }
    }
}

impl Values for SmallIntegers {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        small_integer(self.gentle.hidden, [token, h, 0])
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        if self.gentle.gate_up.below(8, [e, h, j]) == 0 {
            small_integer(self.gate_up, [e, h, j])
        } else {
            0.0
        }
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        small_integer(self.gentle.gate_up_bias, [e, j, 0])
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        small_integer(self.gentle.down, [e, i, h])
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        small_integer(self.gentle.down_bias, [e, h, 0])
    }
}

fn small_integer(draw: Draw, at: [usize; 3]) -> f64 {
    draw.below(5, at) as f64 - 2.0
}
