//! The value of each cell of each tensor but the routing weights.

use super::draw::{Draw, Stream};
use super::routing::shuffled;
use super::scale::Scales;
use super::spread::Spread;
use super::{CaseSpec, ValueProfile};

/// Size of the terms of a first product that cancel.
const TERMS: f64 = 128.0;
/// What a pair that cancels leaves, in parts of its values.
const REST: f64 = 1.0 / 256.0;

/// What stands at a position of a summed dimension, x and y being random.
#[derive(Clone, Copy)]
enum Part {
    /// x.
    Value,
    /// REST · y − x.
    Partner,
    /// REST · y: of an odd number of positions, one has no partner.
    Alone,
}

/// Positions of a summed dimension in random pairs, so that partial sums are those of a random order.
struct Pairs(Vec<(usize, Part)>);

impl Pairs {
    fn new(positions: usize, draw: Draw) -> Pairs {
        let mut pairs = vec![(positions / 2, Part::Alone); positions];
        for (pair, places) in shuffled((0..positions).collect(), draw).chunks_exact(2).enumerate() {
            pairs[places[0]] = (pair, Part::Value);
            pairs[places[1]] = (pair, Part::Partner);
        }
        Pairs(pairs)
    }

    /// The number of a position's pair.
    fn number(&self, at: usize) -> usize {
        self.0[at].0
    }

    /// The value at a position; `draw` gives x for 0 and y for 1 of a pair.
    fn value(&self, at: usize, draw: impl Fn(usize, usize) -> f64) -> f64 {
        let (pair, part) = self.0[at];
        match part {
            Part::Value => draw(pair, 0),
            Part::Partner => REST * draw(pair, 1) - draw(pair, 0),
            Part::Alone => REST * draw(pair, 1),
        }
    }
}

/// Draws cells by their positions.
pub(super) struct Cell<'a> {
    spec: &'a CaseSpec,
    gate_up_scale: f64,
    down_scale: f64,
    /// Powers of two; all 1 but for [`ValueProfile::WideRange`].
    spread: Spread,
    /// Of [`ValueProfile::OppositeScales`], [`ValueProfile::HugeGates`], [`ValueProfile::LowGates`],
    /// [`ValueProfile::Outliers`] and [`ValueProfile::LostSquares`].
    scales: Scales,
    /// Of [`ValueProfile::Cancelling`], along H and along I; else empty.
    hidden_pairs: Pairs,
    intermediate_pairs: Pairs,
}

impl Cell<'_> {
    pub(super) fn new(spec: &CaseSpec) -> Cell<'_> {
        let size = if spec.values == ValueProfile::Clamping {
            8.0
        } else {
            1.0
        };
        let pairs = |positions: usize, stream: Stream| {
            let cancels = spec.values == ValueProfile::Cancelling;
            Pairs::new(if cancels { positions } else { 0 }, spec.draw(stream))
        };
        Cell {
            spec,
            gate_up_scale: size / (spec.hidden.max(1) as f64).sqrt(),
            down_scale: 1.0 / (spec.intermediate.max(1) as f64).sqrt(),
            spread: Spread::new(spec),
            scales: Scales::new(spec),
            hidden_pairs: pairs(spec.hidden, Stream::GateUpScale),
            intermediate_pairs: pairs(spec.intermediate, Stream::DownScale),
        }
    }

    pub(super) fn hidden(&self, token: usize, h: usize) -> f64 {
        let draw = self.spec.draw(Stream::Hidden);
        match self.spec.values {
            ValueProfile::PureBias => 0.0,
            ValueProfile::Provenance => ((token * 7 + h) % 61 + 1) as f64 / 64.0,
            ValueProfile::SmallIntegers => small_integer(draw, [token, h, 0]),
            ValueProfile::WideRange => draw.normal([token, h, 0]) * self.spread.hidden(token, h),
            ValueProfile::OppositeScales | ValueProfile::HugeGates | ValueProfile::LostSquares => {
                draw.normal([token, h, 0]) * self.scales.hidden(token)
            }
            ValueProfile::Outliers => draw.normal([token, h, 0]) * self.scales.outlier(token),
            ValueProfile::Cancelling => self
                .hidden_pairs
                .value(h, |pair, part| draw.normal([token, pair, part])),
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
            ValueProfile::OppositeScales
            | ValueProfile::HugeGates
            | ValueProfile::Outliers
            | ValueProfile::LostSquares => normal() * self.scales.gate_up(),
            ValueProfile::Cancelling if cancels_first(e) => {
                TERMS * draw.normal([e, self.hidden_pairs.number(h), j]) * self.gate_up_scale
            }
            ValueProfile::Cancelling => draw.normal([e, h, self.equal_column(j)]) * self.gate_up_scale,
            _ => normal(),
        }
    }

    /// The number that the gate columns of a pair share, or its up columns, so that its activations are equal.
    fn equal_column(&self, j: usize) -> usize {
        2 * self.intermediate_pairs.number(j / 2) + j % 2
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
            ValueProfile::HugeGates => (0.75 + 0.25 * draw.normal([e, j, 0])) * self.scales.gate_up_bias(),
            ValueProfile::LostSquares => 0.25 * draw.normal([e, j, 0]) * self.scales.gate_up_bias(),
            ValueProfile::LowGates if j.is_multiple_of(2) => 0.25 * draw.normal([e, j, 0]) - self.scales.depth(e),
            ValueProfile::Cancelling if !cancels_first(e) => 0.25 * draw.normal([e, self.equal_column(j), 0]),
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
            ValueProfile::Cancelling if !cancels_first(e) => {
                self.down_scale
                    * self
                        .intermediate_pairs
                        .value(i, |pair, part| draw.normal([2 * e + part, pair, h]))
            }
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
            ValueProfile::LowGates => 0.25 * draw.normal([e, h, 0]) * self.scales.low_down_bias(e),
            ValueProfile::LostSquares => 0.25 * draw.normal([e, h, 0]) * self.scales.down_bias(e),
            ValueProfile::Cancelling if !cancels_first(e) => REST * draw.normal([e, h, 0]),
            _ => 0.25 * draw.normal([e, h, 0]),
        }
    }
}

/// Whether it is the first product of expert e whose terms cancel, or the second.
fn cancels_first(e: usize) -> bool {
    e.is_multiple_of(2)
}

fn small_integer(draw: Draw, at: [usize; 3]) -> f64 {
    draw.below(5, at) as f64 - 2.0
}
