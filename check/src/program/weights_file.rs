//! The experts' weights as tensors by name, in the layout of a layer.

use binned_experts_reference::{ExpertWeights, Layer, Mxfp4, Problem, ProjectionLayout, StoredWeights};
use ndarray::{Array3, Ix2};

use super::file_error::FileError;
use super::tensor_file::{Tensors, take, take_bytes, take_typed};
use crate::tensor::{CaseElement, Tensor};

/// The tensors of the experts' weights.
pub(super) const WEIGHTS: [&str; 8] = [
    "gate_up_proj",
    "gate_up_proj_blocks",
    "gate_up_proj_scales",
    "gate_up_proj_bias",
    "down_proj",
    "down_proj_blocks",
    "down_proj_scales",
    "down_proj_bias",
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
    let bias = |tensors: &mut Tensors, name, axes| {
        let has_bias = layer.has_bias;
        has_bias
            .then(|| take_typed::<T, Ix2>(tensors, name, axes, layer.bias_type))
            .transpose()
    };
    let stored = StoredWeights {
        gate_up_proj: projection(tensors, layer, &GATE_UP)?,
        gate_up_proj_bias: bias(tensors, "gate_up_proj_bias", "[E,2I]")?,
        down_proj: projection(tensors, layer, &DOWN)?,
        down_proj_bias: bias(tensors, "down_proj_bias", "[E,H]")?,
    };
    Ok(ExpertWeights::from_stored(stored, layer)?)
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
