//! The experts' weights as tensors by name, in the layout of a layer.

use binned_experts_reference::{ExpertWeights, Layer, Mxfp4, Problem, ProjectionLayout, StoredWeights};
use ndarray::{Array, Array2, Array3, Axis, Dimension, Ix1, Ix2};

use super::error::FileError;
use super::tensors::{Tensors, take, take_bytes, take_typed};
use crate::case::{CaseElement, Tensor};

/// The tensors of the experts' weights.
pub(super) const WEIGHTS: [&str; 12] = [
    "gate_up_proj",
    "gate_up_proj_blocks",
    "gate_up_proj_scales",
    "gate_up_proj_bias",
    "down_proj",
    "down_proj_blocks",
    "down_proj_scales",
    "down_proj_bias",
    "shared_gate_up_proj",
    "shared_gate_up_proj_bias",
    "shared_down_proj",
    "shared_down_proj_bias",
];

/// The tensors of a projection, and their axes.
struct ProjectionNames {
    values: &'static str,
    in_out: &'static str,
    out_in: &'static str,
    blocks: (&'static str, &'static str),
    scales: (&'static str, &'static str),
}

const GATE_UP: ProjectionNames = ProjectionNames {
    values: "gate_up_proj",
    in_out: "[E,H,2I]",
    out_in: "[E,2I,H]",
    blocks: ("gate_up_proj_blocks", "[E,2I,H/32,16]"),
    scales: ("gate_up_proj_scales", "[E,2I,H/32]"),
};

const DOWN: ProjectionNames = ProjectionNames {
    values: "down_proj",
    in_out: "[E,I,H]",
    out_in: "[E,H,I]",
    blocks: ("down_proj_blocks", "[E,H,I/32,16]"),
    scales: ("down_proj_scales", "[E,H,I/32]"),
};

/// The experts' weights from the layout of a layer.
///
/// # Errors
/// [`FileError`], naming the tensor, what was expected and what was found.
pub(super) fn weights_of<T: CaseElement>(tensors: &mut Tensors, layer: &Layer) -> Result<ExpertWeights<T>, FileError> {
    let stored = StoredWeights {
        gate_up_proj: projection(tensors, layer, &GATE_UP)?,
        gate_up_proj_bias: bias::<T, Ix2>(tensors, layer, "gate_up_proj_bias", "[E,2I]")?,
        down_proj: projection(tensors, layer, &DOWN)?,
        down_proj_bias: bias::<T, Ix2>(tensors, layer, "down_proj_bias", "[E,H]")?,
    };
    let weights = ExpertWeights::from_stored(stored, layer)?;
    if layer.shared_experts == 0 {
        return Ok(weights);
    }
    Ok(weights.with_stored_shared(stored_shared(tensors, layer)?, layer)?)
}

/// The shared experts' weights as those of one expert, whose axis the tensors do not have.
fn stored_shared<T: CaseElement>(tensors: &mut Tensors, layer: &Layer) -> Result<StoredWeights<T>, FileError> {
    let is_in_out = layer.projections == ProjectionLayout::InOut;
    let mut matrix = |name, in_out, out_in| {
        let axes = if is_in_out { in_out } else { out_in };
        take::<T, Ix2>(tensors, name, axes).map(|matrix| matrix.insert_axis(Axis(0)))
    };
    let gate_up_proj = matrix("shared_gate_up_proj", "[H,2nI]", "[2nI,H]")?;
    let down_proj = matrix("shared_down_proj", "[nI,H]", "[H,nI]")?;
    let mut row = |name, axes| {
        let row = bias::<T, Ix1>(tensors, layer, name, axes)?;
        Ok::<_, FileError>(row.map(|row| row.insert_axis(Axis(0))))
    };
    Ok(StoredWeights {
        gate_up_proj,
        gate_up_proj_bias: row("shared_gate_up_proj_bias", "[2nI]")?,
        down_proj,
        down_proj_bias: row("shared_down_proj_bias", "[H]")?,
    })
}

/// A bias, where the layer has it.
fn bias<T: CaseElement, D: Dimension>(
    tensors: &mut Tensors,
    layer: &Layer,
    name: &'static str,
    axes: &'static str,
) -> Result<Option<Array<T::Wide, D>>, FileError> {
    let has_bias = layer.has_bias;
    has_bias
        .then(|| take_typed::<T, D>(tensors, name, axes, layer.bias_type))
        .transpose()
}

fn projection<T: CaseElement>(
    tensors: &mut Tensors,
    layer: &Layer,
    names: &ProjectionNames,
) -> Result<Array3<T>, FileError> {
    match layer.projections {
        ProjectionLayout::InOut => take(tensors, names.values, names.in_out),
        ProjectionLayout::OutIn => take(tensors, names.values, names.out_in),
        ProjectionLayout::Mxfp4 => {
            let packed = Mxfp4 {
                blocks: take_bytes(tensors, names.blocks)?,
                scales: take_bytes(tensors, names.scales)?,
            };
            Ok(packed.decode(names.blocks.0)?)
        }
    }
}

/// The experts' weights.
pub(super) fn weight_tensors<T: CaseElement>(problem: &Problem<T>) -> Tensors {
    let weights = problem.stored_weights();
    let biases = [
        ("gate_up_proj_bias", weights.gate_up_proj_bias),
        ("down_proj_bias", weights.down_proj_bias),
    ];
    let layer = problem.layer();
    let biases = biases
        .into_iter()
        .filter_map(|(name, bias)| Some((name.to_owned(), T::narrowed(bias?, layer.bias_type))));
    let projections = [(&GATE_UP, weights.gate_up_proj), (&DOWN, weights.down_proj)];
    projections
        .into_iter()
        .flat_map(|(names, values)| projection_tensors(values, layer, names))
        .chain(biases)
        .chain(shared_tensors(problem))
        .collect()
}

/// The shared experts' weights, without the axis of experts.
fn shared_tensors<T: CaseElement>(problem: &Problem<T>) -> Vec<(String, Tensor)> {
    let Some(weights) = problem.stored_shared_weights() else {
        return Vec::new();
    };
    let matrix = |name: &str, values: Array3<T>| (name.to_owned(), values.index_axis_move(Axis(0), 0).into());
    let row = |name: &str, values: Array2<T::Wide>| {
        let values = values.index_axis_move(Axis(0), 0);
        (name.to_owned(), T::narrowed(values, problem.layer().bias_type))
    };
    let biases = [
        ("shared_gate_up_proj_bias", weights.gate_up_proj_bias),
        ("shared_down_proj_bias", weights.down_proj_bias),
    ];
    [
        matrix("shared_gate_up_proj", weights.gate_up_proj),
        matrix("shared_down_proj", weights.down_proj),
    ]
    .into_iter()
    .chain(biases.into_iter().filter_map(|(name, bias)| Some(row(name, bias?))))
    .collect()
}

fn projection_tensors<T: CaseElement>(
    values: Array3<T>,
    layer: &Layer,
    names: &ProjectionNames,
) -> Vec<(String, Tensor)> {
    match layer.projections {
        ProjectionLayout::InOut | ProjectionLayout::OutIn => vec![(names.values.to_owned(), values.into())],
        ProjectionLayout::Mxfp4 => {
            let packed = Mxfp4::encode(names.values, values.view()).expect("a problem of such a layer has such values");
            vec![
                (names.blocks.0.to_owned(), Tensor::U8(packed.blocks.into_dyn())),
                (names.scales.0.to_owned(), Tensor::U8(packed.scales.into_dyn())),
            ]
        }
    }
}
