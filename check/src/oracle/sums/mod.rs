//! Sums over a run: what no bound of a single element can tell.
//!
//! The bound of an element leaves room for every honest way to compute it. A kernel whose alpha is 1.7 instead of 1.702
//! stays inside it everywhere. Its errors have a pattern though, and over a run the pattern adds up.
//!
//! # Derivation
//!
//! For an element, let e be its error and s its slope: the derivative of the definition by a parameter, both in units of
//! the element's bound. If the parameter is off by p, then e = p·s + r, where r is what an honest engine would have. The
//! least squares estimate of p from the elements of a case is Σ e·s / Σ s². Were the r independent with the standard
//! deviation σ, its variance would be σ² / Σ s².
//!
//! They are not independent. The elements of a token share its activations, and those of a case its weights, so that
//! many elements say little more than a few. A case therefore counts with the weight w = 1 / (1 + Σ s² / m): its
//! information w · Σ s² grows as if all were independent while it is small, and stays below m. That is the best weight
//! where the variance of Σ e·s is σ²·n + σ²·n²/m, with n = Σ s²: a part that is independent and one that all elements of
//! a case share. Over the cases
//!
//! **estimate**: Σ w·Σ e·s / Σ w·n, **standard error**: σ / sqrt(Σ w·n).
//!
//! Cases are drawn independently of each other, so σ can be measured whatever the errors of one case have in common: it
//! is the root of Σ (w·Σ e·s)² / Σ w·n over the cases of an honest engine. The table of honest engines (`honest.rs`) has the
//! largest σ for each precision and direction, and what they show on average, to either side: a kernel that cuts operands
//! to TF32 has smaller activations, for instance, and is no worse for it, but never larger ones. Where the cases of a run
//! differ in this, it is the mean over them, weighted as the estimate is.
//!
//! # The verdict
//!
//! An engine is **biased** where an estimate lies more than [`MOST_DEVIATIONS`] standard errors beyond what honest
//! engines show, and more than three of the standard errors that follow from how the engine's own cases differ, so that
//! no few cases decide; or where the root mean square of its errors is above that of any honest engine. Below
//! [`LEAST_CASES`] cases there is no estimate.
//!
//! Directions are not orthogonal. Larger alpha and a larger sigmoid change an output in nearly the same way, and so do
//! smaller weights and a cut output. One fault shows in several estimates; they are told in the order of their standard
//! errors, and the first is the likeliest.
//!
//! # What counts
//!
//! The cases that a check draws and on which the engine agrees, at up to 32 tokens and as long as that takes few
//! multiply-adds; of these the elements whose bound is neither 0 nor infinite. Roundings are not independent
//! where all rows are alike, or where few significands occur and the same ones in every case, as in small integers and in
//! gates far beyond any limit: value profiles of that kind do not count. The slopes are taken once for all engines of a precision. Engines of fp64 have no
//! sums: their errors are as much those of the definition.

mod case;
mod direction;
mod honest;
mod narrowed;
mod slopes;
mod tally;

pub use direction::Direction;
pub(crate) use slopes::Slopes;
pub use tally::{Estimate, LEAST_CASES, MOST_DEVIATIONS, Sum, Sums};

use binned_experts_reference::ActivationKind;

use crate::case::Tensor;
use crate::oracle::{Bounds, Expected};

/// What the errors of one case say.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseSums {
    /// The activation of its layer.
    pub activation: ActivationKind,
    /// Number of elements.
    pub elements: usize,
    /// Sum of the squared errors in units of the bound.
    pub squares: f64,
    /// By direction.
    pub along: [Projection; Direction::ALL.len()],
}

/// The errors of one case along a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Projection {
    /// Sum of error · slope, both in units of the bound.
    pub error: f64,
    /// Sum of slope².
    pub information: f64,
}

impl CaseSums {
    /// The sums of an output.
    pub(crate) fn new(slopes: &Slopes, expected: &Expected, bounds: &Bounds, output: &Tensor) -> CaseSums {
        let output = output.to_f64();
        let hidden = expected.inputs().dims.hidden;
        let mut sums = CaseSums {
            activation: expected.inputs().layer.activation,
            elements: 0,
            squares: 0.0,
            along: Default::default(),
        };
        for (token, slopes) in &slopes.rows {
            for column in 0..hidden {
                let bound = bounds.output[[*token, column]];
                let error = (output[token * hidden + column] - expected.definition().output[[*token, column]]) / bound;
                if bound == f64::INFINITY || !error.is_finite() {
                    continue;
                }
                sums.elements += 1;
                sums.squares += error * error;
                for (projection, &slope) in sums.along.iter_mut().zip(slopes.column(column)) {
                    if slope.is_finite() {
                        projection.error += error * slope;
                        projection.information += slope * slope;
                    }
                }
            }
        }
        sums
    }
}
