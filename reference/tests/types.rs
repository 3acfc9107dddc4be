//! Routing weights, biases and outputs of f32 beside bf16, worked by hand.

use binned_experts_reference::{
    Error, ExpertWeights, Layer, Problem, TensorType, WeightOn, binned_experts_ref, binned_gather, binned_scatter,
    down, sort_tokens_by_expert,
};
use half::bf16;
use ndarray::{Array2, Array3, array};

/// Half the distance from 1 to the next bf16.
const HALF: f32 = 1.0 / 256.0;

fn narrow(value: f32) -> bf16 {
    bf16::from_f32(value)
}

/// One expert with H = I = 1 whose activation is 0: its row is the second bias.
fn weights(second_bias: f32) -> ExpertWeights<bf16> {
    ExpertWeights::new(
        Array3::from_elem((1, 1, 2), bf16::ZERO),
        Array2::zeros((1, 2)),
        Array3::from_elem((1, 1, 1), narrow(HALF / 2.0)),
        Array2::from_elem((1, 1), second_bias),
    )
    .unwrap()
}

fn problem(routing_weight: f32, second_bias: f32) -> Problem<bf16> {
    let (x, weight) = (
        Array3::from_elem((1, 1, 1), bf16::ONE),
        Array3::from_elem((1, 1, 1), routing_weight),
    );
    Problem::new(x, array![[0]], weight, weights(second_bias), 1).unwrap()
}

#[test]
fn a_wide_bias_is_added_before_the_sum_is_rounded() {
    let bins = sort_tokens_by_expert(array![[0]].view(), 1).unwrap();
    let x = binned_gather(array![[bf16::ONE]].view(), &bins, 1, 1).unwrap();
    // 1 + 2^-8 alone is half way to the next bf16 and would become 1; the product 2^-9 besides makes it that next one.
    let found = down(&x, &weights(1.0 + HALF)).unwrap();
    assert_eq!(found.rows()[[0, 0]].to_f32(), 1.0 + 2.0 * HALF);
}

#[test]
fn products_with_wide_weights_are_rounded_with_their_sum_alone() {
    let bins = sort_tokens_by_expert(array![[0, 1]].view(), 2).unwrap();
    let rows = binned_gather(array![[bf16::ONE]].view(), &bins, 1, 2).unwrap();
    let weights = array![1.0 + 0.5 * HALF, 0.75 * HALF];
    let sum: Array2<f32> = binned_scatter(&rows, &bins, &weights, 1, 2).unwrap();
    assert_eq!(sum[[0, 0]], 1.0 + 1.25 * HALF);
    let sum: Array2<bf16> = binned_scatter(&rows, &bins, &weights, 1, 2).unwrap();
    assert_eq!(sum[[0, 0]].to_f32(), 1.0 + 2.0 * HALF);
    // With weights of bf16 the first is 1, and so is the sum.
    let sum: Array2<f32> = binned_scatter(&rows, &bins, &weights.mapv(narrow), 1, 2).unwrap();
    assert_eq!(sum[[0, 0]], 1.0 + 0.75 * HALF);
}

#[test]
fn the_layer_says_what_the_output_is_rounded_to() {
    let of = |layer: Layer| {
        let problem = problem(1.0 + 0.75 * HALF, 1.0).with_layer(layer).unwrap();
        binned_experts_ref(&problem).unwrap().output[[0, 0, 0]]
    };
    let wide_weights = Layer {
        routing_weight_type: TensorType::Wide,
        ..Layer::GPT_OSS
    };
    let wide_output = Layer {
        output_type: TensorType::Wide,
        ..wide_weights
    };
    assert_eq!(of(wide_weights), 1.0);
    assert_eq!(of(wide_output), 1.0 + 0.75 * HALF);
    // The factor is on the sum before it is rounded: 1.5 · (1 + 0.75/256) is above the middle of 1.5 and the next bf16.
    let scaled = Layer {
        scale: 1.5,
        ..wide_weights
    };
    assert_eq!(of(scaled), 1.5 + 2.0 * HALF);
    let on_input = Layer {
        weight_on: WeightOn::Input,
        ..wide_output
    };
    assert_eq!(of(on_input), 1.0);
}

#[test]
fn a_layer_of_the_element_type_refuses_other_values() {
    let refused = |problem: Problem<bf16>| problem.with_layer(Layer::GPT_OSS).unwrap_err();
    let wide = problem(1.0 + HALF, 1.0);
    assert_eq!(wide.layer().routing_weight_type, TensorType::Wide);
    let error = Error::NotOfElement {
        tensor: "routing_weights",
        found: "1.0039063".to_owned(),
    };
    assert_eq!(refused(wide), error);
    assert_eq!(
        error.to_string(),
        "routing_weights: expected values of the element type, found 1.0039063"
    );
    let wide = problem(1.0, 1.0 + HALF);
    assert_eq!(wide.layer().bias_type, TensorType::Wide);
    assert!(matches!(
        refused(wide),
        Error::NotOfElement {
            tensor: "down_proj_bias",
            ..
        }
    ));
    assert_eq!(*problem(1.0, 1.0).layer(), Layer::GPT_OSS);
}
