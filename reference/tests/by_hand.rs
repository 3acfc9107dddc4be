//! Small results worked by hand, in every element type, and what the accessors say about them.

use binned_experts_reference::{
    Activation, Binned, Dims, Element, Error, ExpertWeights, Problem, binned_experts_ref, binned_gather,
    binned_scatter, expert_capacity, sort_tokens_by_expert,
};
use half::{bf16, f16};
use ndarray::{Array1, Array2, Array3, array};

/// Three experts with H = 2 and I = 1: expert e gives `FACTORS[e]` · x₀ in column 0 and its double in column 1.
///
/// gate is held at 1024 by its bias and clamped to the limit 1, where alpha = 2^20 makes the sigmoid 1; up is x₀ − 1,
/// so that up + 1 is x₀ for x₀ in 0..=2.
const FACTORS: [f32; 3] = [1.0, 4.0, 16.0];
const ACTIVATION: Activation = Activation {
    alpha: 1048576.0,
    limit: 1.0,
};

/// T = 2·2, K = 2. Experts 0, 1 and 2 are asked for 3, 3 and 2 rows.
fn problem<T: Element>(from: fn(f32) -> T, capacity: usize) -> Problem<T> {
    let weights = ExpertWeights::new(
        Array3::from_shape_fn((3, 2, 2), |(_, h, j)| from(if (h, j) == (0, 1) { 1.0 } else { 0.0 })),
        Array2::from_shape_fn((3, 2), |(_, j)| from(if j == 0 { 1024.0 } else { -1.0 }).widen()),
        Array3::from_shape_fn((3, 1, 2), |(e, _, h)| from(FACTORS[e] * (1.0 + h as f32))),
        Array2::from_elem((3, 2), from(0.0).widen()),
    )
    .unwrap();
    let hidden_states = array![[[1.0, 9.0], [2.0, 9.0]], [[0.5, 9.0], [1.5, 9.0]]].mapv(from);
    let routing_weights = Array3::from_shape_fn((2, 2, 3), |(_, _, e)| from(if e == 2 { 0.5 } else { 1.0 }).widen());
    let router_indices = array![[0, 1], [1, 0], [2, 1], [0, 2]];
    let problem = Problem::new(hidden_states, router_indices, routing_weights, weights, capacity).unwrap();
    problem.with_activation(ACTIVATION)
}

fn output<T: Element>(problem: &Problem<T>, to: fn(T) -> f32) -> Array3<f32> {
    let output = binned_experts_ref(problem).unwrap().output;
    output.mapv(|value| to(T::narrow(value)))
}

fn assert_by_hand<T: Element>(from: fn(f32) -> T, to: fn(T) -> f32) {
    assert_eq!(
        output(&problem(from, 4), to),
        array![[[5.0, 10.0], [10.0, 20.0]], [[6.0, 12.0], [13.5, 27.0]]]
    );
    // Expert 0 drops token 3, expert 1 token 2.
    assert_eq!(
        output(&problem(from, 2), to),
        array![[[5.0, 10.0], [10.0, 20.0]], [[4.0, 8.0], [12.0, 24.0]]]
    );
}

#[test]
fn every_element_type_gives_the_results_worked_by_hand() {
    assert_by_hand::<f32>(|value| value, |value| value);
    assert_by_hand::<f64>(f64::from, |value| value as f32);
    assert_by_hand::<bf16>(bf16::from_f32, bf16::to_f32);
    assert_by_hand::<f16>(f16::from_f32, f16::to_f32);
}

#[test]
fn a_problem_says_what_it_was_given() {
    let problem = problem::<f32>(|value| value, 2);
    let dims = Dims {
        tokens: 4,
        hidden: 2,
        intermediate: 1,
        experts: 3,
        top_k: 2,
        capacity: 2,
    };
    assert_eq!(problem.dims(), dims);
    assert_eq!(problem.capacity(), 2);
    assert_eq!(problem.activation(), ACTIVATION);
    let weights = ExpertWeights::<f32>::new(
        Array3::zeros((5, 3, 8)),
        Array2::zeros((5, 8)),
        Array3::zeros((5, 4, 3)),
        Array2::zeros((5, 3)),
    )
    .unwrap();
    assert_eq!((weights.experts(), weights.hidden(), weights.intermediate()), (5, 3, 4));
    // B = 3 and S = 2, whose product is not their sum.
    let ids = Array2::zeros((6, 1));
    let batches = Problem::new(Array3::zeros((3, 2, 3)), ids, Array3::zeros((3, 2, 5)), weights, 1).unwrap();
    assert_eq!(batches.dims().tokens, 6);
    assert_eq!(binned_experts_ref(&batches).unwrap().output.dim(), (3, 2, 3));
}

