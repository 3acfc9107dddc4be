//! Hidden states near 2^±118, and a first matrix near the inverse (2^±10 in f16). The terms of their sums are of
//! ordinary size.

use super::Values;
use super::gentle::Gentle;
use super::scales::{Scales, between};
use crate::case::CaseSpec;
use crate::draw::numbers::Draw;

pub(super) struct OppositeScales {
    gentle: Gentle,
    scales: Scales,
}

impl OppositeScales {
    pub(super) fn new(spec: &CaseSpec) -> OppositeScales {
        OppositeScales {
            gentle: Gentle::new(spec),
            scales: Scales::new(spec, exponents),
        }
    }
}

fn exponents(draw: Draw, is_f16: bool) -> (i32, i32) {
    let large_hidden = draw.below(2, [0, 0, 0]) == 0;
    let (hidden, gate_up) = match (is_f16, large_hidden) {
        (false, true) => ((112, 124), (-110, -100)),
        (false, false) => ((-124, -112), (112, 122)),
        (true, true) => ((8, 11), (-8, -5)),
        (true, false) => ((-11, -8), (8, 10)),
    };
    let hidden = between(draw, hidden.0, hidden.1, 1);
    (hidden, hidden + between(draw, gate_up.0, gate_up.1, 2))
}

impl Values for OppositeScales {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        self.gentle.hidden(token, h) * self.scales.token(token)
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        self.gentle.gate_up(e, h, j) * self.scales.gate_up()
    }
}
