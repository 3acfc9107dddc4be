//! Sums in which nothing is rounded, whatever their order. The derivation is in the parent module.

use ndarray::{ArrayView1, ArrayView2};

use crate::oracle::{Rounding, Roundings};

/// The most quanta that the operands of a product's row may have together. Each then fits the operands of a tensor core
/// in TF32 too, so that a product of f32 emulated by such parts drops nothing.
const MOST_QUANTA: f64 = 2048.0;

/// What decides whether a sum of products is exact in any order.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExactSum {
    /// Sum of the magnitudes of the terms.
    magnitude: f64,
    /// A power of two that all terms are multiples of.
    quantum: f64,
}

impl ExactSum {
    /// No terms.
    pub(super) const EMPTY: ExactSum = ExactSum {
        magnitude: 0.0,
        quantum: f64::INFINITY,
    };

    /// Adds the product of two finite factors that are known exactly.
    pub(super) fn add(&mut self, factor: f64, other: f64) {
        if factor != 0.0 && other != 0.0 {
            self.add_multiple(factor * other, quantum(factor) * quantum(other));
        }
    }

    fn add_multiple(&mut self, term: f64, quantum: f64) {
        self.magnitude += term.abs();
        self.quantum = self.quantum.min(quantum);
    }

    /// Whether an accumulator, and the oracle's own, hold every partial sum.
    pub(super) fn fits(&self, accumulate: Rounding, max: f64) -> bool {
        let Rounding { unit, step } = accumulate.coarser(Rounding::F64);
        self.magnitude * unit <= self.quantum && step <= self.quantum && self.magnitude <= 0.5 * max
    }
}

/// The sum of each column of a product, for a row of few quanta; none for any other row, whose columns are then taken to
/// be rounded.
pub(super) fn exact_columns(
    x: ArrayView1<f64>,
    matrix: ArrayView2<f64>,
    bias: ArrayView1<f64>,
    roundings: Roundings,
) -> Option<Vec<ExactSum>> {
    let mut row = ExactSum::EMPTY;
    x.iter().for_each(|x| row.add(*x, 1.0));
    let is_small = row.magnitude <= MOST_QUANTA * row.quantum;
    if !is_small || !x.iter().all(|x| roundings.operand.represents(*x)) {
        return None;
    }
    let mut columns = vec![ExactSum::EMPTY; bias.len()];
    for (&x, weights) in x.iter().zip(matrix.rows()).filter(|(x, _)| **x != 0.0) {
        let quantum_of_x = quantum(x);
        for (column, &weight) in columns.iter_mut().zip(weights) {
            if !roundings.operand.represents(weight) {
                column.quantum = 0.0;
            } else if weight != 0.0 {
                column.add_multiple(x * weight, quantum_of_x * quantum(weight));
            }
        }
    }
    for (column, bias) in columns.iter_mut().zip(bias) {
        column.add(*bias, 1.0);
    }
    Some(columns)
}

impl Rounding {
    /// Whether a value stays as it is.
    pub(super) fn represents(self, value: f64) -> bool {
        let quantum = quantum(value);
        value == 0.0 || (value.abs() * self.unit <= quantum && self.step <= quantum)
    }
}

