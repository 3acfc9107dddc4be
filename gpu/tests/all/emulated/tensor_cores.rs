//! The kernels for Hopper's tensor cores, on the emulator, judged by the derived bounds.

use binned_experts_gpu::{Pipeline, Stages};
use binned_experts_reference::{Activation, ExpertWeights, Problem};
use ndarray::{Array2, Array3, s};

use super::common::{ACTIVATIONS, Numbers, bits, emulator, expect_stages, problem, with_value};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(sizes_around_the_edges_of_panels_and_images),
        test(depths_of_eight_parts_and_many_slots),
        test(small_depths_are_left_to_the_portable_kernels),
        test(any_schedule_gives_the_same_bits_on_any_number_of_multiprocessors),
        test(a_token_has_the_same_bits_in_any_batch_where_that_is_asked),
        test(rows_without_a_bound_of_their_activations_are_left_to_the_fallback_kernels),
        test(rows_that_cannot_be_split_are_left_to_the_fallback_kernels),
        test(rows_of_any_magnitude_are_split_by_their_own_scale),
        test(zero_tokens_are_split),
        test(experts_that_cannot_be_split_are_left_to_the_fallback_kernels),
        test(limits_and_alphas_that_bound_nothing_are_left_to_the_fallback_kernels),
        test(the_activation_follows_its_parameters),
        test(nan_and_infinity_stay_in_the_rows_that_use_them),
    ]
}

/// Runs a problem with all stages, on so many multiprocessors.
fn stages(problem: &Problem<f32>, multiprocessors: u32, seed: u64) -> Stages {
    let machine = emulator(seed).with_multiprocessors(multiprocessors);
    let mut pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
    let stages = pipeline.forward_with_stages(problem).unwrap();
    // Without stages the kernels write less, and the same.
    let output = pipeline.forward(problem).unwrap();
    assert_eq!(output.mapv(f32::to_bits), stages.output.mapv(f32::to_bits));
    stages
}

/// Compares every stage, and returns how many rows were left to the fallback kernels.
fn fallback_rows(problem: &Problem<f32>, seed: u64, what: &str) -> usize {
    let stages = stages(problem, 3, seed);
    expect_stages(problem, &stages, what);
    stages.fallback_rows.expect("the sizes are those of the tensor cores")
}

fn sizes_around_the_edges_of_panels_and_images() {
    let mut numbers = Numbers(5);
    for case in 0..24 {
        let depth = [32, 33, 63, 64, 65, 95, 96, 97, 128, 193];
        let mut pick = |from: &[usize]| from[numbers.below(from.len())];
        let (hidden, intermediate) = (pick(&depth), pick(&depth));
        let tokens = pick(&[1, 2, 63, 64, 65, 127, 128, 129, 200]);
        let sizes = [
            tokens,
            hidden,
            intermediate,
            pick(&[1, 2, 5]),
            pick(&[1, 2]),
            pick(&[64, 128, 129, 1000]),
        ];
        let left = fallback_rows(&problem(sizes, case), case, &format!("sizes {sizes:?}"));
        assert_eq!(left, 0, "sizes {sizes:?}: these values can be split");
    }
}

fn depths_of_eight_parts_and_many_slots() {
    // Columns are packed in at most eight parts of 64; half of the rows are dropped.
    let sizes = [5, 577, 64, 3, 131, 109];
    let left = fallback_rows(&problem(sizes, 4), 1, &format!("sizes {sizes:?}"));
    assert_eq!(left, 0);
}

fn small_depths_are_left_to_the_portable_kernels() {
    for [hidden, intermediate] in [[31, 64], [64, 31], [0, 64]] {
        let problem = problem([5, hidden, intermediate, 2, 1, 5], 1);
        let stages = stages(&problem, 3, 0);
        expect_stages(&problem, &stages, "small depths");
        assert_eq!(stages.fallback_rows, None);
    }
}

fn any_schedule_gives_the_same_bits_on_any_number_of_multiprocessors() {
    // Tiles of the second product are cut along a depth of five pairs.
    let problem = problem([200, 70, 300, 3, 2, 1000], 9);
    for multiprocessors in [1, 2, 7, 132] {
        let expected = stages(&problem, multiprocessors, 0);
        expect_stages(&problem, &expected, &format!("{multiprocessors} multiprocessors"));
        for seed in 1..4 {
            let found = stages(&problem, multiprocessors, seed);
            assert_eq!(
                bits(&found),
                bits(&expected),
                "{multiprocessors} multiprocessors, seed {seed}"
            );
        }
    }
}

/// Tiles of the second product are cut along a depth of five pairs, in some batches; not where that is asked for.
fn a_token_has_the_same_bits_in_any_batch_where_that_is_asked() {
    let all = problem([200, 70, 300, 3, 2, 1000], 9);
    // Some rows of which are left to the fallback kernels.
    for all in [all.clone(), with_value(&all, f32::INFINITY)[0].clone()] {
        assert!(batches_differ(&all, false));
        assert!(!batches_differ(&all, true));
    }
}

