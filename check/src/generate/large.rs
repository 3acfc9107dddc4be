//! The size profiles of which a single case takes long: many rows, one long side, or both sides of some length.

use std::ops::RangeInclusive;

use super::Source;
use super::inside::{lowered, near, raised};
use crate::case::{CaseSpec, DEEP, LONG, MEDIUM, PANEL};
use crate::domain::{Axes, Sizes};

/// More rows than the eight panels that kernels for tensor cores take together.
const MANY_ROWS: usize = 9 * PANEL;
/// H or I of published models, of which kernels take some on paths of their own. The ends are drawn more often than the
/// others: what has room for fewer fails there.
const LONG_SIDES: [usize; 11] = [640, 640, 1024, 1536, 2048, 2880, 4096, 7168, 8192, 8192, 8192];
/// Multiples of 32 and 64, most of which are no power of two, and sizes next to the edges of tiles.
const MEDIUM_SIDES: [usize; 15] = [
    288, 320, 258, 352, 384, 448, 480, 511, 512, 576, 640, 704, 768, 896, 1024,
];
/// The most elements of a matrix with two sides of medium size.
const MEDIUM_MATRIX: usize = 3 << 16;

impl Source<'_> {
    pub(super) fn many_rows(&mut self, spec: &mut CaseSpec, axes: &Axes, some_tokens: &Sizes) {
        spec.hidden = raised(&axes.hidden, near(&axes.hidden, DEEP + self.below(2)), DEEP);
        spec.intermediate = raised(&axes.intermediate, near(&axes.intermediate, 65 + self.below(2)), 65);
        spec.experts = near(&axes.experts, 1 + self.below(3));
        spec.top_k = near(&axes.top_k, [1, 2, 4][self.below(3)]);
        // The last panel has at most 64 rows, or just more.
        let rows = MANY_ROWS + [1, 30, 64, 65][self.below(4)];
        let tokens = if axes.distinct { rows } else { rows.div_ceil(spec.top_k) };
        spec.sequence = near(some_tokens, tokens);
    }

    pub(super) fn long(&mut self, spec: &mut CaseSpec, axes: &Axes, some_tokens: &Sizes) {
        let side = LONG_SIDES[self.below(LONG_SIDES.len())];
        let side = [side, side, side, side, side - 1, side + 1][self.below(6)];
        // Many tokens only where an assignment takes little.
        let has_many = self.below(8) == 7;
        let short = 1 + self.below(if has_many { 2 } else { 8 });
        let is_hidden = match axes.has_long_sides() {
            [true, true] => self.below(2) == 0,
            [is_hidden, _] => is_hidden,
        };
        (spec.hidden, spec.intermediate) = if is_hidden {
            (near_inside(&axes.hidden, side, &LONG), near(&axes.intermediate, short))
        } else {
            (near(&axes.hidden, short), near_inside(&axes.intermediate, side, &LONG))
        };
        spec.experts = lowered(&axes.experts, near(&axes.experts, 1 + self.below(4)), 4);
        (spec.top_k, spec.sequence) = if has_many {
            let tokens = [1024, 257, 129, 65][self.below(4)];
            (near(&axes.top_k, 1 + self.below(2)), near(some_tokens, tokens))
        } else {
            let tokens = 1 + self.below(32);
            (self.top_k(&axes.top_k, spec.experts), near(some_tokens, tokens))
        };
    }

    pub(super) fn medium(&mut self, spec: &mut CaseSpec, axes: &Axes, some_tokens: &Sizes) {
        let side = MEDIUM_SIDES[self.below(MEDIUM_SIDES.len())];
        let other = MEDIUM_SIDES[self.below(MEDIUM_SIDES.len())].min(MEDIUM_MATRIX / side);
        let (hidden, intermediate) = match self.below(2) {
            0 if !axes.square => (side, other),
            _ => (other, side),
        };
        spec.hidden = near_inside(&axes.hidden, hidden, &MEDIUM);
        spec.intermediate = near_inside(&axes.intermediate, intermediate, &MEDIUM);
        spec.experts = lowered(&axes.experts, near(&axes.experts, 1 + self.below(4)), 4);
        spec.top_k = near(&axes.top_k, [1, 2, 4][self.below(3)]);
        // More than a panel too where an expert has fifteen of sixteen.
        let rows = PANEL + [30, 1, 16, 64][self.below(4)];
        let rows = rows + rows / 8;
        let tokens = if axes.distinct { rows } else { rows.div_ceil(spec.top_k) };
        spec.sequence = near(some_tokens, tokens);
    }
}

/// The size inside a range that is nearest to `size`; outside where the domain has none inside.
fn near_inside(sizes: &Sizes, size: usize, range: &RangeInclusive<usize>) -> usize {
    near(sizes.inside(range).as_ref().unwrap_or(sizes), size)
}
