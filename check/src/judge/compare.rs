//! Comparison of an engine's outcome with the oracle: integers first, which must be met exactly, then values stage by
//! stage.
//!
//! Every test states what it accepts, so that NaN never passes for a number.

use ndarray::{Array1, Array2, ArrayView2};

use super::verdict::{Mismatch, Verdict};
use crate::case::stage::{Layout, Location, Stage, StageValues};
use crate::case::{ElementType, Tensor};
use crate::engine::Outcome;
use crate::oracle::{Bounds, Expected, RightRows};

/// Compares everything that an engine shows.
pub fn compare(expected: &Expected, bounds: &Bounds, outcome: &Outcome) -> Verdict {
    match compare_stages(expected, bounds, outcome) {
        Ok((used, undecided)) => Verdict::Agree { used, undecided },
        Err(mismatch) => Verdict::Disagree(mismatch),
    }
}

fn compare_stages(expected: &Expected, bounds: &Bounds, outcome: &Outcome) -> Result<(f64, usize), Box<Mismatch>> {
    let mut used: f64 = 0.0;
    for (stage, found) in outcome.stages.iter() {
        used = used.max(match (found, expected.rows(stage)) {
            (StageValues::Indices(found), None) if stage.layout() == Layout::Indices => {
                compare_indices(expected, stage, found)?
            }
            (StageValues::Rows(found), Some(right)) => compare_rows(expected, bounds, stage, &right, found.view())?,
            _ => return Err(Box::new(Mismatch::kind_of(stage, found))),
        });
    }
    let found = output_rows(&outcome.output, expected.shape(), expected.output_type())?;
    let tokens: Vec<usize> = (0..found.nrows()).collect();
    let field = Field {
        stage: Stage::Output,
        rows: &tokens,
        value: expected.definition().output.view(),
        bound: Some(bounds.output.view()),
    };
    let locate = |token: usize, column: usize| Location {
        token: Some(token),
        column: Some(column),
        ..Location::default()
    };
    used = used.max(field.compare(found.view(), locate)?);
    let undecided = bounds.output.iter().filter(|bound| **bound == f64::INFINITY).count();
    Ok((used, undecided))
}

/// A stage with a row for each assignment, or for each kept one.
fn compare_rows(
    expected: &Expected,
    bounds: &Bounds,
    stage: Stage,
    right: &RightRows,
    found: ArrayView2<f64>,
) -> Result<f64, Box<Mismatch>> {
    let field = Field {
        stage,
        rows: &right.rows,
        value: right.value.view(),
        bound: bounds.of(stage).map(|bound| bound.view()),
    };
    let layer = &expected.inputs().layer;
    let places = (stage == Stage::GateUp).then(|| layer.gate_up_places(expected.inputs().dims.intermediate));
    let place = |column| places.as_ref().map_or(column, |places| places[column]);
    let column_of = |column| (stage.layout() == Layout::KeptRows).then(|| place(column));
    field.compare(found, |row, column| {
        expected.locate(right.assignments[row], column_of(column))
    })
}

/// The output as `[T,H]`, if it has the right shape `[B,S,H]` and element type.
pub(super) fn output_rows(found: &Tensor, shape: &[usize], element: ElementType) -> Result<Array2<f64>, Box<Mismatch>> {
    if found.element() != Some(element) {
        return Err(Box::new(Mismatch::Type {
            stage: Stage::Output,
            expected: element.to_string(),
            found: found.type_name(),
        }));
    }
    let misfit = || {
        Box::new(Mismatch::Shape {
            stage: Stage::Output,
            expected: shape.to_vec(),
            found: found.shape().to_vec(),
        })
    };
    let &[batch, sequence, hidden] = shape else {
        return Err(misfit());
    };
    if found.shape() != shape {
        return Err(misfit());
    }
    Array2::from_shape_vec((batch * sequence, hidden), found.to_f64()).map_err(|_| misfit())
}

