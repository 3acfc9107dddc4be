//! The bound of a sum of a few terms, and the parts that all sums have.

use super::LAMBDA;
use crate::oracle::{Rounding, Roundings};

/// A sum of terms (value ± error) · weight whose values need not be finite.
pub(super) struct Terms {
    /// A factor below it may be taken as 0.
    smallest: f64,
    positive: f64,
    negative: f64,
    /// Root of the sum of the squared terms. A square can exceed the range of f64.
    pub(super) root: f64,
    error_root: f64,
    error_sum: f64,
    undecided: bool,
}

impl Terms {
    pub(super) fn new(Roundings { flushes, store, .. }: Roundings) -> Terms {
        Terms {
            smallest: if flushes { store.step } else { 0.0 },
            positive: 0.0,
            negative: 0.0,
            root: 0.0,
            error_root: 0.0,
            error_sum: 0.0,
            undecided: false,
        }
    }

    /// `shifted` is the part of the error whose effect on the sum is added apart.
    pub(super) fn add(&mut self, value: f64, error: f64, shifted: f64, weight: f64) {
        let product = value * weight;
        let certain = (error == 0.0 || value.abs() > error) && !self.may_be_lost(value);
        // An uncertain sign or zero times an infinity is an infinity of either sign or NaN.
        self.undecided |= error == f64::INFINITY || (!weight.is_finite() && value.is_finite() && !certain);
        self.undecided |= !value.is_finite() && self.may_be_lost(weight);
        if !product.is_finite() {
            // The sum of f64 products of finite values of a narrower type is finite.
            self.undecided |= value.is_finite() && weight.is_finite();
            return;
        }
        let magnitude = product.abs() + (error * weight).abs();
        if product > 0.0 || error != 0.0 {
            self.positive += magnitude;
        }
        if product < 0.0 || error != 0.0 {
            self.negative += magnitude;
        }
        let error = (error - shifted) * weight;
        self.root = self.root.hypot(product);
        self.error_root = self.error_root.hypot(error);
        self.error_sum += error;
    }

    /// Errors of terms that were added, and that may be one error many times: their sum takes the place of their root where
    /// it is larger.
    pub(super) fn repeat(&mut self, errors: impl Iterator<Item = f64>) {
        let (sum, root) = errors.fold((0.0, 0.0), |(sum, root): (f64, f64), error| {
            (sum + error, root.hypot(error))
        });
        let beyond = (sum.abs() - root).max(0.0).sqrt() * (sum.abs() + root).sqrt();
        self.error_root = self.error_root.hypot(beyond);
    }

    fn may_be_lost(&self, factor: f64) -> bool {
        factor != 0.0 && factor.abs() < self.smallest
    }

    /// `besides` is the error of what is rounded besides the steps of the sum, `spread` by how much the root of the squared
    /// errors of the values is multiplied.
    pub(super) fn bound(
        &self,
        value: f64,
        length: usize,
        besides: f64,
        spread: f64,
        accumulate: Rounding,
        roundings: Roundings,
    ) -> f64 {
        let slack = 1.0 + 2.0 * length as f64 * accumulate.unit + 4.0 * roundings.store.unit;
        let overflows = self.positive.max(self.negative) * slack > roundings.max;
        if self.undecided || (overflows && !value.is_nan()) {
            return f64::INFINITY;
        }
        if !value.is_finite() {
            return 0.0;
        }
        let propagated = spread * self.error_root + self.error_sum.abs();
        let summed = roundings.sum_error(accumulate, length, value.abs() + self.root);
        propagated + summed + besides
    }
}

impl Roundings {
    /// By how much a root of squared errors is multiplied, where errors go on into a product or a sum.
    pub(super) fn spread(&self) -> f64 {
        let are_few = self.flushes || self.activated != Rounding::NONE;
        if are_few { LAMBDA } else { 1.0 }
    }

    /// λ · u · sqrt(n) · (|S| + r), `size` the sum in brackets, for the engine and for the oracle's own f64 arithmetic.
    pub(super) fn sum_error(&self, accumulate: Rounding, length: usize, size: f64) -> f64 {
        let length = length as f64;
        let steps = LAMBDA * length.sqrt();
        // A term below half a step of the sum is lost whole; so are its neighbours, to the same side.
        let together = (length * accumulate.unit).max(1.0);
        let lost = if self.flushes { 2.0 * length } else { steps } * accumulate.step;
        steps * (accumulate.unit * together + Rounding::F64.unit) * size + lost
    }
}
