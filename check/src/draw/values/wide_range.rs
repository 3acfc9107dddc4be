//! Values scaled by powers of two over the range of the element type, subnormal ones included.

use super::Values;
use super::gentle::Gentle;
use super::spread::Spread;
use crate::case::CaseSpec;

pub(super) struct WideRange {
    gentle: Gentle,
    spread: Spread,
}

impl WideRange {
    pub(super) fn new(spec: &CaseSpec) -> WideRange {
        WideRange {
            gentle: Gentle::new(spec),
            spread: Spread::new(spec),
        }
    }
}

impl Values for WideRange {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        self.gentle.hidden(token, h) * self.spread.hidden(token, h)
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gentle.gate_up(e, h, j) * self.spread.gate_up(e, h, j)
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.gentle.gate_up_bias(e, j) * self.spread.gate_up_bias(e, j)
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.gentle.down(e, i, h) * self.spread.down(e, i, h)
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.gentle.down_bias(e, h) * self.spread.down_bias(e, h)
    }
}
