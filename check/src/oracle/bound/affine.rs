//! The bound of a row of a product.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1};

use super::LAMBDA;
use super::exact::{ExactSum, exact_columns};
use super::terms::{Terms, operand_error, product_error};
use crate::oracle::Roundings;

/// One row of a product with its bias: value = x · matrix + bias, x known up to `error`.
pub(super) struct Affine<'a> {
    pub(super) x: ArrayView1<'a, f64>,
    pub(super) error: ArrayView1<'a, f64>,
    pub(super) matrix: ArrayView2<'a, f64>,
    pub(super) bias: ArrayView1<'a, f64>,
    pub(super) value: ArrayView1<'a, f64>,
    /// Relative error that all of x may have in common.
    pub(super) systematic: f64,
    pub(super) roundings: Roundings,
}

impl Affine<'_> {
    pub(super) fn bound(&self, mut bounds: ArrayViewMut1<f64>) {
        if self.error.iter().any(|error| *error == f64::INFINITY) {
            bounds.fill(f64::INFINITY);
            return;
        }
        let mut columns = Columns::new(self.bias.len());
        let propagates = self.error.iter().any(|error| *error != 0.0);
        let exact = if propagates {
            None
        } else {
            exact_columns(self.x, self.matrix, self.bias, self.roundings)
        };
        for ((&x, &error), row) in self.x.iter().zip(&self.error).zip(self.matrix.rows()) {
            columns.add_products(x, row);
            if propagates {
                columns.add_propagated(error, row);
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

    /// Whether neither the sum nor what is stored of it is rounded.
    fn is_exact(&self, column: usize, sum: &ExactSum) -> bool {
        let store = self.roundings.store;
        let value = self.value[column];
        sum.fits(self.roundings) && store.represents(value - self.bias[column]) && store.represents(value)
    }

    /// Whether all terms and all partial sums are finite.
    fn is_plain(&self, column: usize, sums: &Sums) -> bool {
        let terms = (self.x.len() as f64).sqrt() * (sums.square_sum.sqrt() + sums.error_square_sum.sqrt());
        self.value[column].is_finite() && terms + self.bias[column].abs() <= 0.5 * self.roundings.max
    }

    fn finite(&self, column: usize, sums: &Sums) -> f64 {
        let Roundings { operand, store, .. } = self.roundings;
        let value = self.value[column];
        let sum = value - self.bias[column];
        let root = sums.square_sum.sqrt();
        let propagated = sums.error_square_sum.sqrt() + sums.error_sum.abs() + self.systematic * sum.abs();
        let operands = operand_error(operand, sum, root) + LAMBDA * operand.step * self.operand_norm(column);
        let stored = store.error(sum) + store.error(value);
        propagated + product_error(self.x.len() + 1, value, sum, root, self.roundings) + operands + stored
    }

    /// The norm of both operands together; needed only if they are rounded.
    fn operand_norm(&self, column: usize) -> f64 {
        if self.roundings.operand.step == 0.0 {
            return 0.0;
        }
        let square = |value: &f64| value * value;
        let norm = self.x.iter().map(square).sum::<f64>() + self.matrix.column(column).iter().map(square).sum::<f64>();
        norm.sqrt()
    }

    /// Term by term, where values are not finite or sums can overflow.
    fn special(&self, column: usize) -> f64 {
        let mut terms = Terms::default();
        for ((&x, &error), &weight) in self.x.iter().zip(&self.error).zip(self.matrix.column(column)) {
            terms.add(x, error, weight);
        }
        terms.add(self.bias[column], 0.0, 1.0);
        let value = self.value[column];
        let sum = value - self.bias[column];
        let stored = self.roundings.store.error(sum) + self.roundings.store.error(value);
        let operands = operand_error(self.roundings.operand, sum, terms.root);
        terms.bound(
            value,
            self.x.len() + 1,
            stored + operands + self.systematic * sum.abs(),
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
    error_square_sum: Vec<f64>,
    error_sum: Vec<f64>,
}

impl Columns {
    fn new(width: usize) -> Columns {
        Columns {
            square_sum: vec![0.0; width],
            error_square_sum: vec![0.0; width],
            error_sum: vec![0.0; width],
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
            error_square_sum: self.error_square_sum[column],
            error_sum: self.error_sum[column],
        }
    }
}
