//! The value of each cell of each tensor but the routing weights.

use super::draw::{Draw, Stream};
use super::spread::Spread;
use super::{CaseSpec, ValueProfile};

/// Draws cells by their positions.
pub(super) struct Cell<'a> {
    spec: &'a CaseSpec,
    gate_up_scale: f64,
    down_scale: f64,
    /// Powers of two; all 1 but for [`ValueProfile::WideRange`].
    spread: Spread,
}

impl Cell<'_> {
    pub(super) fn new(spec: &CaseSpec) -> Cell<'_> {
        let size = if spec.values == ValueProfile::Clamping {
            8.0
        } else {
            1.0
        };
        Cell {
            spec,
            gate_up_scale: size / (spec.hidden.max(1) as f64).sqrt(),
            down_scale: 1.0 / (spec.intermediate.max(1) as f64).sqrt(),
            spread: Spread::new(spec),
        }
    }

    pub(super) fn hidden(&self, token: usize, h: usize) -> f64 {
        let draw = self.spec.draw(Stream::Hidden);
        match self.spec.values {
            ValueProfile::PureBias => 0.0,
            ValueProfile::Provenance => ((token * 7 + h) % 61 + 1) as f64 / 64.0,
            ValueProfile::SmallIntegers => small_integer(draw, [token, h, 0]),
            ValueProfile::WideRange => draw.normal([token, h, 0]) * self.spread.hidden(token, h),
            _ => draw.normal([token, h, 0]),
        }
    }

    pub(super) fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        let draw = self.spec.draw(Stream::GateUp);
        let normal = || draw.normal([e, h, j]) * self.gate_up_scale;
        match self.spec.values {
            // up of column i is x of column i mod H, gate is constant.
            ValueProfile::Provenance => f64::from(u8::from(j % 2 == 1 && h == j / 2 % self.spec.hidden)),
            ValueProfile::SmallIntegers if draw.below(8, [e, h, j]) != 0 => 0.0,
            ValueProfile::SmallIntegers => small_integer(self.spec.draw(Stream::Scale), [e, h, j]),
            ValueProfile::WideRange => normal() * self.spread.gate_up(e, h, j),
            _ => normal(),
        }
    }

    pub(super) fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        let draw = self.spec.draw(Stream::GateUpBias);
        match self.spec.values {
            ValueProfile::LargeBias | ValueProfile::PureBias => ((e * 31 + j * 17) % 64) as f64 / 8.0 - 4.0,
            ValueProfile::Provenance if j.is_multiple_of(2) => 2.0,
            ValueProfile::Provenance => (e % 13) as f64 / 16.0,
            ValueProfile::SmallIntegers => small_integer(draw, [e, j, 0]),
            ValueProfile::Clamping => 2.0 * draw.normal([e, j, 0]),
            ValueProfile::WideRange => 0.25 * draw.normal([e, j, 0]) * self.spread.gate_up_bias(e, j),
            _ => 0.25 * draw.normal([e, j, 0]),
        }
    }

    pub(super) fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        let draw = self.spec.draw(Stream::Down);
        let normal = || draw.normal([e, i, h]) * self.down_scale;
        match self.spec.values {
            // Column h of the output is activation h mod I.
            ValueProfile::Provenance => f64::from(u8::from(i == h % self.spec.intermediate)),
            ValueProfile::SmallIntegers => small_integer(draw, [e, i, h]),
            ValueProfile::WideRange => normal() * self.spread.down(e, i, h),
            _ => normal(),
        }
    }

    pub(super) fn down_bias(&self, e: usize, h: usize) -> f64 {
        let draw = self.spec.draw(Stream::DownBias);
        match self.spec.values {
            ValueProfile::LargeBias | ValueProfile::PureBias => ((e % 32) * 8 + h % 64) as f64 / 8.0,
            ValueProfile::Provenance => (e % 29) as f64 + (h % 31) as f64 / 32.0,
            ValueProfile::SmallIntegers => small_integer(draw, [e, h, 0]),
            ValueProfile::WideRange => 0.25 * draw.normal([e, h, 0]) * self.spread.down_bias(e, h),
            _ => 0.25 * draw.normal([e, h, 0]),
        }
    }
}

fn small_integer(draw: Draw, at: [usize; 3]) -> f64 {
    draw.below(5, at) as f64 - 2.0
}
