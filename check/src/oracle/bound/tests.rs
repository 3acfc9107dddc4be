//! The bounds of small sums, worked by hand from the derivation: each kind of rounding alone, then what overflows.

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

#[test]
fn a_sum_bears_the_roundings_of_its_steps() {
    let root = 14f64.sqrt();
    let roundings = Roundings {
        accumulate: unit(1.0 / 1024.0),
        ..EXACT
    };
    for (bias, size) in [(5.0, 7.0), (-10.0, 8.0), (-1.0, 2.0), (0.0, 2.0)] {
        // λ · sqrt(n) · u · (|S| + r) over three products and the bias.
        assert_close(
            affine(X, COLUMN, bias, 0.0, roundings),
            3.0 * 2.0 * (size + root) / 1024.0,
        );
    }
    let roundings = Roundings {
        accumulate: step(0.125),
        ..EXACT
    };
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), 3.0 * 2.0 * 0.125);
}

/// The f64 arithmetic of the oracle rounds as that of an engine of its class does.
#[test]
fn the_oracle_rounds_too() {
    let unit_of_f64 = power_of_two(-53);
    let bound = affine(X, COLUMN, 5.0, 0.0, EXACT) / unit_of_f64;
    assert_close(bound, 3.0 * 2.0 * (7.0 + 14f64.sqrt()));
    let roundings = Roundings {
        accumulate: Rounding::F64,
        ..EXACT
    };
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings) / unit_of_f64, 2.0 * bound);
}

#[test]
fn a_product_bears_the_roundings_of_its_operands() {
    let roundings = Roundings {
        operand: unit(0.25),
        ..EXACT
    };
    // u · (λ · sqrt(2) · r + 2·|S|).
    let expected = 0.25 * (3.0 * 2f64.sqrt() * 14f64.sqrt() + 2.0 * 2.0);
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), expected);
    let roundings = Roundings {
        operand: step(0.25),
        ..EXACT
    };
    // λ · t · sqrt(Σa² + Σb²).
    let expected = 3.0 * 0.25 * (1f64 + 92.25).sqrt();
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), expected);
}

#[test]
fn a_product_and_its_bias_are_stored_once_each() {
    let store = Rounding {
        unit: 0.25,
        step: 0.125,
    };
    let roundings = stored(store);
    assert_close(
        affine(X, COLUMN, -5.0, 0.0, roundings),
        0.25 * (2.0 + 3.0) + 2.0 * 0.125,
    );
}

#[test]
fn errors_of_the_operands_propagate_as_if_independent_and_as_if_equal() {
    let x = [(1.0 / 3.0, 0.5 / 3.0), (2.0 / 3.0, 0.25 / 3.0), (2.0 / 3.0, 0.0)];
    // Their effects: 0.5 / 3 · 9 and 0.25 / 3 · −3.
    let propagated = 1.5f64.hypot(0.25) + 1.25;
    assert_close(affine(x, COLUMN, 5.0, 0.0, EXACT), propagated);
    assert_close(affine(x, COLUMN.map(|weight| -weight), 5.0, 0.0, EXACT), propagated);
    assert_close(affine(X, COLUMN, 5.0, 0.125, EXACT), 0.125 * 2.0);
    assert_close(affine(x, COLUMN, 5.0, 0.125, EXACT), propagated + 0.125 * 2.0);
    assert_eq!(affine([(1.0, INF), (2.0, 0.0)], [0.0, 1.0], 0.0, 0.0, EXACT), INF);
}

