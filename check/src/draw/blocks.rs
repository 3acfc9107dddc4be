//! Projections rounded to MXFP4.
//!
//! A value becomes the nearest one of its block. The scale is the power of two that the largest value of the block is 4 to
//! 8 times as large as; what is beyond 6 times the scale becomes that. A value that is rounded to 0 keeps its sign. Five
//! blocks in sixteen are of kinds that kernels get wrong: zeros, one value 32 times, and scales far from those beside them.

use binned_experts_reference::Mxfp4;
use rayon::prelude::*;

use super::numbers::Draw;
use crate::case::{CaseSpec, ValueProfile, power_of_two};

/// The largest code.
const LARGEST: f64 = 6.0;

/// The blocks of a projection.
pub(super) struct Blocks {
    blocks: Vec<Block>,
    /// Blocks of a row, and rows.
    number: usize,
    rows: usize,
}

/// What the values of a block become.
#[derive(Clone, Copy)]
enum Block {
    /// Zeros, with their signs.
    Zeros,
    /// All the same, `halves` times half of 2^exponent.
    Equal { halves: i8, exponent: i8 },
    /// Codes of 2^rounded, with a scale of 2^stored.
    Codes { rounded: i8, stored: i8 },
}

impl Blocks {
    /// The blocks of a projection `[E,in,out]` of these values, along `in`. The block with the row `plain` is rounded and
    /// nothing else.
    pub(super) fn new(
        spec: &CaseSpec,
        [experts, inner, rows]: [usize; 3],
        draw: Draw,
        plain: Option<usize>,
        value: impl Fn(usize, usize, usize) -> f64 + Sync,
    ) -> Blocks {
        let exponents = with_element!(spec.element, T => Mxfp4::exponents::<T>());
        let (least, greatest) = (*exponents.start() as i8, *exponents.end() as i8);
        let number = inner / Mxfp4::BLOCK;
        let mut blocks = vec![Block::Zeros; experts * number * rows];
        let block = |e: usize, at: usize, row: usize| {
            let first = at * Mxfp4::BLOCK;
            let values = (first..first + Mxfp4::BLOCK).map(|place| value(e, place, row));
            let largest = values.fold(0.0, |largest: f64, value| largest.max(value.abs()));
            let rounded = (exponent_of(largest) - 2).clamp(i32::from(least), i32::from(greatest)) as i8;
            let bits = draw.bits([e, at, row]);
            let is_plain = plain.is_some_and(|plain| plain / Mxfp4::BLOCK == at);
            let stored = match bits % 16 {
                _ if is_plain => rounded,
                0 => return Block::Zeros,
                1 => {
                    let halves = 2.0 * nearest(value(e, first, row) * power_of_two(-i32::from(rounded)));
                    return Block::Equal {
                        halves: halves as i8,
                        exponent: rounded,
                    };
                }
                // Sums of values far apart are exact in no type.
                _ if spec.values == ValueProfile::Exact => rounded,
                2 => least,
                3 | 4 => rounded.saturating_sub(1 + (bits >> 8 & 7) as i8).max(least),
                _ => rounded,
            };
            Block::Codes { rounded, stored }
        };
        blocks.par_chunks_mut(rows.max(1)).enumerate().for_each(|(at, blocks)| {
            for (row, place) in blocks.iter_mut().enumerate() {
                *place = block(at / number, at % number, row);
            }
        });
        Blocks { blocks, number, rows }
    }

    /// What a value becomes.
    pub(super) fn rounded(&self, [e, place, row]: [usize; 3], drawn: f64) -> f64 {
        match self.blocks[(e * self.number + place / Mxfp4::BLOCK) * self.rows + row] {
            Block::Zeros => 0f64.copysign(drawn),
            Block::Equal { halves, exponent } => f64::from(halves) * power_of_two(i32::from(exponent) - 1),
            Block::Codes { rounded, stored } => {
                nearest(drawn * power_of_two(-i32::from(rounded))) * power_of_two(i32::from(stored))
            }
        }
    }
}

/// The power of two in a number; that of the least one in 0.
fn exponent_of(number: f64) -> i32 {
    (number.to_bits() >> 52) as i32 - 1023
}

/// The nearest value of a code, ties to even codes.
fn nearest(number: f64) -> f64 {
    let step = match number.abs() {
        ..2.0 => 0.5,
        2.0..4.0 => 1.0,
        _ => 2.0,
    };
    let rounded = (number / step).round_ties_even() * step;
    rounded.clamp(-LARGEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_becomes_the_nearest_code() {
        let pairs = [
            (0.2, 0.0),
            (0.25, 0.0),
            (0.3, 0.5),
            (0.75, 1.0),
            (1.25, 1.0),
            (1.3, 1.5),
            (1.75, 2.0),
            (2.5, 2.0),
            (2.6, 3.0),
            (3.5, 4.0),
            (4.9, 4.0),
            (5.0, 4.0),
            (5.1, 6.0),
            (7.9, 6.0),
        ];
        for (number, code) in pairs {
            assert_eq!((nearest(number), nearest(-number)), (code, -code), "{number}");
        }
        assert!(nearest(-0.1).is_sign_negative());
    }
}
