//! Every token of a case by products of whole matrices, to find those that look worst.
//!
//! A screen decides nothing: it has no bounds, only the size of what each element is the sum of. It says which tokens are
//! worth the definition.

use ndarray::{Array1, Array2, ArrayView2, Axis};
use rayon::prelude::*;

use super::{ActivationFunction, Inputs, pairs};
use crate::case::AnyProblem;

/// The most assignments of one expert that a thread takes at once, since a routing may give nearly all to one. The expert
/// is widened for each part, which costs about as much as one more row.
const AT_ONCE: usize = 256;

/// The output in f64, and the size of the terms of each element.
pub(crate) struct Screen {
    output: Array2<f64>,
    squares: Array2<f64>,
}

/// Kept assignments of one expert, or tokens of the shared ones.
struct Rows {
    expert_output: Array2<f64>,
    weights: Vec<f64>,
    /// Of each assignment, the sum of its squared activations.
    activated: Array1<f64>,
    /// Of each column of the second projection, the mean of the squares.
    columns: Array1<f64>,
}

impl Screen {
    /// `kept` are the assignments that the capacity keeps, in the order of the experts.
    pub(crate) fn new(problem: &AnyProblem, kept: &[usize]) -> Screen {
        let dims = problem.dims();
        let of_experts = kept.chunk_by(|one, other| problem.expert_of()[*one] == problem.expert_of()[*other]);
        let parts: Vec<&[usize]> = of_experts.flat_map(|flats| flats.chunks(AT_ONCE)).collect();
        let of_expert = |flats: &&[usize]| {
            let expert = problem.expert_of()[flats[0]].unwrap_or_default();
            Rows::new(&Inputs::of_expert(problem, expert, flats))
        };
        let rows: Vec<Rows> = parts.par_iter().map(of_expert).collect();
        let mut place = vec![None; dims.tokens * dims.top_k];
        for (part, flats) in parts.iter().enumerate() {
            for (row, &flat) in flats.iter().enumerate() {
                place[flat] = Some((part, row));
            }
        }
        let mut screen = Screen {
            output: Array2::zeros((dims.tokens, dims.hidden)),
            squares: Array2::zeros((dims.tokens, dims.hidden)),
        };
        for (flat, (part, row)) in place.into_iter().enumerate().filter_map(|(flat, at)| Some((flat, at?))) {
            screen.add(flat / dims.top_k, &rows[part], row);
        }
        let scale = problem.layer().scale;
        screen.output *= scale;
        screen.squares *= scale * scale;
        if problem.layer().shared_experts > 0 {
            screen.add_shared(problem);
        }
        screen
    }

    fn add_shared(&mut self, problem: &AnyProblem) {
        let tokens = Vec::from_iter(0..problem.dims().tokens);
        let parts = tokens.par_chunks(AT_ONCE);
        let rows: Vec<Rows> = parts.map(|part| Rows::new(&Inputs::of_shared(problem, part))).collect();
        for token in tokens {
            self.add(token, &rows[token / AT_ONCE], token % AT_ONCE);
        }
    }

    fn add(&mut self, token: usize, rows: &Rows, row: usize) {
        let (weight, activated) = (rows.weights[row], rows.activated[row]);
        let values = rows.expert_output.row(row);
        let sums = self.output.row_mut(token).into_iter().zip(self.squares.row_mut(token));
        for ((sum, squares), (value, column)) in sums.zip(values.iter().zip(&rows.columns)) {
            *sum += weight * value;
            *squares += weight * weight * (activated * column + value * value);
        }
    }

    /// For each token the largest difference to an output `[T,H]`, in units of the size of the terms: 0 where both are the
    /// same, +∞ where one is no number and the other is.
    pub(crate) fn differences(&self, found: ArrayView2<f64>) -> Vec<f64> {
        let of_element = |((found, value), squares): ((&f64, &f64), &f64)| {
            if found == value || (found.is_nan() && value.is_nan()) {
                return 0.0;
            }
            let difference = (found - value).abs() / squares.sqrt();
            if difference.is_nan() || squares.is_infinite() {
                f64::INFINITY
            } else {
                difference
            }
        };
        let rows = found
            .rows()
            .into_iter()
            .zip(self.output.rows())
            .zip(self.squares.rows());
        let of_row = rows.map(|((found, values), squares)| {
            let elements = found.into_iter().zip(values).zip(squares);
            elements.map(of_element).fold(0.0, f64::max)
        });
        of_row.collect()
    }
}

impl Rows {
    /// Those of the only expert, of tokens with one slot each.
    fn new(inputs: &Inputs) -> Rows {
        let kind = inputs.layer.activation;
        let activation = ActivationFunction::new(kind, inputs.activation);
        let number = inputs.dims.tokens;
        let mut x = Array2::zeros((number, inputs.dims.hidden));
        for (row, mut x) in x.rows_mut().into_iter().enumerate() {
            x.assign(&inputs.expert_input(row));
        }
        let gate_up = x.dot(&inputs.gate_up_proj.index_axis(Axis(0), 0)) + &inputs.gate_up_proj_bias;
        let mut activated = Array2::zeros((number, inputs.dims.intermediate));
        for (mut activated, gate_up) in activated.rows_mut().into_iter().zip(gate_up.rows()) {
            for (activated, (gate, up)) in activated.iter_mut().zip(pairs(kind, gate_up)) {
                *activated = activation.value(gate, up);
            }
        }
        let down = inputs.down_proj.index_axis(Axis(0), 0);
        let mut columns = Array1::zeros(inputs.dims.hidden);
        for row in down.rows() {
            columns.zip_mut_with(&row, |sum: &mut f64, weight| *sum += weight * weight);
        }
        Rows {
            expert_output: activated.dot(&down) + &inputs.down_proj_bias,
            weights: (0..number).map(|row| inputs.output_weight(row)).collect(),
            activated: activated.map_axis(Axis(1), |row| row.dot(&row)),
            columns: columns / inputs.dims.intermediate.max(1) as f64,
        }
    }
}
