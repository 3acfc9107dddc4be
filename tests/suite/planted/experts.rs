//! What an expert computes of its rows.

use std::ops::Range;

use half::{bf16, f16};
use ndarray::{Array1, Array2, ArrayView2, Axis, Slice};

use super::bug::Bug;
use super::case::Case;

/// The parameters of a product: a matrix and a bias.
type Parameters<'a> = (ArrayView2<'a, f32>, Array1<f32>);

/// The experts of a case.
pub(super) struct Experts<'a> {
    pub(super) bug: Bug,
    pub(super) case: &'a Case,
}

impl Experts<'_> {
    pub(super) fn apply(&self, expert: usize, x: &Array2<f32>) -> Array2<f32> {
        let gate_up = self.affine(x, self.first(expert));
        let mut rows = self.affine(&self.activated(&gate_up), self.second(expert));
        if self.bug == Bug::LastTileGroup && rows.nrows() > 128 {
            let whole = rows.nrows() / 128 * 128;
            rows.slice_axis_mut(Axis(0), Slice::from(whole..)).fill(0.0);
        }
        rows
    }

    /// Whether an expert's parameters are all finite.
    pub(super) fn is_finite(&self, expert: usize) -> bool {
        let finite = |(matrix, bias): Parameters| matrix.iter().chain(&bias).all(|value| value.is_finite());
        finite(self.first(expert)) && finite(self.second(expert))
    }

    fn first(&self, expert: usize) -> Parameters<'_> {
        let matrix = self.case.gate_up_proj.index_axis(Axis(0), expert);
        let bias = self.case.gate_up_proj_bias.row(expert).to_owned();
        match self.bug {
            Bug::GateUpTransposed if self.case.dims.hidden == 2 * self.case.dims.intermediate => {
                (matrix.reversed_axes(), bias)
            }
            Bug::BiasLost => (matrix, bias * 0.0),
            _ => (matrix, bias),
        }
    }

    fn second(&self, expert: usize) -> Parameters<'_> {
        let matrix = self.case.down_proj.index_axis(Axis(0), expert);
        let bias = self.case.down_proj_bias.row(expert).to_owned();
        match self.bug {
            Bug::DownTransposed if self.case.dims.hidden == self.case.dims.intermediate => {
                (matrix.reversed_axes(), bias)
            }
            // Added where the row is stored.
            Bug::DownBiasUnweighted => (matrix, bias * 0.0),
            Bug::DownBiasTwice => (matrix, bias * 2.0),
            _ => (matrix, bias),
        }
    }

    fn affine(&self, x: &Array2<f32>, (matrix, bias): Parameters) -> Array2<f32> {
        let products = match self.bug {
            Bug::ContractionTail => {
                let whole = ((x.ncols() / 16).max(1) * 16).min(x.ncols());
                part_of_product(x, matrix, 0..whole)
            }
            Bug::WidePathFrom1536 if self.case.dims.hidden >= 1536 && x.ncols() == self.case.dims.hidden => {
                part_of_product(x, matrix, 0..1024)
            }
            Bug::SplitDepthInBf16 if x.ncols() >= 4096 => summed(to_bf16, x, matrix, x.ncols().div_ceil(4)),
            Bug::Tf32Operands => x.mapv(to_tf32).dot(&matrix.mapv(to_tf32)),
            Bug::F16Sums => summed(|sum| f16::from_f32(sum).to_f32(), x, matrix, 16),
            Bug::Bf16Sums => summed(to_bf16, x, matrix, 16),
            _ => x.dot(&matrix),
        };
        products + bias
    }

    fn activated(&self, gate_up: &Array2<f32>) -> Array2<f32> {
        let inner = self.case.dims.intermediate;
        Array2::from_shape_fn((gate_up.nrows(), inner), |(row, column)| {
            let (gate, up) = match self.bug {
                Bug::Halves => (column, inner + column),
                Bug::GateUpSwapped => (2 * column + 1, 2 * column),
                _ => (2 * column, 2 * column + 1),
            };
            match self.bug {
                Bug::ActivationsBeyond1024 if column >= 1024 => 0.0,
                Bug::AlternateColumns if inner.is_multiple_of(128) && column / 16 % 2 == 1 => 0.0,
                _ => self.activation(gate_up[[row, gate]], gate_up[[row, up]]),
            }
        })
    }

    /// The clamped SwiGLU.
    fn activation(&self, gate: f32, up: f32) -> f32 {
        let limit = self.case.limit;
        match self.bug {
            Bug::ClampedAfter => (clamped(up, limit) + 1.0) * at_most(self.swish(gate), limit),
            _ => {
                let (gate, up) = self.clamp(gate, up);
                (up + 1.0) * self.swish(gate)
            }
        }
    }

    fn clamp(&self, gate: f32, up: f32) -> (f32, f32) {
        let limit = self.case.limit;
        match self.bug {
            Bug::GateClampedBelow => (clamped(gate, limit), clamped(up, limit)),
            Bug::UpClampedAbove => (at_most(gate, limit), at_most(up, limit)),
            Bug::LimitHardCoded => (at_most(gate, 7.0), clamped(up, 7.0)),
            Bug::LimitLostOnWidePath if self.case.dims.hidden >= 128 => (gate, up),
            // `f32::min` and `f32::max` give the operand that is not NaN.
            Bug::NanSwallowed => (gate.min(limit), up.max(-limit).min(limit)),
            _ => (at_most(gate, limit), clamped(up, limit)),
        }
    }

    fn swish(&self, gate: f32) -> f32 {
        let alpha = match self.bug {
            Bug::AlphaHardCoded => 1.702,
            _ => self.case.alpha,
        };
        gate / (1.0 + (-alpha * gate).exp())
    }
}

/// NaN passes.
fn at_most(value: f32, limit: f32) -> f32 {
    if value > limit { limit } else { value }
}

/// Between -limit and limit; NaN passes.
fn clamped(value: f32, limit: f32) -> f32 {
    -at_most(-at_most(value, limit), limit)
}

/// The product, with a sum over blocks of the depth that is rounded after each.
fn summed(rounding: impl Fn(f32) -> f32, x: &Array2<f32>, matrix: ArrayView2<f32>, block: usize) -> Array2<f32> {
    let mut sums = Array2::zeros((x.nrows(), matrix.ncols()));
    for begin in (0..x.ncols()).step_by(block) {
        let end = (begin + block).min(x.ncols());
        sums += &part_of_product(x, matrix, begin..end);
        sums.mapv_inplace(&rounding);
    }
    sums
}

/// The product over a part of the depth.
fn part_of_product(x: &Array2<f32>, matrix: ArrayView2<f32>, depth: Range<usize>) -> Array2<f32> {
    let (x, matrix) = (
        x.slice_axis(Axis(1), Slice::from(depth.clone())),
        matrix.slice_axis(Axis(0), Slice::from(depth)),
    );
    x.dot(&matrix)
}

pub(super) fn to_bf16(value: f32) -> f32 {
    bf16::from_f32(value).to_f32()
}

/// Rounded to 11 significant bits, ties to even.
fn to_tf32(value: f32) -> f32 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff;
    if value.is_finite() {
        f32::from_bits(rounded)
    } else {
        value
    }
}
