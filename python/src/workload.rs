//! The calls of a benchmark, and its judge.

use binned_experts_check::case::file;
use binned_experts_check::judge::{is_of_weights_at, judge_tokens};
use binned_experts_check::workload::{self, Workload};
use binned_experts_check::{AnyProblem, Precision};
use binned_experts_reference::Error;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::domain::refused;
use crate::raw::{Raw, raws, tensor};
use crate::verdict::Verdict;

/// Largest, mean and mean squared difference from the definition at the tokens that were judged.
type Errors = Option<(f64, f64, f64)>;

/// The experts' weights of a benchmark.
#[pyclass(frozen, module = "binned_experts._native")]
pub(crate) struct Weights {
    sizes: Workload,
    problem: AnyProblem,
    precision: Precision,
}

#[pymethods]
impl Weights {
    /// As arrays by name.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        raws(py, &py.detach(|| file::tensors_of_weights(&self.problem)))
    }

    /// The call of a seed with `sequence` tokens in each of `batch` rows.
    fn call(&self, py: Python<'_>, batch: usize, sequence: usize, seed: u64) -> PyResult<Call> {
        let sizes = Workload {
            batch,
            sequence,
            ..self.sizes
        };
        let problem = py.detach(|| sizes.call(&self.problem, seed)).map_err(refused)?;
        Ok(Call::new(problem, self.precision))
    }
}

/// Hidden states and routing of one call of a benchmark, and the weights that it is made with.
#[pyclass(frozen, module = "binned_experts._native")]
pub(crate) struct Call {
    problem: AnyProblem,
    precision: Precision,
}

impl Call {
    fn new(problem: AnyProblem, precision: Precision) -> Call {
        Call { problem, precision }
    }

    fn other(&self, made: Result<(AnyProblem, Vec<usize>), Error>) -> PyResult<(Call, Vec<usize>)> {
        let (problem, tokens) = made.map_err(refused)?;
        Ok((Call::new(problem, self.precision), tokens))
    }
}

#[pymethods]
impl Call {
    /// Hidden states and routing as arrays by name.
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        raws(py, &py.detach(|| file::tensors_of_call(&self.problem)))
    }

    /// A call in which two tokens have each other's hidden states, and these tokens.
    fn with_exchanged_tokens(&self, py: Python<'_>, seed: u64) -> PyResult<(Call, Vec<usize>)> {
        self.other(py.detach(|| workload::with_exchanged_tokens(&self.problem, seed)))
    }

    /// A call in which two tokens are routed otherwise, and these tokens.
    fn with_other_routing(&self, py: Python<'_>, seed: u64) -> PyResult<(Call, Vec<usize>)> {
        self.other(py.detach(|| workload::with_other_routing(&self.problem, seed)))
    }

    /// Different pairs of a token and an expert with a weight other than 0, their tokens and their experts.
    fn necessary(&self) -> (usize, usize, usize) {
        let necessary = workload::necessary(&self.problem);
        (necessary.pairs, necessary.tokens, necessary.experts)
    }

    /// The verdict on an output at some tokens, how many were judged, and their errors.
    fn judge(&self, py: Python<'_>, output: Raw<'_>, tokens: Vec<usize>) -> PyResult<(Verdict, usize, Errors)> {
        let (dtype, shape, bytes) = output;
        let output = tensor(&dtype, &shape, bytes.as_bytes()).map_err(refused)?;
        let judged = py.detach(|| judge_tokens(&self.problem, self.precision, &output, &tokens));
        let errors = judged.errors.iter().map(|error| error.abs());
        let number = judged.errors.len() as f64;
        let mean = |sum: f64| sum / number;
        let squares = errors.clone().map(|error| error * error);
        let largest = errors
            .clone()
            .reduce(|one, other| if other <= one { one } else { other });
        let errors = largest.map(|largest| (largest, mean(errors.sum()), mean(squares.sum())));
        Ok((Verdict::new(judged.verdict, String::new()), judged.tokens.len(), errors))
    }

    /// Whether an output is right at some tokens for a call that has some of other weights.
    fn is_of_weights(&self, py: Python<'_>, earlier: &Weights, output: Raw<'_>, tokens: Vec<usize>) -> PyResult<bool> {
        let (dtype, shape, bytes) = output;
        let output = tensor(&dtype, &shape, bytes.as_bytes()).map_err(refused)?;
        let is_of = || is_of_weights_at(&self.problem, &earlier.problem, self.precision, &output, &tokens);
        Ok(py.detach(is_of))
    }
}

/// The weights of a seed, of sizes H, I, E and K.
#[pyfunction]
pub(crate) fn draw_weights(
    py: Python<'_>,
    sizes: (usize, usize, usize, usize),
    precision: &str,
    seed: u64,
) -> PyResult<Weights> {
    let precision: Precision = precision
        .parse()
        .map_err(|error| refused(format!("precision: {error}")))?;
    let (hidden, intermediate, experts, top_k) = sizes;
    let sizes = Workload {
        batch: 1,
        sequence: 0,
        hidden,
        intermediate,
        experts,
        top_k,
    };
    let problem = py
        .detach(|| sizes.weights(precision.element(), seed))
        .map_err(refused)?;
    Ok(Weights {
        sizes,
        problem,
        precision,
    })
}
