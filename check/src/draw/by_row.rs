//! The tensors of a large case in their types, row by row on all cores, without a copy in f64.

use binned_experts_reference::{Error, ExpertWeights};
use ndarray::{Array2, Array3};
use rayon::prelude::*;

use super::cells::Cells;
use crate::case::{CaseElement, CaseSpec};

/// The experts' weights.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn weights<T: CaseElement>(spec: &CaseSpec, cells: &Cells) -> Result<ExpertWeights<T>, Error> {
    let weights = projections(spec, cells, spec.experts, spec.intermediate)?;
    match spec.shared_intermediate().zip(Cells::of_shared(spec)) {
        None => Ok(weights),
        Some((inner, cells)) => weights.with_shared(projections(spec, &cells, 1, inner)?),
    }
}

fn projections<T: CaseElement>(
    spec: &CaseSpec,
    cells: &Cells,
    experts: usize,
    intermediate: usize,
) -> Result<ExpertWeights<T>, Error> {
    let CaseSpec { hidden, layer, .. } = *spec;
    let width = layer.activation.columns() * intermediate;
    let bias = |value: f64| T::rounded(if layer.bias { value } else { 0.0 }, layer.bias_type);
    let new = if layer.activation.has_up() {
        ExpertWeights::new
    } else {
        ExpertWeights::without_ups
    };
    new(
        drawn("gate_up_proj", [experts, hidden, width], |e, h, j| {
            cells.gate_up(e, h, j)
        })?,
        Array2::from_shape_fn((experts, width), |(e, j)| bias(cells.gate_up_bias(e, j))),
        drawn("down_proj", [experts, intermediate, hidden], |e, i, h| {
            cells.down(e, i, h)
        })?,
        Array2::from_shape_fn((experts, hidden), |(e, h)| bias(cells.down_bias(e, h))),
    )
}

/// The hidden states `[B,S,H]`.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(super) fn hidden_states<T: CaseElement>(spec: &CaseSpec, cells: &Cells) -> Result<Array3<T>, Error> {
    let CaseSpec {
        batch,
        sequence,
        hidden,
        ..
    } = *spec;
    drawn("hidden_states", [batch, sequence, hidden], |b, s, h| {
        cells.hidden(b * sequence + s, h)
    })
}

fn drawn<T: CaseElement>(
    what: &'static str,
    shape: [usize; 3],
    cell: impl Fn(usize, usize, usize) -> f64 + Sync,
) -> Result<Array3<T>, Error> {
    let [_, rows, width] = shape;
    let elements = shape.iter().product();
    let refused = || Error::OutOfMemory { what, elements };
    let mut values = Vec::new();
    values.try_reserve_exact(elements).map_err(|_| refused())?;
    values.resize(elements, T::ZERO);
    values.par_chunks_mut(width.max(1)).enumerate().for_each(|(at, row)| {
        for (column, value) in row.iter_mut().enumerate() {
            *value = T::from_f64(cell(at / rows, at % rows, column));
        }
    });
    Array3::from_shape_vec(shape, values).map_err(|_| refused())
}