/// The right values of a stage and their bounds.
struct Field<'a> {
    stage: Stage,
    /// The row in the arrays below for each row that is expected.
    rows: &'a [usize],
    value: ArrayView2<'a, f64>,
    /// None if the values must be met exactly.
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
            within: Vec::new(),
        }))
    }
}

/// The share of its bound that a value uses; none if the value is wrong.
///
/// An infinite bound accepts any value, a bound of 0 the value itself (any NaN for NaN; +0 and −0 are equal).
pub fn share_used(found: f64, value: f64, bound: f64) -> Option<f64> {
    if bound == f64::INFINITY || found == value || (value.is_nan() && found.is_nan()) {
        return Some(0.0);
    }
    let error = (found - value).abs();
    (error <= bound && value.is_finite()).then(|| error / bound)
}

fn compare_indices(expected: &Expected, stage: Stage, found: &[usize]) -> Result<f64, Box<Mismatch>> {
    let right = match stage {
        Stage::SortedIndices => expected.sorted_indices(),
        _ => expected.bins(),
    };
    if right.len() != found.len() {
        return Err(Box::new(Mismatch::Shape {
            stage,
            expected: vec![right.len()],
            found: vec![found.len()],
        }));
    }
    let differing: Vec<usize> = (0..right.len()).filter(|at| right[*at] != found[*at]).collect();
    let Some(&first) = differing.first() else {
        return Ok(0.0);
    };
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
        within: Vec::new(),
    }))
}

/// Compares two runs of the same case bit by bit, in their output and in every stage that both show; any NaN equals any
/// other.
///
/// # Errors
/// The first stage that differs.
pub fn compare_runs(first: &Outcome, second: &Outcome) -> Result<(), Box<Mismatch>> {
    for (stage, one) in first.stages.iter() {
        if let Some(other) = second.stages.get(stage) {
            let (one, other) = (StageRun::of_stage(one), StageRun::of_stage(other));
            one.compare(&other, stage)?;
        }
    }
    StageRun::of_tensor(&first.output).compare(&StageRun::of_tensor(&second.output), Stage::Output)
}

/// The values of a stage in one run.
struct StageRun {
    shape: Vec<usize>,
    values: Vec<f64>,
}

impl StageRun {
    fn of_stage(values: &StageValues) -> StageRun {
        match values {
            StageValues::Indices(indices) => StageRun {
                shape: vec![indices.len()],
                values: indices.iter().map(|index| *index as f64).collect(),
            },
            StageValues::Rows(rows) => StageRun {
                shape: rows.shape().to_vec(),
                values: rows.iter().copied().collect(),
            },
        }
    }

    fn of_tensor(tensor: &Tensor) -> StageRun {
        StageRun {
            shape: tensor.shape().to_vec(),
            values: tensor.to_f64(),
        }
    }

    fn compare(&self, second: &StageRun, stage: Stage) -> Result<(), Box<Mismatch>> {
        if self.shape != second.shape {
            return Err(Box::new(Mismatch::Shape {
                stage,
                expected: self.shape.clone(),
                found: second.shape.clone(),
            }));
        }
        let same = |one: f64, other: f64| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
        let pairs = self.values.iter().zip(&second.values).enumerate();
        let differing: Vec<usize> = pairs
            .filter(|(_, (one, other))| !same(**one, **other))
            .map(|(at, _)| at)
            .collect();
        let Some(&at) = differing.first() else { return Ok(()) };
        let width = self.shape.last().copied().unwrap_or(1).max(1);
        let at_token = Location {
            token: Some(at / width),
            column: Some(at % width),
            ..Location::default()
        };
        let at_position = Location {
            position: Some(at),
            ..Location::default()
        };
        Err(Box::new(Mismatch::NotDeterministic {
            stage,
            at: if stage == Stage::Output { at_token } else { at_position },
            first: self.values[at],
            second: second.values[at],
            wrong: differing.len(),
        }))
    }
}
