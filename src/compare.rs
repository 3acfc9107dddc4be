//! Comparison of an engine's outcome with the oracles: integers first and exactly, then values stage by stage.
//!
//! Every test is written in its accepting form, so that a NaN can never pass for a number.

use binned_experts_reference::Dims;
use ndarray::{Array1, Array2, ArrayView2};

use crate::bound::Bounds;
use crate::definition::{Definition, Inputs};
use crate::engine::Outcome;
use crate::tensor::{ElementType, Tensor};
use crate::verdict::{Location, Mismatch, Stage, Verdict};

/// What is right on one case.
#[derive(Debug, Clone)]
pub struct Expected {
    inputs: Inputs,
    definition: Definition,
    shape: Vec<usize>,
    element: ElementType,
    /// Flat indices of the assignments, expert after expert.
    sorted_indices: Vec<usize>,
    bins: Vec<usize>,
}

impl Expected {
    /// Computes the definition of a problem whose output has the shape `[B,S,H]` and an element type.
    pub fn new(inputs: Inputs, shape: Vec<usize>, element: ElementType) -> Expected {
        let mut by_expert = vec![Vec::new(); inputs.dims.experts];
        for &flat in &inputs.order {
            by_expert[inputs.assignment(flat).2].push(flat);
        }
        let total = |total: &mut usize, assignments: &Vec<usize>| {
            *total += assignments.len();
            Some(*total)
        };
        Expected {
            definition: Definition::new(&inputs),
            bins: by_expert.iter().scan(0, total).collect(),
            sorted_indices: by_expert.concat(),
            inputs,
            shape,
            element,
        }
    }

    /// The inputs in f64.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The element type of the problem.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The definition's stages.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The kept assignments in sorted order.
    fn kept(&self) -> Vec<usize> {
        self.sorted_indices
            .iter()
            .copied()
            .filter(|flat| self.definition.kept[*flat])
            .collect()
    }
}

/// Compares everything that an engine shows.
pub fn compare(expected: &Expected, bounds: &Bounds, outcome: &Outcome) -> Verdict {
    match compare_stages(expected, bounds, outcome) {
        Ok((used, undecided)) => Verdict::Agree { used, undecided },
        Err(mismatch) => Verdict::Disagree(mismatch),
    }
}

fn compare_stages(expected: &Expected, bounds: &Bounds, outcome: &Outcome) -> Result<(f64, usize), Box<Mismatch>> {
    let stages = &outcome.stages;
    if let Some(found) = &stages.sorted_indices {
        compare_indices(expected, Stage::SortedIndices, &expected.sorted_indices, found)?;
    }
    if let Some(found) = &stages.bins {
        compare_indices(expected, Stage::Bins, &expected.bins, found)?;
    }
    if let Some(found) = &stages.selected_weights {
        compare_selected_weights(expected, found)?;
    }
    let kept = expected.kept();
    let tokens: Vec<usize> = kept.iter().map(|flat| expected.inputs.assignment(*flat).0).collect();
    let definition = &expected.definition;
    let mut used: f64 = 0.0;
    let shown = [
        (
            Stage::Gathered,
            &stages.gathered,
            &tokens,
            &expected.inputs.hidden_states,
            None,
        ),
        (
            Stage::GateUp,
            &stages.gate_up,
            &kept,
            &definition.gate_up,
            Some(&bounds.gate_up),
        ),
        (
            Stage::Activated,
            &stages.activated,
            &kept,
            &definition.activated,
            Some(&bounds.activated),
        ),
        (
            Stage::ExpertOutput,
            &stages.expert_output,
            &kept,
            &definition.expert_output,
            Some(&bounds.expert_output),
        ),
    ];
    for (stage, found, rows, value, bound) in shown {
        let Some(found) = found else { continue };
        let locate = |row: usize, column: usize| expected.locate(kept[row], Some(column));
        let field = Field {
            stage,
            rows,
            value: value.view(),
            bound: bound.map(|bound| bound.view()),
        };
        used = used.max(field.compare(found.view(), locate)?);
    }
    let found = output(expected, &outcome.output)?;
    let locate = |token: usize, column: usize| Location {
        token: Some(token),
        column: Some(column),
        ..Location::default()
    };
    let all: Vec<usize> = (0..definition.output.nrows()).collect();
    let field = Field {
        stage: Stage::Output,
        rows: &all,
        value: definition.output.view(),
        bound: Some(bounds.output.view()),
    };
    used = used.max(field.compare(found.view(), locate)?);
    let undecided = bounds.output.iter().filter(|bound| **bound == f64::INFINITY).count();
    Ok((used, undecided))
}

impl Expected {
    fn locate(&self, flat: usize, column: Option<usize>) -> Location {
        let (token, slot, expert) = self.inputs.assignment(flat);
        Location {
            position: None,
            token: Some(token),
            slot: Some(slot),
            expert: Some(expert),
            column,
        }
    }
}

/// The output as `[T,H]`, if it has the right shape and element type.
fn output(expected: &Expected, found: &Tensor) -> Result<Array2<f64>, Box<Mismatch>> {
    if found.element() != Some(expected.element) {
        return Err(Box::new(Mismatch::Type {
            expected: expected.element.to_string(),
            found: found.type_name(),
        }));
    }
    let misfit = || {
        Box::new(Mismatch::Shape {
            stage: Stage::Output,
            expected: expected.shape.clone(),
            found: found.shape().to_vec(),
        })
    };
    if found.shape() != expected.shape {
        return Err(misfit());
    }
    let Dims { tokens, hidden, .. } = expected.inputs.dims;
    Array2::from_shape_vec((tokens, hidden), found.to_f64()).map_err(|_| misfit())
}

