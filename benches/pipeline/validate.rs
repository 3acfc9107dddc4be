//! Whether an output may be timed.

use binned_experts_check::engine::Outcome;
use binned_experts_check::judge::compare;
use binned_experts_check::oracle::Bounds;
use binned_experts_check::oracle::Roundings;
use binned_experts_check::oracle::{Expected, Inputs};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{AnyProblem, ElementType, Precision, Verdict};
use binned_experts_reference::Problem;
use ndarray::{Array3, ArrayView1, Axis};

use super::Failure;

/// Tokens whose outputs are compared with the definition, spread over the batch.
const SAMPLE: usize = 64;
/// What the seed's benchmark accepts, of every value.
pub(crate) const TOLERANCE: f64 = 1e-2;

/// What is right on a sample of a workload's tokens. The definition of all of them would take minutes.
pub(crate) struct Sample {
    tokens: Vec<usize>,
    expected: Expected,
    bounds: Bounds,
}

impl Sample {
    /// Takes a problem that drops nothing: its tokens do not depend on one another, so a problem of some of them has
    /// their very rows.
    pub(crate) fn new(problem: &Problem<f32>) -> Result<Sample, Failure> {
        let dims = problem.dims();
        let dropped = problem.bins().dropped(dims.capacity);
        if dropped > 0 {
            return Err(
                format!("the capacity drops {dropped} assignments: a sample of tokens would not show them").into(),
            );
        }
        let count = dims.tokens.min(SAMPLE);
        let tokens: Vec<usize> = (0..count).map(|i| i * dims.tokens / count).collect();
        let part = AnyProblem::F32(Problem::new(
            rows(problem.hidden_states(), &tokens),
            problem.router_indices().select(Axis(0), &tokens),
            rows(problem.routing_weights(), &tokens),
            problem.weights().clone(),
            count * dims.top_k,
        )?);
        let expected = Expected::new(Inputs::new(&part), part.output_shape(), ElementType::F32);
        let precision = Roundings::new(Precision::FP32, ElementType::F32);
        let bounds = Bounds::new(expected.inputs(), expected.definition(), precision);
        Ok(Sample {
            tokens,
            expected,
            bounds,
        })
    }

    /// Number of tokens.
    pub(crate) fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The largest share of an fp32 bound that the sample's outputs use.
    pub(crate) fn bound_used(&self, output: &Array3<f32>) -> Result<f64, Failure> {
        let outcome = Outcome::output(rows(output, &self.tokens));
        match compare(&self.expected, &self.bounds, &outcome) {
            Verdict::Agree { used, undecided: 0 } => Ok(used),
            verdict => Err(format!("on {} tokens: {}", self.len(), verdict_text(&verdict)).into()),
        }
    }

    /// How far the sample's outputs are from the definition.
    pub(crate) fn error(&self, output: &Array3<f32>) -> Error {
        let found = rows(output, &self.tokens);
        let pairs = found.iter().zip(&self.expected.definition().output);
        Error::of(pairs.map(|(found, expected)| (f64::from(*found), *expected)))
    }
}

/// The rows `[1,n,·]` of some tokens of `[B,S,·]`.
fn rows(tensor: &Array3<f32>, tokens: &[usize]) -> Array3<f32> {
    let (_, sequence, width) = tensor.dim();
    let row = |token: usize| -> ArrayView1<f32> {
        tensor
            .index_axis(Axis(0), token / sequence)
            .index_axis_move(Axis(0), token % sequence)
    };
    let views: Vec<_> = tokens.iter().map(|&token| row(token)).collect();
    Array3::from_shape_fn((1, tokens.len(), width), |(_, token, column)| views[token][column])
}

/// Differences of an output from what it should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Error {
    pub(crate) absmax: f64,
    pub(crate) mae: f64,
    pub(crate) mse: f64,
    /// Of the errors against that of the values, in the 2-norm.
    pub(crate) relative: f64,
    /// Whether every value is finite and within the seed's tolerance.
    pub(crate) is_close: bool,
}

impl Error {
    /// From pairs of found and expected values.
    pub(crate) fn of(pairs: impl Iterator<Item = (f64, f64)>) -> Error {
        let (mut absmax, mut sum, mut squares, mut values, mut count) = (0.0f64, 0.0, 0.0, 0.0, 0usize);
        let mut is_close = true;
        for (found, expected) in pairs {
            let error = (found - expected).abs();
            is_close &= found.is_finite() && error <= TOLERANCE + TOLERANCE * expected.abs();
            absmax = absmax.max(error);
            sum += error;
            squares += error * error;
            values += expected * expected;
            count += 1;
        }
        let count = count.max(1) as f64;
        Error {
            absmax,
            mae: sum / count,
            mse: squares / count,
            relative: (squares / values).sqrt(),
            is_close,
        }
    }

    /// Between two outputs.
    pub(crate) fn between(found: &Array3<f32>, expected: &Array3<f32>) -> Error {
        let pairs = found.iter().zip(expected);
        Error::of(pairs.map(|(found, expected)| (f64::from(*found), f64::from(*expected))))
    }
}

/// Whether two outputs are the same bits.
pub(crate) fn is_same(first: &Array3<f32>, second: &Array3<f32>) -> bool {
    first.dim() == second.dim()
        && first
            .iter()
            .zip(second)
            .all(|(first, second)| first.to_bits() == second.to_bits())
}
