//! As [`Gentle`], but one token in 32 is 2^44 times as large as the others, near 2^64 (2^5 times in f16).

use super::Values;
use super::gentle::Gentle;
use super::scales::Scales;
use crate::case::{CaseSpec, ElementType, power_of_two};
use crate::draw::numbers::{Draw, Stream};

pub(super) struct Outliers {
    gentle: Gentle,
    scales: Scales,
    scale: Draw,
    /// Exponent of a large token over the others.
    above: i32,
}

impl Outliers {
    pub(super) fn new(spec: &CaseSpec) -> Outliers {
        Outliers {
            gentle: Gentle::new(spec),
            scales: Scales::new(spec, |_, is_f16| (if is_f16 { 2 } else { 20 }, 0)),
            scale: spec.draw(Stream::Scale),
            above: if spec.element == ElementType::F16 { 5 } else { 44 },
        }
    }
}

impl Values for Outliers {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        let is_large = self.scale.below(32, [token, 0, 6]) == 0;
        let exponent = self.scales.hidden + if is_large { self.above } else { 0 };
        self.gentle.hidden(token, h) * power_of_two(exponent)
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gentle.gate_up(e, h, j) * self.scales.gate_up()
    }
}