/// A sum that cannot overflow although its terms come near to it has the same parts.
#[test]
fn near_overflow_a_bound_has_the_same_parts() {
    let small = Roundings { max: 1024.0, ..EXACT };
    let (column, sum, bias) = ([1.0, -1.0], 100.0, 50.0);
    let exact = [(400.0, 0.0), (300.0, 0.0)];
    let root = (400f64.powi(2) + 300f64.powi(2) + bias * bias).sqrt();
    let roundings = Roundings {
        accumulate: unit(1.0 / 1024.0),
        ..small
    };
    assert_close(
        affine(exact, column, bias, 0.0, roundings),
        3.0 * 3f64.sqrt() * (150.0 + root) / 1024.0,
    );
    let roundings = Roundings {
        max: small.max,
        ..stored(unit(1.0 / 64.0))
    };
    assert_close(affine(exact, column, bias, 0.0, roundings), (sum + 150.0) / 64.0);
    let roundings = Roundings {
        operand: unit(1.0 / 64.0),
        ..small
    };
    let operands = (3.0 * 2f64.sqrt() * root + 2.0 * sum) / 64.0;
    assert_close(affine(exact, column, bias, 0.0, roundings), operands);
    assert_close(affine(exact, column, bias, 0.125, small), 0.125 * sum);
    let uncertain = [(400.0, 4.0), (300.0, 1.0)];
    assert_close(affine(uncertain, column, bias, 0.0, small), 4f64.hypot(1.0) + 3.0);
}

#[test]
fn sums_that_can_overflow_accept_anything() {
    let small = Roundings { max: 1024.0, ..EXACT };
    // Twelve terms of 100 and four of −100: 1200 on the way to 800.
    let column = std::array::from_fn(|row| if row < 12 { 1.0 } else { -1.0 });
    assert_eq!(affine([(100.0, 0.0); 16], column, 0.0, 0.0, small), INF);
    // The bias, or an error, carries it over.
    assert_eq!(affine([(300.0, 0.0)], [1.0], 900.0, 0.0, small), INF);
    assert_eq!(affine([(0.5, 0.0)], [1.0], 1023.9, 0.0, small), INF);
    assert_eq!(affine([(300.0, 900.0)], [1.0], 0.0, 0.0, small), INF);
    assert_eq!(affine([(0.5, 1023.9)], [1.0], 0.0, 0.0, small), INF);
    // The roundings on the way do: 800 · (1 + 2 · 2 / 8).
    let roundings = Roundings {
        accumulate: unit(0.125),
        ..small
    };
    assert_eq!(affine([(800.0, 0.0)], [1.0], 0.0, 0.0, roundings), INF);
}

/// The bound of Σ (value ± error) · weight whose right value is `value`, with no roundings but those of `roundings`.
fn terms(terms: &[(f64, f64, f64)], value: f64, roundings: Roundings) -> f64 {
    let mut sum = Terms::new(roundings);
    for &(value, error, weight) in terms {
        sum.add(value, error, 0.0, weight);
    }
    sum.bound(
        value,
        terms.len(),
        0.0,
        roundings.spread(),
        roundings.accumulate,
        roundings,
    )
}

#[test]
fn an_infinite_weight_decides_where_the_sign_of_its_factor_is_certain() {
    assert_eq!(terms(&[(2.0, 0.0, INF)], INF, EXACT), 0.0);
    assert_eq!(terms(&[(-2.0, 1.0, INF)], -INF, EXACT), 0.0);
    assert_eq!(terms(&[(1.0, 1.0, INF)], INF, EXACT), INF);
    assert_eq!(terms(&[(1.0, 2.0, INF)], INF, EXACT), INF);
    assert_eq!(terms(&[(0.0, 0.0, INF)], NAN, EXACT), 0.0);
    assert_eq!(terms(&[(INF, 0.0, 2.0)], INF, EXACT), 0.0);
    assert_eq!(terms(&[(NAN, 0.0, 2.0), (1.0, 0.0, 1.0)], NAN, EXACT), 0.0);
}

#[test]
fn what_is_undecided_stays_so_whatever_its_weight() {
    assert_eq!(terms(&[(1.0, INF, 0.0), (1.0, 0.0, 1.0)], 1.0, EXACT), INF);
    assert_eq!(terms(&[(1e200, 0.0, 1e200)], INF, EXACT), INF);
    // An uncertain sign alone decides nothing.
    assert_close(terms(&[(1.0, 2.0, 3.0)], 3.0, EXACT), 6.0 + 6.0);
}

