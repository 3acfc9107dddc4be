//! The bound of a row of a product.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1};

use super::LAMBDA;
use super::exact::{ExactSum, exact_columns};
use super::shift::{COMMON, Shift};
use super::terms::Terms;
use crate::case::power_of_two;
use crate::oracle::{Rounding, Roundings};

/// The least sum of squares beside which those that underflow are nothing.
const LEAST_SQUARES: f64 = power_of_two(-900);
/// The most parts that a product is split into.
const MOST_PARTS: usize = 16;

/// One row of a product with its bias: value = x · matrix + bias, x known up to `error`.
pub(super) struct Affine<'a> {
    pub(super) x: ArrayView1<'a, f64>,
    /// None if x is exact.
    pub(super) error: Option<ArrayView1<'a, f64>>,
    pub(super) matrix: ArrayView2<'a, f64>,
    pub(super) bias: ArrayView1<'a, f64>,
    pub(super) value: ArrayView1<'a, f64>,
    /// By how much a root of squared errors of x is multiplied.
    pub(super) spread: f64,
    /// Relative error that all of x may have in common.
    pub(super) systematic: f64,
    /// The shift of the product before, a part of `error`.
    pub(super) shift: Option<&'a Shift>,
    pub(super) roundings: Roundings,
}

impl Affine<'_> {
    pub(super) fn bound(&self, mut bounds: ArrayViewMut1<f64>) {
        let errors = || self.error.iter().flatten();
        if errors().any(|error| *error == f64::INFINITY) {
            bounds.fill(f64::INFINITY);
            return;
        }
        let propagates = errors().any(|error| *error != 0.0);
        let mut columns = Columns::new(self.bias.len(), propagates);
        let exact = if propagates {
            None
        } else {
            exact_columns(self.x, self.matrix, self.bias, self.roundings)
        };
        for (i, (&x, row)) in self.x.iter().zip(self.matrix.rows()).enumerate() {
            columns.add_products(x, row);
            if propagates {
                columns.add_propagated(self.error_of(i) - self.shifted(i), row);
            }
        }
        for (column, bound) in bounds.iter_mut().enumerate() {
            let sums = columns.at(column);
            *bound = if !self.is_plain(column, &sums) {
                self.special(column)
            } else if exact
                .as_ref()
                .is_some_and(|exact| self.is_exact(column, &exact[column]))
            {
                0.0
            } else {
                self.finite(column, &sums)
            };
        }
    }

    fn error_of(&self, i: usize) -> f64 {
        self.error.map_or(0.0, |error| error[i])
    }

    /// The part of an error of x that its shift is.
    fn shifted(&self, i: usize) -> f64 {
        let shift = self.shift.map_or(0.0, |shift| shift.activated[i].abs());
        COMMON * self.roundings.operand.unit * shift
    }

    /// Whether neither the sum nor what is stored of it is rounded.
    fn is_exact(&self, column: usize, sum: &ExactSum) -> bool {
        let Roundings {
            accumulate,
            partial,
            between: store,
            max,
            ..
        } = self.roundings;
        let value = self.value[column];
        sum.fits(accumulate.coarser(partial), max)
            && store.represents(value - self.bias[column])
            && store.represents(value)
    }

    /// Whether all terms and all partial sums are finite, and the sum of squares has not lost any.
    fn is_plain(&self, column: usize, sums: &Sums) -> bool {
        // Squares of products of f32 are normal values of f64. Those of f64 may be 0.
        let are_seen = self.roundings.store.step >= Rounding::F32.step || sums.square_sum >= LEAST_SQUARES;
        let terms = (self.x.len() as f64).sqrt() * (sums.square_sum.sqrt() + sums.error_square_sum.sqrt());
        are_seen && self.value[column].is_finite() && terms + self.bias[column].abs() <= 0.5 * self.roundings.max
    }

    fn finite(&self, column: usize, sums: &Sums) -> f64 {
        let value = self.value[column];
        let sum = value - self.bias[column];
        let root = sums.square_sum.sqrt();
        let length = self.x.len() + 1;
        let propagated =
            self.spread * sums.error_square_sum.sqrt() + sums.error_sum.abs() + self.systematic * sum.abs();
        let size = sum.abs().max(value.abs()) + root;
        let summed = self.roundings.sum_error(self.roundings.accumulate, length, size);
        propagated + summed + self.rounded(column, value, sum, root)
    }

    /// The error of what is rounded besides the steps of the sum: the operands, the sums of parts, and what is stored.
    fn rounded(&self, column: usize, value: f64, sum: f64, root: f64) -> f64 {
        let Roundings {
            operand,
            partial,
            between,
            ..
        } = self.roundings;
        let parts = MOST_PARTS.min(self.x.len() + 1) as f64;
        let random = LAMBDA * parts.sqrt();
        let lost = if self.roundings.flushes { parts } else { random };
        let size = sum.abs().max(value.abs()) + root;
        let carried = self.shift.map_or(0.0, |shift| shift.expert_output[column].abs());
        // Near the end of f64 a size may be infinite, which is no error where nothing is rounded.
        let portion = |unit: f64, size: f64| if unit == 0.0 { 0.0 } else { unit * size };
        let operands = LAMBDA * 2f64.sqrt() * root + 2.0 * sum.abs() + COMMON * carried;
        portion(operand.unit, operands)
            + self.lost_operands(column)
            + portion(random * partial.unit, size)
            + lost * partial.step
            + between.error(sum)
            + between.error(value)
    }

    /// The error of operands that are rounded below the smallest values, or taken as 0 below the smallest normal one.
    fn lost_operands(&self, column: usize) -> f64 {
        let step = self.roundings.operand.step;
        if step == 0.0 {
            return 0.0;
        }
        let weights = self.matrix.column(column);
        if self.roundings.flushes {
            let lost = |value: f64, error: f64| {
                let is_certain = value.abs() - error >= step;
                if is_certain { 0.0 } else { step.min(value.abs() + error) }
            };
            let terms = self.x.iter().zip(weights).enumerate();
            let lost = terms.map(|(i, (x, weight))| {
                let error = self.error_of(i);
                lost(*x, error) * weight.abs() + lost(*weight, 0.0) * (x.abs() + error)
            });
            return lost.sum();
        }
        let square = |value: &f64| value * value;
        let norm = self.x.iter().map(square).sum::<f64>() + weights.iter().map(square).sum::<f64>();
        LAMBDA * step * norm.sqrt()
    }

    /// Term by term, where values are not finite, sums can overflow or squares underflow.
    fn special(&self, column: usize) -> f64 {
        let mut terms = Terms::new(self.roundings);
        for (i, (&x, &weight)) in self.x.iter().zip(self.matrix.column(column)).enumerate() {
            terms.add(x, self.error_of(i), self.shifted(i), weight);
        }
        terms.add(self.bias[column], 0.0, 0.0, 1.0);
        let value = self.value[column];
        let sum = value - self.bias[column];
        let besides = self.rounded(column, value, sum, terms.root) + self.systematic * sum.abs();
        let length = self.x.len() + 1;
        terms.bound(
            value,
            length,
            besides,
            self.spread,
            self.roundings.accumulate,
            self.roundings,
        )
    }
}

