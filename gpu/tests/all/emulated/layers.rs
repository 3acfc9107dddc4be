//! Layers of other models, and ids of experts that are not local, on the emulator.

use binned_experts_check::CaseElement;
use binned_experts_gpu::{GpuError, PORTABLE_BF16, PORTABLE_FP32, Path, PathElement, Pipeline, Stages};
use binned_experts_reference::{ActivationKind, ExpertWeights, Layer, Problem, WeightOn};
use ndarray::{Array2, Array3};

use super::common::{Numbers, emulator, expect_stages, problem, problem_bf16};
use super::{Test, test};

/// Sizes that all kernels take.
const SIZES: [usize; 6] = [70, 40, 48, 5, 3, 30];
/// The id of the first local expert.
const FIRST: i64 = 3;

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(every_activation_and_factor_is_computed),
        test(ids_that_are_not_local_have_no_row),
        test(any_id_is_safe),
        test(an_explicit_order_leaves_out_ids_that_are_not_local),
        test(a_rank_may_have_no_experts),
        test(other_layers_are_refused),
    ]
}

/// On the portable path and on the fastest one.
fn check<T: CaseElement<WideElement = f32> + PathElement>(
    problem: &Problem<T>,
    portable: &'static Path<T>,
    what: &str,
) {
    for path in [portable, T::fastest()] {
        expect_stages(problem, &stages(problem, path), &format!("{what}, {path:?}"));
    }
}

fn stages<T: CaseElement<WideElement = f32> + PathElement>(problem: &Problem<T>, path: &'static Path<T>) -> Stages<T> {
    let mut pipeline = Pipeline::with_path(problem.weights().clone(), emulator(1), path).unwrap();
    pipeline.forward_with_stages(problem).unwrap()
}

fn every_activation_and_factor_is_computed() {
    for activation in [
        ActivationKind::Silu,
        ActivationKind::ClampedSilu,
        ActivationKind::ClampedSwiglu,
    ] {
        for scale in [1.0, 2.5, -0.3, 0.0] {
            let layer = Layer {
                activation,
                scale,
                ..Layer::GPT_OSS
            };
            let what = format!("{activation}, scale {scale}");
            check(&problem(SIZES, 3).with_layer(layer).unwrap(), &PORTABLE_FP32, &what);
            check(
                &problem_bf16(SIZES, 3).with_layer(layer).unwrap(),
                &PORTABLE_BF16,
                &what,
            );
        }
    }
}

/// The problem as that of a rank, with these ids.
fn of_rank<T: CaseElement>(problem: &Problem<T>, ids: Array2<i64>) -> Problem<T> {
    let of_rank = Problem::of_rank(
        problem.hidden_states().clone(),
        ids,
        problem.routing_weights().clone(),
        problem.weights().clone(),
        problem.capacity(),
        FIRST as usize,
    );
    of_rank.unwrap().with_activation(problem.activation())
}

/// Ids of so many ranks, some of them -1, and some tokens without any expert of this one.
fn ids(tokens: usize, seed: u64) -> Array2<i64> {
    let mut numbers = Numbers(seed);
    Array2::from_shape_fn((tokens, SIZES[4]), |(token, _)| match numbers.below(4) {
        _ if token % 5 == 0 => FIRST - 1,
        0 => -1,
        _ => numbers.below(13) as i64,
    })
}

fn ids_that_are_not_local_have_no_row() {
    // More assignments than one launch routes in bf16, and fewer.
    for tokens in [1, 70, 700] {
        let sizes = [tokens, SIZES[1], SIZES[2], SIZES[3], SIZES[4], SIZES[5]];
        let ids = ids(tokens, tokens as u64);
        let what = format!("{tokens} tokens");
        check(&of_rank(&problem(sizes, 5), ids.clone()), &PORTABLE_FP32, &what);
        check(&of_rank(&problem_bf16(sizes, 5), ids), &PORTABLE_BF16, &what);
    }
}