#[test]
fn the_terms_of_one_sign_overflow_together() {
    let small = Roundings { max: 1024.0, ..EXACT };
    let finite = |list: &[(f64, f64, f64)], value: f64| terms(list, value, small) < 1e4;
    for sign in [1.0, -1.0] {
        assert!(!finite(&[(600.0, 0.0, sign), (600.0, 0.0, sign)], 1200.0 * sign));
        assert!(finite(&[(600.0, 0.0, sign), (-600.0, 0.0, sign)], 0.0));
        assert!(finite(&[(512.0, 0.0, sign), (512.0, 0.0, sign)], 1024.0 * sign));
        // An error adds to both sides.
        assert!(!finite(&[(600.0, 0.0, sign), (-10.0, 500.0, sign)], 590.0 * sign));
        assert!(!finite(&[(600.0, 500.0, sign)], 600.0 * sign));
        assert!(!finite(&[(400.0, 150.0, 2.0 * sign)], 800.0 * sign));
    }
    assert!(finite(&[(1023.5, 0.0, 1.0)], 1023.5));
    assert!(terms(&[(3.0, 4.0, 1.0)], 3.0, Roundings { max: 10.0, ..EXACT }) < INF);
    assert!(terms(&[(1.5, 2.0, 4.0)], 6.0, Roundings { max: 15.0, ..EXACT }) < INF);
    // A NaN is right whatever the other terms are.
    assert_eq!(terms(&[(600.0, 0.0, 2.0), (NAN, 0.0, 1.0)], NAN, small), 0.0);
}

#[test]
fn what_may_be_flushed_beside_an_infinity_leaves_anything_right() {
    let flush = Roundings {
        store: step(0.5),
        flushes: true,
        ..EXACT
    };
    assert_eq!(terms(&[(0.25, 0.0, INF)], INF, flush), INF);
    assert_eq!(terms(&[(INF, 0.0, 0.25)], INF, flush), INF);
    // Neither the smallest normal value nor 0 is flushed, and nothing without the modifier.
    assert_eq!(terms(&[(0.5, 0.0, INF), (INF, 0.0, 0.5)], INF, flush), 0.0);
    assert_eq!(terms(&[(0.0, 0.0, INF)], NAN, flush), 0.0);
    assert_eq!(terms(&[(0.25, 0.0, INF), (INF, 0.0, 0.25)], INF, EXACT), 0.0);
    assert!(terms(&[(1.0, 0.0, 0.25)], 0.25, flush) < INF);
}

#[test]
fn roundings_can_carry_a_sum_over_the_largest_value() {
    let of_four = |size: f64, roundings| terms(&[(size / 4.0, 0.0, 1.0); 4], size, roundings);
    let small = Roundings { max: 1024.0, ..EXACT };
    // 1 + 2 · 4 / 16 = 1.5.
    let accumulate = Roundings {
        accumulate: unit(1.0 / 16.0),
        ..small
    };
    assert!(of_four(650.0, accumulate) < INF);
    assert_eq!(of_four(700.0, accumulate), INF);
    // 1 + 4 / 16 = 1.25.
    let store = Roundings {
        max: small.max,
        ..stored(unit(1.0 / 16.0))
    };
    assert!(of_four(800.0, store) < INF);
    assert_eq!(of_four(850.0, store), INF);
}

/// A sum of a few small integers is rounded nowhere.
#[test]
fn a_sum_of_small_integers_is_met_exactly() {
    let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
    let of = |x: [f64; 3], column: [f64; 3], bias| affine(x.map(|x| (x, 0.0)), column, bias, 0.0, bf16);
    assert_eq!(of([0.0; 3], [0.1, 7.0, 1e30], 256.0), 0.0);
    assert_eq!(of([0.0, 1.0, 0.0], [0.1, -0.75, 3.0], 0.5), 0.0);
    assert_eq!(of([3.0, -2.0, 5.0], [1.0, 64.0, 0.5], 2.0), 0.0);
    // A term on the way to 1 is lost in a sum of 24 bits; of 23 it is kept.
    assert!(of([1.0, 1.0, 1.0], [2f64.powi(24), 1.0, -(2f64.powi(24))], 0.0) > 0.0);
    assert_eq!(of([1.0, 1.0, 1.0], [2f64.powi(22), 1.0, -(2f64.powi(22))], 0.0), 0.0);
    // 257 has nine bits: as a sum that is stored before its bias is added, and as a result.
    assert!(of([1.0, 1.0, 0.0], [256.0, 1.0, 0.0], -1.0) > 0.0);
    assert!(of([1.0, 0.0, 0.0], [256.0, 1.0, 0.0], 1.0) > 0.0);
    // What is known up to an error is rounded.
    assert!(affine([(1.0, 1e-9)], [1.0], 0.0, 0.0, bf16) > 0.0);
}