#[test]
fn an_explicit_order_decides_what_is_dropped_and_is_told_from_the_stable_one() {
    let stable = problem::<f32>(|value| value, 2);
    assert_eq!(stable.bins().sorted_indices(), [0, 3, 6, 1, 2, 5, 4, 7]);
    assert_eq!(stable.explicit_order(), None);
    let same = stable.clone().with_order(vec![0, 3, 6, 1, 2, 5, 4, 7]).unwrap();
    assert_eq!(same.explicit_order(), None);
    let order = [6, 3, 0, 5, 2, 1, 7, 4];
    let reversed = stable.with_order(order.to_vec()).unwrap();
    assert_eq!(reversed.explicit_order(), Some(&order[..]));
    // Experts 0 and 1 both drop token 0.
    assert_eq!(
        output(&reversed, |value| value),
        array![[[0.0, 0.0], [10.0, 20.0]], [[6.0, 12.0], [13.5, 27.0]]]
    );
}

/// The tokens 1, 2 and 3 at two experts, which keep two rows and one.
fn gathered() -> Binned<f32> {
    let bins = sort_tokens_by_expert(array![[0], [1], [0]].view(), 2).unwrap();
    binned_gather(array![[1.0, -1.0], [2.0, -2.0], [3.0, -3.0]].view(), &bins, 2, 1).unwrap()
}

#[test]
fn padding_fills_each_expert_up_to_the_capacity() {
    let two = array![[[1.0, -1.0], [3.0, -3.0]], [[2.0, -2.0], [0.0, 0.0]]];
    assert_eq!(gathered().padded(2).unwrap(), two);
    let three = gathered().padded(3).unwrap();
    assert_eq!(three.dim(), (2, 3, 2));
    assert_eq!((three[[0, 1, 0]], three[[0, 2, 0]], three[[1, 0, 1]]), (3.0, 0.0, -2.0));
    let error = Error::Shape {
        tensor: "padded",
        expected: vec![2, 2],
        found: vec![1, 2],
    };
    assert_eq!(gathered().padded(1).unwrap_err(), error);
}

#[test]
fn assignments_that_do_not_fit_the_tokens_are_refused() {
    let bins = sort_tokens_by_expert(array![[0], [1], [0]].view(), 2).unwrap();
    let misfit = |expected: usize| Error::Shape {
        tensor: "sorted_indices",
        expected: vec![expected],
        found: vec![3],
    };
    let x = Array2::<f32>::zeros((2, 2));
    assert_eq!(binned_gather(x.view(), &bins, 2, 1).unwrap_err(), misfit(2));
    assert_eq!(binned_gather(x.view(), &bins, 2, 2).unwrap_err(), misfit(4));
    assert_eq!(binned_gather(x.view(), &bins, 2, 0).unwrap_err(), Error::ZeroTopK);
    let weights = Array1::<f32>::zeros(3);
    let scattered = |top_k| binned_scatter::<_, _, f32>(&gathered(), &bins, &weights, 2, top_k).unwrap_err();
    assert_eq!(scattered(2), misfit(2));
    assert_eq!(scattered(0), Error::ZeroTopK);
}

#[test]
fn the_capacity_is_twice_the_mean_count_rounded_down() {
    assert_eq!(expert_capacity(512, 4, 2), Ok(512));
    assert_eq!(expert_capacity(7, 4, 3), Ok(10));
    assert_eq!(expert_capacity(1, 16, 2), Ok(0));
    assert_eq!(expert_capacity(1, 0, 1), Err(Error::NoExperts));
    assert!(matches!(
        expert_capacity(usize::MAX, 1, 1),
        Err(Error::SizeOverflow { .. })
    ));
}
