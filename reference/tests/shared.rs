//! Shared experts, worked by hand.

use binned_experts_reference::{
    ActivationKind, Element, Error, ExpertWeights, Layer, Problem, ProjectionLayout, TensorType, Trace, WeightOn,
    binned_experts_ref,
};
use half::bf16;
use ndarray::{Array1, Array2, Array3, array};

/// Half the distance from 1 to the next bf16.
const HALF: f32 = 1.0 / 256.0;

/// The layer of a problem whose weights have no ups, two shared experts, and no wide tensor.
const LAYER: Layer = Layer {
    activation: ActivationKind::ReluSquared,
    shared_experts: 2,
    ..Layer::GPT_OSS
};

/// One expert of these gates and of these weights after the activation, relu(gate)², with H = 1 and a second bias.
fn expert<T: Element>(from: fn(f32) -> T, gates: &[f32], down: &[f32], bias: f32) -> ExpertWeights<T> {
    let inner = gates.len();
    let of = |values: &[f32]| Array1::from_vec(values.to_vec()).mapv(from);
    ExpertWeights::without_ups(
        of(gates).into_shape_with_order((1, 1, inner)).unwrap(),
        Array2::from_elem((1, inner), T::ZERO.widen()),
        of(down).into_shape_with_order((1, inner, 1)).unwrap(),
        Array2::from_elem((1, 1), from(bias).widen()),
    )
    .unwrap()
}

/// Two tokens of 1 whose only expert keeps the first; the routing weight is ½.
fn problem<T: Element>(from: fn(f32) -> T, weights: ExpertWeights<T>) -> Problem<T> {
    let routing_weights = Array3::from_elem((1, 2, 1), from(0.5).widen());
    Problem::new(
        Array3::from_elem((1, 2, 1), from(1.0)),
        array![[0], [0]],
        routing_weights,
        weights,
        1,
    )
    .unwrap()
}

fn trace<T: Element>(problem: Problem<T>, layer: Layer) -> Trace<T> {
    binned_experts_ref(&problem.with_layer(layer).unwrap()).unwrap()
}

#[test]
fn shared_experts_are_added_after_the_factor_and_to_tokens_without_any_other() {
    // The expert gives 2² · ½ + 1 = 3, the shared ones 1² · 1 + 3² · 2 + 4 = 23.
    let weights = expert(|value| value, &[2.0], &[0.5], 1.0)
        .with_shared(expert(|value| value, &[1.0, 3.0], &[1.0, 2.0], 4.0))
        .unwrap();
    let problem = problem(|value: f32| value, weights);
    assert_eq!(*problem.layer(), LAYER);
    let plain = trace(problem.clone(), LAYER);
    assert_eq!(plain.output, array![[[1.5 + 23.0], [23.0]]]);
    assert_eq!(plain.shared_output, Some(array![[23.0], [23.0]]));
    let scaled = Layer { scale: 10.0, ..LAYER };
    assert_eq!(trace(problem.clone(), scaled).output, array![[[15.0 + 23.0], [23.0]]]);
    // The routing weight is not on what goes into the shared ones: with it there the expert gives 1² · ½ + 1.
    let on_input = Layer {
        weight_on: WeightOn::Input,
        ..LAYER
    };
    assert_eq!(trace(problem, on_input).output, array![[[1.5 + 23.0], [23.0]]]);
}

#[test]
fn both_parts_are_rounded_and_so_is_their_sum() {
    let of = |routed: f32, shared: [f32; 2], output_type: TensorType| {
        let weights = expert(bf16::from_f32, &[1.0], &[routed], 0.0)
            .with_shared(expert(bf16::from_f32, &[1.0, 1.0], &shared, 0.0))
            .unwrap();
        let layer = Layer { output_type, ..LAYER };
        trace(problem(bf16::from_f32, weights), layer).output[[0, 0, 0]]
    };
    // Rounded, the shared part is 2^-8, which is half way to the next bf16 from 1; as it is it would be beyond.
    assert_eq!(of(2.0, [HALF, HALF / 512.0], TensorType::Element), 1.0);
    assert_eq!(of(2.0, [HALF, HALF / 16.0], TensorType::Element), 1.0 + 2.0 * HALF);
    assert_eq!(of(2.0, [HALF, HALF / 512.0], TensorType::Wide), 1.0 + HALF);
    assert_eq!(of(2.0 * HALF, [1.0, 0.0], TensorType::Wide), 1.0 + HALF);
}