/// Ids next to the local ones, and those that are one of them in 32 bits or once a sum has wrapped around.
fn any_id_is_safe() {
    let experts = SIZES[3] as i64;
    let wrapped = 1 << 32;
    let odd = [
        FIRST - 1,
        FIRST + experts,
        FIRST + wrapped,
        FIRST - wrapped,
        i64::MIN,
        i64::MIN + FIRST,
        i64::MAX,
        -1,
        0,
    ];
    let ids = Array2::from_shape_fn((SIZES[0], SIZES[4]), |(token, slot)| match slot {
        1 => FIRST + token as i64 % experts,
        slot => odd[(token + slot) % odd.len()],
    });
    check(&of_rank(&problem(SIZES, 6), ids.clone()), &PORTABLE_FP32, "odd ids");
    check(&of_rank(&problem_bf16(SIZES, 6), ids), &PORTABLE_BF16, "odd ids");
}

fn an_explicit_order_leaves_out_ids_that_are_not_local() {
    let ids = ids(SIZES[0], 9);
    check(
        &reversed(of_rank(&problem(SIZES, 7), ids.clone())),
        &PORTABLE_FP32,
        "reversed",
    );
    check(
        &reversed(of_rank(&problem_bf16(SIZES, 7), ids)),
        &PORTABLE_BF16,
        "reversed",
    );
}

/// The assignments of each expert from the last one on.
fn reversed<T: CaseElement>(problem: Problem<T>) -> Problem<T> {
    let bins = problem.bins();
    let mut order = bins.sorted_indices().to_vec();
    for expert in 0..bins.experts() {
        order[bins.range(expert)].reverse();
    }
    let problem = problem.with_order(order).unwrap();
    assert!(problem.explicit_order().is_some());
    problem
}

fn a_rank_may_have_no_experts() {
    check(&without_experts(&problem(SIZES, 8)), &PORTABLE_FP32, "no experts");
    check(&without_experts(&problem_bf16(SIZES, 8)), &PORTABLE_BF16, "no experts");
}

fn without_experts<T: CaseElement>(problem: &Problem<T>) -> Problem<T> {
    let [tokens, hidden, intermediate, ..] = SIZES;
    let zeros = |shape| Array3::from_elem(shape, T::ZERO);
    let no_bias = |width| Array2::from_elem((0, width), T::ZERO.widen());
    let weights = ExpertWeights::new(
        zeros((0, hidden, 2 * intermediate)),
        no_bias(2 * intermediate),
        zeros((0, intermediate, hidden)),
        no_bias(hidden),
    );
    let tokens_alone = problem.hidden_states().clone();
    let no_weights = Array3::from_elem((1, tokens, 0), T::ZERO.widen());
    Problem::of_rank(tokens_alone, ids(tokens, 8), no_weights, weights.unwrap(), 9, 0).unwrap()
}

fn other_layers_are_refused() {
    let problem = problem([4, 3, 2, 2, 1, 4], 1);
    let refused = |layer: Layer| {
        let problem = problem.clone().with_layer(layer).unwrap();
        let mut pipeline = Pipeline::new(problem.weights().clone(), emulator(0)).unwrap();
        pipeline.forward(&problem).unwrap_err().to_string()
    };
    let with = |activation| {
        refused(Layer {
            activation,
            ..Layer::GPT_OSS
        })
    };
    let activations = "layer: expected the activation clamped-swiglu, silu or clamped-silu, found";
    assert_eq!(with(ActivationKind::Gelu), format!("{activations} gelu"));
    assert_eq!(with(ActivationKind::GeluTanh), format!("{activations} gelu-tanh"));
    let on_input = Layer {
        weight_on: WeightOn::Input,
        ..Layer::GPT_OSS
    };
    assert_eq!(
        refused(on_input),
        "layer: expected the routing weight on what comes out of an expert, found it on what goes in"
    );
    let without_ups = ExpertWeights::without_ups(
        Array3::<f32>::zeros((1, 3, 2)),
        Array2::zeros((1, 2)),
        Array3::zeros((1, 2, 3)),
        Array2::zeros((1, 3)),
    );
    let without_ups = std::sync::Arc::new(without_ups.unwrap());
    let expected = "layer: expected weights with ups, found weights without";
    let refused = |error: GpuError| assert_eq!(error.to_string(), expected);
    refused(Pipeline::new(without_ups.clone(), emulator(0)).unwrap_err());
    let mut pipeline = Pipeline::new(problem.weights().clone(), emulator(0)).unwrap();
    refused(pipeline.load_weights(without_ups).unwrap_err());
    pipeline.forward(&problem).unwrap();
}
