//! Small results worked by hand, on both oracles.

use binned_experts_check::CaseElement;
use binned_experts_check::oracle::{Definition, Inputs};
use binned_experts_reference::{Activation, ExpertWeights, Problem, binned_experts_ref};
use ndarray::{Array2, Array3, array};

/// Experts with H = I = 1 that multiply: out = expert's factor · x, exactly.
///
/// gate is held at 2^20 by its bias and clamped to the limit 1, where alpha = 2^20 makes the sigmoid 1; up is x − 1,
/// so that up + 1 is x for x in 0..=2.
fn multipliers(x: &[f32], router_indices: Array2<i64>, factors: &[f32], capacity: usize) -> Problem<f32> {
    let (tokens, experts) = (x.len(), factors.len());
    let weights = ExpertWeights::new(
        Array3::from_shape_fn((experts, 1, 2), |(_, _, j)| if j == 1 { 1.0 } else { 0.0 }),
        Array2::from_shape_fn((experts, 2), |(_, j)| if j == 1 { -1.0 } else { 1048576.0 }),
        Array3::from_shape_fn((experts, 1, 1), |(e, _, _)| factors[e]),
        Array2::zeros((experts, 1)),
    )
    .unwrap();
    let hidden_states = Array3::from_shape_vec((1, tokens, 1), x.to_vec()).unwrap();
    let routing_weights = Array3::ones((1, tokens, experts));
    let problem = Problem::new(hidden_states, router_indices, routing_weights, weights, capacity).unwrap();
    problem.with_activation(Activation {
        alpha: 1048576.0,
        limit: 1.0,
    })
}

fn assert_output(problem: Problem<f32>, expected: &[f32]) {
    let output = binned_experts_ref(&problem).unwrap().output;
    assert_eq!(output.iter().copied().collect::<Vec<_>>(), expected);
    let definition = Definition::new(&Inputs::new(&f32::problem(problem)));
    assert_eq!(
        definition.output.iter().map(|value| *value as f32).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn a_token_takes_the_sum_over_its_experts() {
    let problem = multipliers(&[1.0, 2.0], array![[0, 1], [2, 1]], &[1.0, 10.0, 100.0], 2);
    assert_output(problem, &[11.0, 220.0]);
}

#[test]
fn the_same_expert_twice_counts_twice() {
    assert_output(multipliers(&[1.0], array![[1, 1]], &[1.0, 10.0], 2), &[20.0]);
    assert_output(multipliers(&[1.0], array![[1, 0, 1]], &[1.0, 10.0], 2), &[21.0]);
}

#[test]
fn the_first_assignments_by_flat_index_are_kept() {
    let ids = array![[0, 1], [0, 0], [1, 0]];
    assert_output(
        multipliers(&[1.0, 2.0, 1.5], ids.clone(), &[1.0, 10.0], 2),
        &[11.0, 2.0, 15.0],
    );
    assert_output(
        multipliers(&[1.0, 2.0, 1.5], ids.clone(), &[1.0, 10.0], 1),
        &[11.0, 0.0, 0.0],
    );
    assert_output(multipliers(&[1.0, 2.0, 1.5], ids, &[1.0, 10.0], 0), &[0.0, 0.0, 0.0]);
}

#[test]
fn an_explicit_order_decides_what_is_dropped() {
    let problem = multipliers(&[1.0, 2.0, 1.5], array![[0], [0], [0]], &[1.0], 1);
    assert_output(problem.clone(), &[1.0, 0.0, 0.0]);
    assert_output(problem.with_order(vec![2, 0, 1]).unwrap(), &[0.0, 0.0, 1.5]);
}

#[test]
fn a_capacity_beyond_all_assignments_keeps_them() {
    assert_output(
        multipliers(&[1.0, 2.0], array![[0], [0]], &[3.0], usize::MAX),
        &[3.0, 6.0],
    );
}

#[test]
fn no_tokens_give_an_empty_output() {
    let problem = multipliers(&[], Array2::zeros((0, 2)), &[1.0], 4);
    assert_eq!(binned_experts_ref(&problem).unwrap().output.dim(), (1, 0, 1));
    assert_output(problem, &[]);
}

#[test]
fn a_nan_in_a_dropped_token_or_an_unused_expert_is_never_seen() {
    let dropped = multipliers(&[1.0, f32::NAN], array![[0], [0]], &[3.0], 1);
    assert_output(dropped, &[3.0, 0.0]);
    let unused = multipliers(&[1.0], array![[0]], &[3.0, f32::NAN], 1);
    assert_output(unused, &[3.0]);
}

#[test]
fn a_nan_in_a_token_stays_in_its_row() {
    let problem = multipliers(&[1.0, f32::NAN, 2.0], array![[0], [0], [0]], &[3.0], 3);
    let output = binned_experts_ref(&problem).unwrap().output;
    assert_eq!((output[[0, 0, 0]], output[[0, 2, 0]]), (3.0, 6.0));
    assert!(output[[0, 1, 0]].is_nan());
}

#[test]
fn any_memory_layout_gives_the_same() {
    use ndarray::ShapeBuilder;
    let column_major = |array: &Array3<f32>| {
        let mut other = Array3::zeros(array.raw_dim().f());
        other.assign(array);
        assert!(
            !other.is_standard_layout() || array.len() <= 1 || array.shape().iter().filter(|n| **n > 1).count() <= 1
        );
        other
    };
    let spec: binned_experts_check::CaseSpec =
        "element = 'f32'\nbatch = 2\nsequence = 3\nhidden = 5\nintermediate = 4\n\
        experts = 3\ntop_k = 2\ncapacity = 3\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = 'uniform'\n\
        values = 'gentle'\nweights = 'negative'"
            .parse()
            .unwrap();
    let binned_experts_check::AnyProblem::F32(plain) = spec.build().unwrap() else {
        panic!("an f32 case")
    };
    let weights = ExpertWeights::new(
        column_major(plain.weights().gate_up_proj()),
        plain.weights().gate_up_proj_bias().clone(),
        column_major(plain.weights().down_proj()),
        plain.weights().down_proj_bias().clone(),
    )
    .unwrap();
    let problem = Problem::new(
        column_major(plain.hidden_states()),
        plain.router_indices().to_owned(),
        column_major(plain.routing_weights()),
        weights,
        plain.capacity(),
    )
    .unwrap();
    let outputs = [&plain, &problem].map(|problem| binned_experts_ref(problem).unwrap().output);
    for (left, right) in outputs[0].iter().zip(&outputs[1]) {
        approx::assert_relative_eq!(left, right, max_relative = 1e-5, epsilon = 1e-5);
    }
    let definitions = [plain, problem].map(|problem| Definition::new(&Inputs::new(&f32::problem(problem))).output);
    assert_eq!(definitions[0], definitions[1]);
}
