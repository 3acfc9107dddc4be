//! Large terms in ± pairs whose sum is small against them: in the first product of even experts, in the second of odd
//! ones.

use super::Values;
use super::gentle::Gentle;
use crate::case::CaseSpec;
use crate::draw::numbers::{Draw, Stream, shuffled};

/// Size of the terms of a first product that cancel.
const TERMS: f64 = 128.0;
/// The sum of a pair, relative to its values.
const REST: f64 = 1.0 / 256.0;

pub(super) struct Cancelling {
    gentle: Gentle,
    hidden: Pairs,
    intermediate: Pairs,
}

impl Cancelling {
    pub(super) fn new(spec: &CaseSpec) -> Cancelling {
        Cancelling {
            gentle: Gentle::new(spec),
            hidden: Pairs::new(spec.hidden, spec.draw(Stream::GateUpScale)),
            intermediate: Pairs::new(spec.intermediate, spec.draw(Stream::DownScale)),
        }
    }

    /// A column number that both gate columns of a pair share, and another that both up columns share. So the
    /// activations of a pair are equal.
    fn equal_column(&self, j: usize) -> usize {
        2 * self.intermediate.number(j / 2) + j % 2
    }
}

impl Values for Cancelling {
    fn gentle(&self) -> &Gentle {
        &self.gentle
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        let value = |pair, part| self.gentle.hidden.normal([token, pair, part]);
        self.hidden.value(h, value)
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        let (draw, scale) = (self.gentle.gate_up, self.gentle.gate_up_scale);
        if cancels_first(e) {
            TERMS * draw.normal([e, self.hidden.number(h), j]) * scale
        } else {
            draw.normal([e, h, self.equal_column(j)]) * scale
        }
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        let column = if cancels_first(e) { j } else { self.equal_column(j) };
        self.gentle.gate_up_bias(e, column)
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        if cancels_first(e) {
            return self.gentle.down(e, i, h);
        }
        let value = |pair, part| self.gentle.down.normal([2 * e + part, pair, h]);
        self.gentle.down_scale * self.intermediate.value(i, value)
    }

    fn down_bias(&self, e: usize, h: usize) -> f64 {
        if cancels_first(e) {
            return self.gentle.down_bias(e, h);
        }
        REST * self.gentle.down_bias.normal([e, h, 0])
    }
}

/// Whether terms cancel in the first product of expert e; otherwise they do in the second.
fn cancels_first(e: usize) -> bool {
    e.is_multiple_of(2)
}

/// The value at a position of a summed dimension; x and y are random.
#[derive(Clone, Copy)]
enum Part {
    /// x.
    Value,
    /// REST · y − x.
    Partner,
    /// REST · y, for the one position without a partner where their number is odd.
    Alone,
}

/// Positions of a summed dimension in random pairs, so that partial sums behave as in a random order.
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