#[test]
fn operands_that_are_rounded_are_not_exact() {
    let tf32 = Roundings::new(Precision::TF32, ElementType::F32);
    let of = |x: f64, weight: f64| affine([(x, 0.0)], [weight], 0.0, 0.0, tf32);
    assert_eq!((of(1.0, 2047.0), of(2047.0, 1.0)), (0.0, 0.0));
    assert!(of(1.0, 2049.0) > 0.0 && of(2049.0, 1.0) > 0.0);
    let fp32 = Roundings::new(Precision::FP32, ElementType::F32);
    assert_eq!(affine([(1.0, 0.0)], [2049.0], 0.0, 0.0, fp32), 0.0);
}

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

#[test]
fn biases_that_cancel_over_the_slots_are_met_exactly() {
    let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
    let of = |biases, weights| {
        let (definition, bounds) = bounds(&zero_token(biases, weights), bf16);
        (definition.output[[0, 0]], bounds.output[[0, 0]])
    };
    let (value, bound) = of([256.0, 1.0, -256.0], [1.0; 3]);
    assert_eq!((value, bound), (1.0, 0.0));
    // Summed in bf16, 256 + 1 is 256.
    assert_eq!(share_used(0.0, value, bound), None);
    assert_eq!(share_used(1.0, value, bound), Some(0.0));
    // The sum, or the product that is stored, has nine bits.
    assert!(of([256.0, 1.0, 0.0], [1.0; 3]).1 > 0.0);
    assert!(of([3.0, 1.0, 0.0], [171.0, 1.0, 1.0]).1 > 0.0);
    // A quantum of 2^-17 below 256 does not fit f32.
    assert!(of([256.0, 2f64.powi(-17), -256.0], [1.0; 3]).1 > 0.0);
    assert_eq!(of([64.0, 2f64.powi(-16), -64.0], [1.0; 3]).1, 0.0);
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

#[test]
fn each_stage_takes_the_bounds_of_the_one_before() {
    let inputs = inputs();
    for roundings in [
        stored(unit(1.0 / 256.0)),
        stored(step(1.0 / 256.0)),
        Roundings {
            accumulate: unit(1.0 / 256.0),
            combine: unit(1.0 / 256.0),
            ..EXACT
        },
    ] {
        let (store, accumulate) = (roundings.store, roundings.accumulate.unit);
        let (definition, bounds) = bounds(&inputs, roundings);
        for flat in 0..4 {
            let (gate_up, error) = (definition.gate_up.row(flat), bounds.gate_up.row(flat));
            for (i, (gate, up)) in [(0, 1), (2, 3)].into_iter().enumerate() {
                let (gate, up) = ((gate_up[gate], error[gate]), (gate_up[up], error[up]));
                let expected = swiglu_bound(gate, up, definition.activated[[flat, i]], inputs.activation, roundings);
                assert_eq!(bounds.activated[[flat, i]], expected);
            }
            let expert = inputs.assignment(flat).2;
            for column in 0..2 {
                let effect = |i: usize| inputs.down_proj[[expert, i, column]] * bounds.activated[[flat, i]];
                let product = |i: usize| inputs.down_proj[[expert, i, column]] * definition.activated[[flat, i]];
                let value = definition.expert_output[[flat, column]];
                let sum: f64 = product(0) + product(1);
                let root = product(0).hypot(product(1));
                let expected = effect(0).hypot(effect(1))
                    + (effect(0) + effect(1)).abs()
                    + 8.0 * store.unit * sum.abs()
                    + store.unit * (sum.abs() + value.abs())
                    + 2.0 * store.step
                    + 3.0 * 3f64.sqrt() * accumulate * (sum.abs().max(value.abs()) + root);
                assert_close(bounds.expert_output[[flat, column]], expected);
            }
        }
        for (token, [first, second]) in [[0, 1], [2, 3]].into_iter().enumerate() {
            let weight = |flat| inputs.routing_weights[[token, inputs.assignment(flat).2]];
            for column in 0..2 {
                let effect = |flat| weight(flat) * bounds.expert_output[[flat, column]];
                let product = |flat| weight(flat) * definition.expert_output[[flat, column]];
                let value = definition.output[[token, column]].abs();
                let root = product(first).hypot(product(second));
                let expected = effect(first).hypot(effect(second))
                    + (effect(first) + effect(second)).abs()
                    + 2f64.sqrt() * store.unit * root
                    + store.unit * value
                    + 3.0 * store.step
                    + 3.0 * 2f64.sqrt() * accumulate * (value + root);
                assert_close(bounds.output[[token, column]], expected);
            }
        }
    }
}

#[test]
fn a_stage_has_bounds_of_its_own_unless_it_is_met_exactly() {
    let (_, bounds) = bounds(&inputs(), stored(unit(1.0 / 256.0)));
    for (stage, expected) in [
        (Stage::GateUp, Some(&bounds.gate_up)),
        (Stage::Activated, Some(&bounds.activated)),
        (Stage::ExpertOutput, Some(&bounds.expert_output)),
        (Stage::Output, Some(&bounds.output)),
        (Stage::SortedIndices, None),
        (Stage::Gathered, None),
    ] {
        assert_eq!(bounds.of(stage), expected, "{stage}");
    }
}

#[test]
fn a_weighted_feature_is_stored_as_a_result_and_as_an_operand() {
    let roundings = Roundings {
        between: unit(1.0 / 256.0),
        activated: unit(1.0 / 1024.0),
        max: 8.0,
        ..EXACT
    };
    let error = |value| weighted_error(value, roundings);
    assert_close(error(1.0 / 3.0), (1.0 / 256.0 + 1.0 / 1024.0) / 3.0);
    assert_close(error(-1.0 / 3.0), (1.0 / 256.0 + 1.0 / 1024.0) / 3.0);
    // One of the values of both, and one of the finer type alone.
    assert_eq!((error(1.5), error(0.0)), (0.0, 0.0));
    assert_close(
        error(1.0 + 1.0 / 512.0),
        (1.0 / 256.0 + 1.0 / 1024.0) * (1.0 + 1.0 / 512.0),
    );
    // Beyond half of the largest value an overflow is open.
    assert_eq!((error(4.0), error(4.5), error(-4.5)), (0.0, INF, INF));
    // What is not finite is met exactly.
    assert_eq!((error(INF), error(-INF), error(NAN)), (0.0, 0.0, 0.0));
}

#[test]
fn what_is_dropped_is_zero_and_to_be_met_exactly() {
    let mut inputs = inputs();
    inputs.dims.capacity = 1;
    let roundings = Roundings::new(Precision::FP32, ElementType::F32);
    // Token 1 finds both experts full.
    let (definition, bounds) = bounds(&inputs, roundings);
    assert_eq!(definition.kept, [true, true, false, false]);
    assert!(bounds.output.row(0).iter().all(|bound| *bound > 0.0));
    assert!(bounds.output.row(1).iter().all(|bound| *bound == 0.0));
    assert!(bounds.gate_up.row(2).iter().all(|bound| *bound == 0.0));
}

/// In f64 terms can be so small that their squares are 0. They count all the same.
#[test]
fn terms_whose_squares_underflow_count() {
    let fp64 = Roundings::new(Precision::FP64, ElementType::F64);
    let small = power_of_two(-600) / 3.0;
    let found = affine([(small, 0.0), (-small, 0.0)], [1.0, 1.0 - 1e-6], 0.0, 0.0, fp64);
    let root = 2f64.sqrt() * small;
    let summed = 3.0 * 3f64.sqrt() * 2.0 * Rounding::F64.unit * root;
    assert!((found / summed - 1.0).abs() < 1e-3, "{found}, {summed}");
}