/// The right values of a stage and their bounds.
struct Field<'a> {
    stage: Stage,
    /// For each row that is to be found, its row in the arrays below.
    rows: &'a [usize],
    value: ArrayView2<'a, f64>,
    /// None: met exactly.
    bound: Option<ArrayView2<'a, f64>>,
}

impl Field<'_> {
    /// The largest share of a bound that was used.
    fn compare(&self, found: ArrayView2<f64>, locate: impl Fn(usize, usize) -> Location) -> Result<f64, Box<Mismatch>> {
        let shape = (self.rows.len(), self.value.ncols());
        if found.dim() != shape {
            let (expected, found) = (vec![shape.0, shape.1], found.shape().to_vec());
            return Err(Box::new(Mismatch::Shape {
                stage: self.stage,
                expected,
                found,
            }));
        }
        let mut used: f64 = 0.0;
        let mut first = None;
        let (mut wrong, mut rows, mut worst) = (0, 0, 0.0f64);
        let exact = Array1::zeros(shape.1);
        for (row, (&right, found)) in self.rows.iter().zip(found.rows()).enumerate() {
            let values = self.value.row(right);
            let bounds = self.bound.as_ref().map_or(exact.view(), |bound| bound.row(right));
            let wrong_before = wrong;
            for (column, ((&found, &value), &bound)) in found.iter().zip(values).zip(bounds).enumerate() {
                if let Some(share) = share_used(found, value, bound) {
                    used = used.max(share);
                    continue;
                }
                first.get_or_insert((row, column, found, value, bound));
                wrong += 1;
                let excess = (found - value).abs() / bound;
                worst = worst.max(if excess.is_nan() { f64::INFINITY } else { excess });
            }
            rows += usize::from(wrong > wrong_before);
        }
        let Some((row, column, found, expected, bound)) = first else {
            return Ok(used);
        };
        Err(Box::new(Mismatch::Values {
            stage: self.stage,
            at: locate(row, column),
            found,
            expected,
            bound,
            wrong,
            rows,
            total: shape.0 * shape.1,
            worst,
        }))
    }
}

/// The share of its bound that a value uses, or none if it is wrong.
///
/// An infinite bound accepts any value, a bound of 0 the value itself (any NaN for NaN; +0 and −0 are equal).
pub fn share_used(found: f64, value: f64, bound: f64) -> Option<f64> {
    if bound == f64::INFINITY || found == value || (value.is_nan() && found.is_nan()) {
        return Some(0.0);
    }
    let error = (found - value).abs();
    (error <= bound && value.is_finite()).then(|| error / bound)
}

fn compare_indices(expected: &Expected, stage: Stage, right: &[usize], found: &[usize]) -> Result<(), Box<Mismatch>> {
    if right.len() != found.len() {
        return Err(Box::new(Mismatch::Shape {
            stage,
            expected: vec![right.len()],
            found: vec![found.len()],
        }));
    }
    let differing: Vec<usize> = (0..right.len()).filter(|at| right[*at] != found[*at]).collect();
    let Some(&first) = differing.first() else { return Ok(()) };
    let at = match stage {
        Stage::SortedIndices => Location {
            position: Some(first),
            ..expected.locate(right[first], None)
        },
        _ => Location {
            expert: Some(first),
            ..Location::default()
        },
    };
    Err(Box::new(Mismatch::Values {
        stage,
        at,
        found: found[first] as f64,
        expected: right[first] as f64,
        bound: 0.0,
        wrong: differing.len(),
        rows: differing.len(),
        total: right.len(),
        worst: f64::INFINITY,
    }))
}

fn compare_selected_weights(expected: &Expected, found: &[f64]) -> Result<(), Box<Mismatch>> {
    let inputs = &expected.inputs;
    let weight = |flat: usize| {
        let (token, _, expert) = inputs.assignment(flat);
        inputs.routing_weights[[token, expert]]
    };
    let all: Vec<usize> = (0..inputs.dims.tokens * inputs.dims.top_k).collect();
    let right = Array2::from_shape_fn((all.len(), 1), |(flat, _)| weight(flat));
    let field = Field {
        stage: Stage::SelectedWeights,
        rows: &all,
        value: right.view(),
        bound: None,
    };
    let found = ArrayView2::from_shape((found.len(), 1), found).expect("a slice is a column");
    field.compare(found, |flat, _| expected.locate(flat, None)).map(|_| ())
}

/// Compares two outputs of the same case bit by bit; any NaN equals any other.
pub fn compare_runs(first: &Tensor, second: &Tensor) -> Result<(), Box<Mismatch>> {
    if first.shape() != second.shape() {
        let (expected, found) = (first.shape().to_vec(), second.shape().to_vec());
        return Err(Box::new(Mismatch::Shape {
            stage: Stage::Output,
            expected,
            found,
        }));
    }
    let width = first.shape().last().copied().unwrap_or(1).max(1);
    let (first, second) = (first.to_f64(), second.to_f64());
    let same =
        |at: &usize| first[*at].to_bits() == second[*at].to_bits() || (first[*at].is_nan() && second[*at].is_nan());
    let differing: Vec<usize> = (0..first.len()).filter(|at| !same(at)).collect();
    let Some(&at) = differing.first() else { return Ok(()) };
    Err(Box::new(Mismatch::NotRepeated {
        at: Location {
            token: Some(at / width),
            column: Some(at % width),
            ..Location::default()
        },
        first: first[at],
        second: second[at],
        wrong: differing.len(),
    }))
}