#[test]
fn weights_that_are_not_those_of_the_layer_are_refused() {
    let one = |gates: &[f32]| expert(|value| value, gates, gates, 0.0);
    let weights = one(&[1.0, 1.0]).with_shared(one(&[1.0; 6])).unwrap();
    assert_eq!(weights.shared_experts(), 3);
    let of_three = problem(|value| value, weights);
    let error = |layer: Layer| of_three.clone().with_layer(layer).unwrap_err().to_string();
    assert_eq!(error(LAYER), "shared_experts: expected weights of 2, found those of 3");
    let none = Layer {
        shared_experts: 0,
        ..LAYER
    };
    assert_eq!(error(none), "shared_experts: expected weights of 0, found those of 3");
    let three = Layer {
        shared_experts: 3,
        ..LAYER
    };
    assert_eq!(of_three.clone().with_layer(three).unwrap().layer(), of_three.layer());
    let in_blocks = Layer {
        projections: ProjectionLayout::Mxfp4,
        ..three
    };
    assert_eq!(
        error(in_blocks),
        "shared_experts: expected 0 where projections are stored in blocks, found 3"
    );
    let huge = Layer {
        shared_experts: usize::MAX,
        ..LAYER
    };
    assert!(error(huge).ends_with("found those of 3"));
    let without = problem(|value| value, one(&[1.0, 1.0])).with_layer(LAYER).unwrap_err();
    assert_eq!(without, Error::SharedExperts { expected: 2, found: 0 });

    let biased = one(&[1.0])
        .with_shared(expert(|value| value, &[1.0], &[1.0], 0.25))
        .unwrap();
    let no_biases = Layer {
        has_bias: false,
        shared_experts: 1,
        ..LAYER
    };
    let tensor = "shared_down_proj_bias";
    let found = problem(|value| value, biased).with_layer(no_biases).unwrap_err();
    assert_eq!(found, Error::Bias { tensor, expert: 0 });
}

#[test]
fn weights_that_do_not_fit_the_others_are_refused() {
    let one = |gates: &[f32]| expert(|value| value, gates, gates, 0.0);
    let refused = |weights: ExpertWeights<f32>, shared| weights.with_shared(shared).unwrap_err().to_string();
    assert_eq!(
        refused(one(&[1.0, 1.0]), one(&[1.0; 3])),
        "intermediate of the shared experts: expected a multiple of 2, found 3"
    );
    assert_eq!(
        refused(one(&[1.0, 1.0]), one(&[])),
        "intermediate of the shared experts: expected a multiple of 2, found 0"
    );
    let wider = ExpertWeights::without_ups(
        Array3::zeros((1, 2, 1)),
        Array2::zeros((1, 1)),
        Array3::zeros((1, 1, 2)),
        Array2::zeros((1, 2)),
    );
    let expected = "shared_gate_up_proj: expected shape [1, 1, 1], found [1, 2, 1]";
    assert_eq!(refused(one(&[1.0]), wider.unwrap()), expected);
    let with_ups = ExpertWeights::new(
        Array3::zeros((1, 1, 2)),
        Array2::zeros((1, 2)),
        Array3::zeros((1, 1, 1)),
        Array2::zeros((1, 1)),
    );
    let expected = "shared_gate_up_proj: expected shape [1, 1, 1], found [1, 1, 2]";
    assert_eq!(refused(one(&[1.0]), with_ups.unwrap()), expected);
    // Where I is 0 the number is that of the layer.
    let empty = problem(|value| value, one(&[]).with_shared(one(&[])).unwrap());
    assert_eq!(empty.layer().shared_experts, 1);
    assert!(empty.with_layer(LAYER).is_ok());
}

#[test]
fn shared_weights_are_stored_in_the_layout_of_the_layer() {
    let weights = expert(|value| value, &[1.0], &[1.0], 0.0)
        .with_shared(expert(|value| value, &[1.0, 2.0], &[3.0, 4.0], 5.0))
        .unwrap();
    let problem = problem(|value| value, weights);
    let stored = problem.stored_shared_weights().unwrap();
    assert_eq!(stored.gate_up_proj.dim(), (1, 1, 2));
    let out_in = Layer {
        projections: ProjectionLayout::OutIn,
        ..LAYER
    };
    let stored = problem.with_layer(out_in).unwrap().stored_shared_weights().unwrap();
    assert_eq!(stored.gate_up_proj, array![[[1.0], [2.0]]]);
    assert_eq!(stored.down_proj, array![[[3.0, 4.0]]]);
    assert_eq!(stored.down_proj_bias, Some(array![[5.0]]));
    let routed = || expert(|value| value, &[1.0], &[1.0], 0.0);
    let mut wrong = stored.clone();
    wrong.down_proj = Array3::zeros((1, 2, 1));
    let error = routed().with_stored_shared(wrong, &out_in).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shared_down_proj: expected shape [1, 1, 2], found [1, 2, 1]"
    );
    let with_ups = Layer {
        activation: ActivationKind::Silu,
        ..out_in
    };
    let mut odd = stored.clone();
    odd.gate_up_proj = Array3::zeros((1, 3, 1));
    let error = routed().with_stored_shared(odd, &with_ups).unwrap_err();
    assert_eq!(
        error.to_string(),
        "shared_gate_up_proj: expected a multiple of 2, found 3"
    );
    let read = routed().with_stored_shared(stored, &out_in).unwrap();
    let expected = expert(|value| value, &[1.0, 2.0], &[3.0, 4.0], 5.0);
    assert_eq!(read.shared(), Some(&expected));
}
