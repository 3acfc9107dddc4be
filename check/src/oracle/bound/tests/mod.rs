//! The bounds of small sums, worked by hand from the derivation: each kind of rounding alone, then what overflows.

mod overflow;
mod stages;
mod sum;

use binned_experts_reference::{Activation, ActivationKind, Dims, Layer};
use ndarray::{Array2, Array3, ArrayView1, array};

use super::activation::activation_bound;
use super::terms::Terms;
use super::*;
use crate::case::{ElementType, power_of_two};
use crate::judge::share_used;
use crate::oracle::{ActivationFunction, Precision, Rounding};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// An engine that makes no rounding at all.
pub(super) const EXACT: Roundings = Roundings {
    operand: Rounding::NONE,
    accumulate: Rounding::NONE,
    partial: Rounding::NONE,
    between: Rounding::NONE,
    activated: Rounding::NONE,
    combine: Rounding::NONE,
    store: Rounding::NONE,
    wide: None,
    flushes: false,
    max: f64::MAX,
    sigmoid_step: 0.0,
    sigmoid_error: 0.0,
};

/// One that rounds each result that it stores.
pub(super) const fn stored(store: Rounding) -> Roundings {
    Roundings {
        between: store,
        store,
        ..EXACT
    }
}

pub(super) const fn unit(unit: f64) -> Rounding {
    Rounding { unit, step: 0.0 }
}

const fn step(step: f64) -> Rounding {
    Rounding { unit: 0.0, step }
}

/// Equal but for the oracle's own rounding.
#[track_caller]
pub(super) fn assert_close(found: f64, expected: f64) {
    let near = found == expected || (found - expected).abs() <= 1e-10 * expected.abs() + 1e-14;
    assert!(near, "found {found}, expected {expected}");
}

/// The bound of a clamped SwiGLU.
pub(super) fn swiglu_bound(
    gate: (f64, f64),
    up: (f64, f64),
    value: f64,
    activation: Activation,
    roundings: Roundings,
) -> f64 {
    let swiglu = ActivationFunction::new(ActivationKind::ClampedSwiglu, activation);
    activation_bound(gate, up, value, &swiglu, roundings)
}

/// The bound of x · column + bias, x known up to `error`.
pub(super) fn affine<const N: usize>(
    x: [(f64, f64); N],
    column: [f64; N],
    bias: f64,
    systematic: f64,
    roundings: Roundings,
) -> f64 {
    affine_beside(x, column, bias, systematic, None, roundings)
}

/// The same, where x has a shift.
pub(super) fn affine_beside<const N: usize>(
    x: [(f64, f64); N],
    column: [f64; N],
    bias: f64,
    systematic: f64,
    shift: Option<&Shift>,
    roundings: Roundings,
) -> f64 {
    let (values, errors) = (x.map(|(value, _)| value), x.map(|(_, error)| error));
    let matrix = Array2::from_shape_fn((N, 1), |(row, _)| column[row]);
    let value = values.iter().zip(column).map(|(x, weight)| x * weight).sum::<f64>() + bias;
    let mut bound = array![0.0];
    Affine {
        x: ArrayView1::from(&values),
        error: Some(ArrayView1::from(&errors)),
        matrix: matrix.view(),
        bias: array![bias].view(),
        value: array![value].view(),
        spread: roundings.spread(),
        systematic,
        shift,
        roundings,
    }
    .bound(bound.view_mut());
    bound[0]
}

/// ⅓·9 − ⅔·3 + ⅔·1½ = 2, with r² = 9 + 4 + 1. Thirds have too many bits for the sum to be exact.
pub(super) const X: [(f64, f64); 3] = [(1.0 / 3.0, 0.0), (2.0 / 3.0, 0.0), (2.0 / 3.0, 0.0)];
pub(super) const COLUMN: [f64; 3] = [9.0, -3.0, 1.5];

/// A token of zeros leaves the biases of its experts, whose sum no rounding in f32 changes.
pub(super) fn zero_token(second_biases: [f64; 3], weights: [f64; 3]) -> Inputs {
    Inputs {
        dims: Dims {
            tokens: 1,
            hidden: 1,
            intermediate: 1,
            experts: 3,
            top_k: 3,
            capacity: 1,
        },
        layer: Layer::GPT_OSS,
        activation: Activation::GPT_OSS,
        hidden_states: array![[0.0]],
        router_indices: array![[0, 1, 2]],
        routing_weights: array![weights],
        gate_up_proj: Array3::from_elem((3, 1, 2), 0.3),
        gate_up_proj_bias: array![[0.0, 0.7], [2.5, -1.0], [0.0, 0.0]],
        down_proj: Array3::from_elem((3, 1, 1), 0.9),
        down_proj_bias: Array2::from_shape_fn((3, 1), |(expert, _)| second_biases[expert]),
        order: (0..3).collect(),
        shared: None,
    }
}

/// T = 2, H = 2, I = 2, E = 2, K = 2, nothing dropped.
pub(super) fn inputs() -> Inputs {
    Inputs {
        dims: Dims {
            tokens: 2,
            hidden: 2,
            intermediate: 2,
            experts: 2,
            top_k: 2,
            capacity: 2,
        },
        layer: Layer::GPT_OSS,
        activation: Activation {
            alpha: 1.5,
            limit: 100.0,
        },
        hidden_states: array![[1.0, -0.5], [0.25, 2.0]],
        router_indices: array![[0, 1], [1, 0]],
        routing_weights: array![[0.5, -2.0], [3.0, 0.75]],
        gate_up_proj: Array3::from_shape_fn((2, 2, 4), |(e, h, j)| {
            [0.5, -0.75, 1.25, 1.0, -0.25, 1.5, 0.375, 2.0][(3 * e + 4 * h + j) % 8]
        }),
        gate_up_proj_bias: array![[0.5, 0.25, -0.125, 1.0], [1.0, -0.5, 0.75, 0.0]],
        down_proj: array![[[2.0, -1.0], [-3.0, 0.5]], [[1.0, 0.25], [-0.5, 4.0]]],
        down_proj_bias: array![[0.125, 0.0], [-1.0, 2.0]],
        order: (0..4).collect(),
        shared: None,
    }
}

pub(super) fn bounds(inputs: &Inputs, roundings: Roundings) -> (Definition, Bounds) {
    let definition = Definition::new(inputs);
    let bounds = Bounds::new(inputs, &definition, roundings);
    (definition, bounds)
}