/// The sums that a column's bound is made of.
struct Sums {
    square_sum: f64,
    error_square_sum: f64,
    error_sum: f64,
}

/// [`Sums`] for all columns of a product.
struct Columns {
    square_sum: Vec<f64>,
    /// Empty where x is exact, as the next.
    error_square_sum: Vec<f64>,
    error_sum: Vec<f64>,
}

impl Columns {
    fn new(width: usize, propagates: bool) -> Columns {
        let propagated = if propagates { width } else { 0 };
        Columns {
            square_sum: vec![0.0; width],
            error_square_sum: vec![0.0; propagated],
            error_sum: vec![0.0; propagated],
        }
    }

    fn add_products(&mut self, x: f64, row: ArrayView1<f64>) {
        for (sum, &weight) in self.square_sum.iter_mut().zip(row) {
            let product = x * weight;
            *sum += product * product;
        }
    }

    fn add_propagated(&mut self, error: f64, row: ArrayView1<f64>) {
        for ((squares, sum), &weight) in self.error_square_sum.iter_mut().zip(&mut self.error_sum).zip(row) {
            let product = error * weight;
            *squares += product * product;
            *sum += product;
        }
    }

    fn at(&self, column: usize) -> Sums {
        Sums {
            square_sum: self.square_sum[column],
            error_square_sum: self.error_square_sum.get(column).copied().unwrap_or(0.0),
            error_sum: self.error_sum.get(column).copied().unwrap_or(0.0),
        }
    }
}
