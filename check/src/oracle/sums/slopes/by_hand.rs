//! What each direction does to an output of one token, one feature and one activation, worked by hand.

use binned_experts_reference::{ActivationKind, Layer};
use ndarray::{Array3, array};

use super::*;
use crate::case::ElementType;
use crate::oracle::{Definition, Inputs, Precision};

const ALPHA: f64 = 1.5;
const BIASES: [f64; 2] = [0.25, -0.5];
/// None of these is a value of bf16, nor are the activation and the output.
const X: f64 = 1.1;
const GATE_UP: [f64; 2] = [0.7, 0.3];
const DOWN: f64 = 1.3;

/// One token of one feature and one activation, whose routing weight is 2.
fn inputs(layer: Layer, limit: f64) -> Inputs {
    let columns = layer.activation.columns();
    Inputs {
        dims: Dims {
            tokens: 1,
            hidden: 1,
            intermediate: 1,
            experts: 1,
            top_k: 1,
            capacity: 1,
        },
        layer,
        activation: Activation { alpha: ALPHA, limit },
        hidden_states: array![[X]],
        router_indices: array![[0]],
        routing_weights: array![[2.0]],
        gate_up_proj: Array3::from_shape_fn((1, 1, columns), |(.., column)| GATE_UP[column]),
        gate_up_proj_bias: Array2::from_shape_fn((1, columns), |(_, column)| BIASES[column]),
        down_proj: array![[[DOWN]]],
        down_proj_bias: array![[0.5]],
        order: vec![0],
        shared: None,
    }
}

/// The slopes of the output, its value and that of the activation.
fn slopes(inputs: &Inputs, roundings: Roundings) -> (impl Fn(Direction) -> f64 + use<>, f64, f64) {
    let definition = Definition::new(inputs);
    let case = Case {
        inputs,
        definition: &definition,
        roundings,
        rounds_operands: roundings.operand != Rounding::NONE,
    };
    let slopes = case.slopes(0);
    let of = move |direction: Direction| slopes[[direction as usize, 0]];
    (of, definition.output[[0, 0]], definition.activated[[0, 0]])
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() <= 1e-8 * expected.abs(),
        "found {found}, expected {expected}"
    );
}

#[test]
fn each_direction_changes_one_activation_as_worked_by_hand() {
    // f32 operands that are rounded to bf16, in a layer with a factor of ½: the routing weight counts once.
    let layer = Layer {
        scale: 0.5,
        ..Layer::GPT_OSS
    };
    let operand = Rounding::BF16;
    let roundings = Roundings::new(Precision::BF16, ElementType::F32);
    assert_eq!((roundings.operand, roundings.store), (operand, operand));
    let store = Rounding::F32;
    let (of, output, activated) = slopes(&inputs(layer, 7.0), Roundings { store, ..roundings });
    let (gate, up) = (X * GATE_UP[0] + BIASES[0], X * GATE_UP[1] + BIASES[1]);
    let sigmoid = 1.0 / (1.0 + (-ALPHA * gate).exp());
    let (value, slope) = (gate * sigmoid, sigmoid + ALPHA * gate * sigmoid * (1.0 - sigmoid));
    assert_near(activated, (up + 1.0) * value);
    assert_near(output, activated * DOWN + 0.5);

    let along = |gates: f64, ups: f64| (up + 1.0) * slope * gates + value * ups;
    let squared = gate * gate * sigmoid * (1.0 - sigmoid);
    assert_near(of(Direction::Alpha), DOWN * (up + 1.0) * ALPHA * squared);
    assert_eq!(of(Direction::Limit), 0.0);
    assert_near(of(Direction::Sigmoid), DOWN * activated);
    assert_near(of(Direction::Biases), DOWN * along(BIASES[0], BIASES[1]) + 0.5);
    assert_near(of(Direction::ActivationCut), DOWN * cut(activated, operand));
    let stored = rounded(activated, operand);
    let short = rounded(stored, short_of(operand)) - stored;
    assert_ne!(short, 0.0);
    assert_near(of(Direction::ActivationShort), DOWN * short);
    let of_product = |weight: f64| X * cut(weight, operand) + cut(X, operand) * weight;
    let first = along(of_product(GATE_UP[0]), of_product(GATE_UP[1]));
    let second = activated * cut(DOWN, operand) + cut(activated, operand) * DOWN;
    assert_near(of(Direction::OperandsCut), DOWN * first + second);
    assert_near(of(Direction::Weights), output);
    assert_near(of(Direction::OutputCut), cut(output, store));
}

#[test]
fn an_activation_is_kept_in_the_coarser_of_its_two_types() {
    let roundings = Roundings::new(Precision::FP32, ElementType::F32);
    assert_eq!(roundings.operand, Rounding::NONE);
    for (operand, store, kept) in [
        (Rounding::NONE, Rounding::BF16, Rounding::BF16),
        (Rounding::TF32, Rounding::BF16, Rounding::BF16),
        (Rounding::BF16, Rounding::TF32, Rounding::BF16),
    ] {
        let (of, _, activated) = slopes(
            &inputs(Layer::GPT_OSS, 7.0),
            Roundings {
                operand,
                store,
                ..roundings
            },
        );
        assert_near(of(Direction::ActivationCut), 2.0 * DOWN * cut(activated, kept));
        let is_rounded = operand != Rounding::NONE;
        assert_eq!(of(Direction::OperandsCut) != 0.0, is_rounded);
    }
}

#[test]
fn a_limit_that_a_kernel_may_round_has_no_slope() {
    let roundings = Roundings::new(Precision::BF16, ElementType::Bf16);
    // Gate and up are both beyond it.
    let of = |limit: f64| {
        let mut inputs = inputs(Layer::GPT_OSS, limit);
        inputs.gate_up_proj *= 10.0;
        slopes(&inputs, roundings).0(Direction::Limit)
    };
    let limit = 0.75;
    let sigmoid = 1.0 / (1.0 + (-ALPHA * limit).exp());
    let slope = sigmoid + ALPHA * limit * sigmoid * (1.0 - sigmoid);
    assert_near(
        of(limit),
        2.0 * DOWN * limit * (limit * sigmoid + (limit + 1.0) * slope),
    );
    assert_eq!(of(0.7), 0.0);
}

#[test]
fn what_a_layer_does_not_have_has_no_slope() {
    let roundings = Roundings::new(Precision::FP32, ElementType::F32);
    let squares = Layer {
        activation: ActivationKind::ReluSquared,
        ..Layer::GPT_OSS
    };
    let (of, output, _) = slopes(&inputs(squares, 7.0), roundings);
    assert_eq!(of(Direction::Sigmoid), 0.0);
    assert_near(of(Direction::Weights), output);
    let on_input = Layer {
        weight_on: WeightOn::Input,
        ..Layer::GPT_OSS
    };
    let (of, _, activated) = slopes(&inputs(on_input, 7.0), roundings);
    assert_eq!(of(Direction::Weights), 0.0);
    assert_near(of(Direction::Sigmoid), DOWN * activated);
}