/// The largest power of two that a value is a multiple of: its lowest bit. 0 for 0, and no number for what is not finite.
fn quantum(value: f64) -> f64 {
    const FRACTION: u64 = (1 << 52) - 1;
    let bits = value.abs().to_bits();
    let fraction = bits & FRACTION;
    if fraction == 0 {
        return value.abs();
    }
    let without_lowest = bits & !(fraction & fraction.wrapping_neg());
    value.abs() - f64::from_bits(without_lowest)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::tests::{EXACT, unit};
    use super::*;

    #[test]
    fn a_quantum_is_the_lowest_bit() {
        for (value, lowest) in [
            (1.0, 1.0),
            (-256.0, 256.0),
            (257.0, 1.0),
            (-0.75, 0.25),
            (6.5, 0.5),
            (f64::from_bits(6), f64::from_bits(2)),
            (f64::MIN_POSITIVE * 1.5, f64::MIN_POSITIVE / 2.0),
            (0.0, 0.0),
        ] {
            assert_eq!(quantum(value), lowest, "{value}");
        }
    }

    #[test]
    fn a_type_represents_its_own_values_alone() {
        for value in [0.0, 1.0, -255.0, 256.0, 258.0, 2f64.powi(-133), 1.5 * 2f64.powi(-132)] {
            assert!(Rounding::BF16.represents(value), "{value}");
        }
        for value in [257.0, 1.0 + 2f64.powi(-8), 2f64.powi(-134), 1.5 * 2f64.powi(-133)] {
            assert!(!Rounding::BF16.represents(value), "{value}");
        }
        assert!(Rounding::NONE.represents(0.1) && Rounding::F64.represents(0.1) && !Rounding::F32.represents(0.1));
    }

    fn fits(terms: &[(f64, f64)], accumulate: Rounding) -> bool {
        let mut sum = ExactSum::EMPTY;
        terms.iter().for_each(|(factor, other)| sum.add(*factor, *other));
        sum.fits(accumulate, f64::MAX)
    }

    #[test]
    fn a_sum_fits_as_long_as_its_magnitudes_do() {
        let large = 2f64.powi(23);
        assert!(fits(&[], Rounding::F32) && fits(&[(0.0, 3.0)], Rounding::F32));
        assert!(fits(&[(large, 1.0), (-large, 1.0)], Rounding::F32));
        assert!(!fits(&[(large, 1.0), (-large, 1.0), (1.0, 1.0)], Rounding::F32));
        assert!(!fits(&[(large, 1.0), (0.5, 0.5)], Rounding::F32));
        assert!(fits(&[(large, 1.0), (0.5, 0.5)], Rounding::F64));
        // Below the smallest value, in f32 and in the oracle's f64.
        assert!(!fits(&[(2f64.powi(-75), 2f64.powi(-75))], Rounding::F32));
        assert!(!fits(&[(2f64.powi(-600), 2f64.powi(-600))], Rounding::NONE));
        // Two values of f64 whose product has more bits than f64.
        let odd = 1.0 + f64::EPSILON;
        assert!(!fits(&[(odd, odd)], Rounding::NONE));
        // Finite alone, but not in every order.
        assert!(!fits(&[(f64::MAX, 1.0), (-f64::MAX, 1.0)], Rounding::NONE));
    }

    #[test]
    fn a_sum_has_the_magnitude_and_the_quantum_of_its_products() {
        let mut sum = ExactSum::EMPTY;
        sum.add(3.0, -0.75);
        assert_eq!((sum.magnitude, sum.quantum), (2.25, 0.25));
        sum.add(0.5, 0.25);
        assert_eq!((sum.magnitude, sum.quantum), (2.375, 0.125));
        let fits = |max: f64| sum.fits(Rounding::NONE, max);
        assert!(fits(4.75) && !fits(4.7));
    }

    #[test]
    fn a_row_of_few_quanta_has_exact_columns() {
        let of = |x: [f64; 2], operand: Rounding| {
            let roundings = Roundings { operand, ..EXACT };
            let matrix = array![[0.75, 1.0], [0.5, 0.0]];
            let columns = exact_columns(
                array![x[0], x[1]].view(),
                matrix.view(),
                array![0.0, 8.0].view(),
                roundings,
            );
            columns.map(|columns| {
                columns
                    .iter()
                    .map(|sum| (sum.magnitude, sum.quantum))
                    .collect::<Vec<_>>()
            })
        };
        let exact = Rounding::NONE;
        // 3 · ¾ and ½ · ½; 3 and a bias of 8.
        assert_eq!(of([3.0, 0.5], exact), Some(vec![(2.5, 0.25), (11.0, 1.0)]));
        // 2,048 quanta are few, one more is not.
        assert!(of([1023.5, 0.5], exact).is_some());
        assert!(of([1024.0, 0.5], exact).is_none());
        // 5 is rounded, as is a weight of ¾.
        assert!(of([5.0, 0.0], unit(0.25)).is_none());
        assert_eq!(of([2.0, 1.0], unit(0.5)), Some(vec![(0.5, 0.0), (10.0, 2.0)]));
    }
}