/// Whether some tokens have other bits in a batch of their own than in the whole one.
fn batches_differ(all: &Problem<f32>, batch_invariant: bool) -> bool {
    let output = |problem: &Problem<f32>, multiprocessors| {
        let machine = emulator(1).with_multiprocessors(multiprocessors);
        let pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
        assert!(!pipeline.is_batch_invariant());
        let mut pipeline = if batch_invariant {
            pipeline.batch_invariant()
        } else {
            pipeline
        };
        assert_eq!(pipeline.is_batch_invariant(), batch_invariant);
        let stages = pipeline.forward_with_stages(problem).unwrap();
        expect_stages(problem, &stages, "some tokens");
        stages.output
    };
    // Any NaN is like any other.
    let bits = |value: f32| {
        if value.is_nan() {
            f32::NAN.to_bits()
        } else {
            value.to_bits()
        }
    };
    let expected = output(all, 7).mapv(bits);
    let differs = |(first, count): (usize, usize)| {
        let tokens = s![.., first..first + count, ..];
        let some = Problem::new(
            all.hidden_states().slice(tokens).to_owned(),
            all.router_indices().slice(s![first..first + count, ..]).to_owned(),
            all.routing_weights().slice(tokens).to_owned(),
            all.weights().clone(),
            1000,
        );
        let some = some.unwrap().with_activation(all.activation());
        // Any number of multiprocessors, too.
        output(&some, 5).mapv(bits) != expected.slice(tokens)
    };
    [(0, 1), (1, 7), (60, 66), (3, 150), (199, 1)].into_iter().any(differs)
}

fn rows_without_a_bound_of_their_activations_are_left_to_the_fallback_kernels() {
    // Squares beyond f32 times columns of zeros: all that the gates are is their bias, and alpha turns it round.
    let (hidden, inner) = (32, 64);
    let weights = ExpertWeights::new(
        Array3::zeros((1, hidden, 2 * inner)),
        Array2::from_shape_fn((1, 2 * inner), |(_, column)| if column % 2 == 0 { -1e20 } else { 0.5 }),
        Array3::from_elem((1, inner, hidden), 1e-3),
        Array2::zeros((1, hidden)),
    );
    let large = Problem::new(
        Array3::from_elem((1, 3, hidden), 2f32.powi(62)),
        Array2::zeros((3, 1)),
        Array3::ones((1, 3, 1)),
        weights.unwrap(),
        3,
    );
    let large = large.unwrap().with_activation(Activation {
        alpha: -1.0,
        limit: 7.0,
    });
    let left = fallback_rows(&large, 1, "no bound");
    assert_eq!(left, 3);
}

/// A problem of 40 tokens, each with one expert of two in turns, whose hidden states are changed.
fn with_tokens(change: impl Fn(usize, usize, f32) -> f32) -> Problem<f32> {
    let random = problem([40, 64, 64, 2, 1, 1000], 3);
    let mut x = random.hidden_states().clone();
    for ((_, token, column), value) in x.indexed_iter_mut() {
        *value = change(token, column, *value);
    }
    Problem::new(
        x,
        Array2::from_shape_fn((40, 1), |(token, _)| (token % 2) as i64),
        random.routing_weights().clone(),
        random.weights().clone(),
        1000,
    )
    .unwrap()
    .with_activation(random.activation())
}

fn rows_that_cannot_be_split_are_left_to_the_fallback_kernels() {
    // One value in each of three tokens; a row with a single large value; a row that is mostly zeros.
    let changed = with_tokens(|token, column, value| match (token, column) {
        (3, 7) => f32::INFINITY,
        (4, 0) => f32::NAN,
        (8, 63) => 1e30,
        (11, 1) => 4096.0,
        (20, column) if column > 20 => 0.0,
        _ => value,
    });
    let left = fallback_rows(&changed, 1, "single values");
    assert_eq!(left, 5);
}

fn rows_of_any_magnitude_are_split_by_their_own_scale() {
    let tokens = with_tokens(|token, _, value| value * 2f32.powi(3 * (token as i32 - 20)));
    let left = fallback_rows(&tokens, 2, "magnitudes");
    // The activations of the largest differ so much that few of them are large.
    assert!(left < 40, "{left} of 40 rows");
}

fn zero_tokens_are_split() {
    let left = fallback_rows(&with_tokens(|_, _, _| 0.0), 2, "zeros");
    assert_eq!(left, 0);
}

fn experts_that_cannot_be_split_are_left_to_the_fallback_kernels() {
    let plain = with_tokens(|_, _, value| value);
    let (old, mut gate_up_proj) = (plain.weights(), plain.weights().gate_up_proj().clone());
    gate_up_proj[[1, 3, 5]] = f32::NEG_INFINITY;
    let weights = ExpertWeights::new(
        gate_up_proj,
        old.gate_up_proj_bias().clone(),
        old.down_proj().clone(),
        old.down_proj_bias().clone(),
    )
    .unwrap();
    let problem = Problem::new(
        plain.hidden_states().clone(),
        plain.router_indices().to_owned(),
        plain.routing_weights().clone(),
        weights,
        1000,
    )
    .unwrap();
    let left = fallback_rows(&problem, 4, "an infinite weight");
    assert_eq!(left, 20, "the rows of expert 1");
}

fn limits_and_alphas_that_bound_nothing_are_left_to_the_fallback_kernels() {
    let plain = with_tokens(|_, _, value| value);
    for (alpha, limit) in [
        (1.702, f64::INFINITY),
        (-1.0, 7.0),
        (0.0, 7.0),
        (1.702, 0.0),
        (1.702, f64::NAN),
        (1.0, -1.0),
    ] {
        let problem = plain.clone().with_activation(Activation { alpha, limit });
        fallback_rows(&problem, 6, &format!("alpha {alpha}, limit {limit}"));
    }
}

/// With their padding, of which the activation need not be zero.
fn the_activation_follows_its_parameters() {
    for (alpha, limit) in ACTIVATIONS {
        let problem = problem([70, 40, 33, 3, 2, 60], 4).with_activation(Activation { alpha, limit });
        fallback_rows(&problem, 1, &format!("alpha {alpha}, limit {limit}"));
    }
}

fn nan_and_infinity_stay_in_the_rows_that_use_them() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (place, problem) in with_value(&problem([70, 40, 33, 3, 2, 60], 9), value)
            .iter()
            .enumerate()
        {
            fallback_rows(problem, 1, &format!("{value} in place {place}"));
        }
    }
}
