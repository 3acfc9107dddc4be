//! Powers of two over the range of an element type.

use crate::case::{CaseSpec, ElementType, power_of_two};
use crate::draw::numbers::{Draw, Stream};

/// Distance between two large features.
const OUTLIER_DISTANCE: usize = 32;

/// The part of a tensor that shares a power of two.
#[derive(Clone, Copy)]
enum Unit {
    /// Each token. Half of the experts have no biases, since a bias would hide small tokens.
    Token,
    /// Each column of a matrix, with its bias.
    Column,
    /// Each weight. No weight of a column exceeds the column's bias.
    Weight,
    /// Each feature of the hidden states and of the activations. The matrices have the inverse, so all terms of a sum
    /// are of ordinary size.
    Feature,
    /// One feature of the hidden states in 32, far above the others; its weights have the inverse.
    Outlier,
}

/// Factors for every cell of a case.
pub(super) struct Spread {
    unit: Unit,
    /// The first large feature, if they are rare.
    place: usize,
    /// Exponents are from −reach to reach.
    reach: i32,
    /// An exponent that makes most values subnormal; in f64 it only makes them small.
    subnormal: i32,
    lines: Draw,
    gate_up: Draw,
    down: Draw,
}

impl Spread {
    pub(super) fn new(spec: &CaseSpec) -> Spread {
        let (reach, subnormal) = match spec.element {
            ElementType::F16 => (5, -15),
            ElementType::F32 | ElementType::F64 | ElementType::Bf16 => (60, -127),
        };
        let lines = spec.draw(Stream::Scale);
        Spread {
            unit: [Unit::Token, Unit::Column, Unit::Weight, Unit::Feature, Unit::Outlier][lines.below(5, [0, 0, 0])],
            place: lines.below(spec.hidden.clamp(1, OUTLIER_DISTANCE), [0, 0, 7]),
            reach,
            subnormal,
            lines,
            gate_up: spec.draw(Stream::GateUpScale),
            down: spec.draw(Stream::DownScale),
        }
    }

    pub(super) fn hidden(&self, token: usize, h: usize) -> f64 {
        power_of_two(match self.unit {
            Unit::Token => self.exponent(self.lines, self.reach, [token, 0, 1]),
            Unit::Feature => self.feature(h),
            Unit::Outlier => self.outlier(h),
            Unit::Column | Unit::Weight => 0,
        })
    }

    pub(super) fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        power_of_two(match self.unit {
            Unit::Token => 0,
            Unit::Column => self.exponent(self.lines, self.reach, [e, j, 2]),
            Unit::Weight => self.exponent(self.gate_up, self.top([e, j, 2]), [e, h, j]),
            Unit::Feature => -self.feature(h) - self.activation(e, j),
            Unit::Outlier => -self.outlier(h),
        })
    }

    pub(super) fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        match self.unit {
            Unit::Token => self.bias(e),
            Unit::Column => power_of_two(self.exponent(self.lines, self.reach, [e, j, 2])),
            Unit::Weight => power_of_two(self.top([e, j, 2])),
            Unit::Feature => power_of_two(-self.activation(e, j)),
            Unit::Outlier => 1.0,
        }
    }

    pub(super) fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        power_of_two(match self.unit {
            Unit::Token | Unit::Outlier => 0,
            Unit::Column => self.exponent(self.lines, self.reach, [e, h, 3]),
            Unit::Weight => self.exponent(self.down, self.top([e, h, 3]), [e, i, h]),
            Unit::Feature => self.activation(e, 2 * i),
        })
    }

    pub(super) fn down_bias(&self, e: usize, h: usize) -> f64 {
        match self.unit {
            Unit::Token => self.bias(e),
            Unit::Column => power_of_two(self.exponent(self.lines, self.reach, [e, h, 3])),
            Unit::Weight => power_of_two(self.top([e, h, 3])),
            Unit::Feature | Unit::Outlier => 1.0,
        }
    }

    /// An exponent from −reach to `most`; about one in nine is the subnormal one.
    fn exponent(&self, draw: Draw, most: i32, at: [usize; 3]) -> i32 {
        let range = (most + self.reach + 1) as usize;
        let pick = draw.below(range + range / 8, at);
        if pick < range {
            pick as i32 - self.reach
        } else {
            self.subnormal
        }
    }

    /// The largest exponent of a column.
    fn top(&self, at: [usize; 3]) -> i32 {
        self.lines.below(2 * self.reach as usize + 1, at) as i32 - self.reach
    }

    /// The exponent of feature h of the hidden states.
    fn feature(&self, h: usize) -> i32 {
        self.top([h, 0, 4])
    }

    /// The exponent of feature h of the hidden states, where one in 32 is large.
    fn outlier(&self, h: usize) -> i32 {
        if h % OUTLIER_DISTANCE == self.place {
            self.reach
        } else {
            0
        }
    }

    /// The negated exponent of gate column j, which lowers its activation; 0 for an up column.
    fn activation(&self, e: usize, j: usize) -> i32 {
        if j.is_multiple_of(2) {
            self.lines.below(self.reach as usize + 1, [e, j, 5]) as i32
        } else {
            0
        }
    }

    /// 0 for half of the experts, 1 for the others.
    fn bias(&self, e: usize) -> f64 {
        self.lines.below(2, [e, 0, 6]) as f64
    }
}
