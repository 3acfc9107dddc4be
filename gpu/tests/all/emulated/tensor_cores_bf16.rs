//! The bf16 kernels for Hopper's tensor cores, on the emulator, judged by the derived bounds.

use binned_experts_gpu::{POISONS, Pipeline, Schedule, Stages};
use binned_experts_reference::{Activation, Problem};
use half::bf16;
use ndarray::Array2;

use super::common::{ACTIVATIONS, Numbers, bits, emulator, expect_stages, problem_bf16, with_value};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(sizes_around_the_edges_of_panels_and_images),
        test(experts_of_every_height_of_a_product),
        test(experts_of_several_panels),
        test(tiles_of_few_rows_are_cut_into_parts),
        test(many_assignments_are_routed_before_the_gather),
        test(many_slots_are_gathered_in_turns),
        test(an_explicit_order_takes_the_place_of_the_stable_one),
        test(sizes_that_are_no_multiples_of_eight_take_the_portable_kernels),
        test(empty_and_extreme_sizes),
        test(any_schedule_gives_the_same_bits_on_any_number_of_multiprocessors),
        test(a_token_has_the_same_bits_in_any_batch),
        test(nan_and_infinity_stay_in_the_rows_that_use_them),
        test(the_activation_follows_its_parameters),
        test(the_weights_are_kept_packed_alone),
    ]
}

/// Runs a problem with all stages, on so many multiprocessors.
fn stages(problem: &Problem<bf16>, multiprocessors: u32, seed: u64) -> Stages<bf16> {
    let machine = emulator(seed).with_multiprocessors(multiprocessors);
    let mut pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
    let stages = pipeline.forward_with_stages(problem).unwrap();
    let output = pipeline.forward(problem).unwrap();
    assert_eq!(output.mapv(bf16::to_bits), stages.output.mapv(bf16::to_bits));
    stages
}

fn check(problem: &Problem<bf16>, seed: u64, what: &str) {
    expect_stages(problem, &stages(problem, 3, seed), what);
}

fn path_of(problem: &Problem<bf16>) -> &'static str {
    let pipeline = Pipeline::new(problem.weights().clone(), emulator(0)).unwrap();
    pipeline.path().name()
}

fn sizes_around_the_edges_of_panels_and_images() {
    let mut numbers = Numbers(5);
    for case in 0..16 {
        let depth = [8, 16, 56, 64, 72, 96, 104, 128, 136, 200];
        let mut pick = |from: &[usize]| from[numbers.below(from.len())];
        let (hidden, intermediate) = (pick(&depth), pick(&depth));
        let sizes = [
            pick(&[1, 2, 15, 16, 17, 33, 64, 65]),
            hidden,
            intermediate,
            pick(&[1, 2, 5]),
            pick(&[1, 2, 4]),
            pick(&[1, 16, 33, 1000]),
        ];
        let problem = problem_bf16(sizes, case);
        assert_eq!(path_of(&problem), "hopper_bf16");
        check(&problem, case, &format!("sizes {sizes:?}"));
    }
}

/// A problem in which each of the first experts has so many rows, one assignment a token.
fn with_counts(counts: &[usize], [hidden, intermediate, capacity]: [usize; 3], seed: u64) -> Problem<bf16> {
    let experts_of: Vec<i64> = counts
        .iter()
        .enumerate()
        .flat_map(|(expert, &count)| std::iter::repeat_n(expert as i64, count))
        .collect();
    let tokens = experts_of.len();
    let random = problem_bf16([tokens, hidden, intermediate, counts.len(), 1, capacity], seed);
    Problem::new(
        random.hidden_states().clone(),
        Array2::from_shape_vec((tokens, 1), experts_of).unwrap(),
        random.routing_weights().clone(),
        random.weights().clone(),
        capacity,
    )
    .unwrap()
    .with_activation(random.activation())
}

fn experts_of_every_height_of_a_product() {
    // A panel has as many lines as a multiple of 16: a product for each from 8 to 128.
    for first in [0, 8] {
        let counts: Vec<usize> = (first..first + 8).map(|height| 16 * height + 1 + height % 16).collect();
        check(
            &with_counts(&counts, [8, 8, 1000], 3),
            first as u64,
            &format!("{counts:?}"),
        );
    }
}

fn experts_of_several_panels() {
    for (counts, capacity) in [
        (vec![255, 0, 256, 257], 1000),
        (vec![0, 513, 1], 1000),
        (vec![300, 300], 272),
        (vec![2400], 5000),
    ] {
        let what = format!("{counts:?}, capacity {capacity}");
        check(&with_counts(&counts, [16, 24, capacity], 4), 1, &what);
    }
}

/// Each number of multiprocessors cuts the tiles of either product into one part, two or three.
fn tiles_of_few_rows_are_cut_into_parts() {
    for (counts, seed) in [
        (vec![1], 1),
        (vec![8, 0, 9], 2),
        (vec![0, 17, 3, 1], 3),
        (vec![64, 64], 4),
        (vec![65], 5),
    ] {
        let problem = with_counts(&counts, [328, 200, 1000], seed);
        let expected = stages(&problem, 1, seed);
        expect_stages(&problem, &expected, &format!("rows {counts:?}"));
        for multiprocessors in [2, 3, 4, 6, 8, 9, 12, 18, 24, 60] {
            let found = stages(&problem, multiprocessors, seed);
            let same = bits(&found) == bits(&expected);
            assert!(same, "rows {counts:?}, {multiprocessors} multiprocessors");
        }
    }
}

fn many_assignments_are_routed_before_the_gather() {
    for sizes in [[1024, 8, 8, 5, 2, 300], [1025, 8, 8, 5, 2, 300]] {
        let problem = problem_bf16(sizes, 2);
        let found = stages(&problem, 3, 2);
        assert_eq!(found.sorted_indices.is_some(), sizes[0] > 1024);
        expect_stages(&problem, &found, &format!("sizes {sizes:?}"));
    }
}

fn many_slots_are_gathered_in_turns() {
    for top_k in [31, 32, 33, 70] {
        let sizes = [5, 72, 16, 3, top_k, 60];
        check(&problem_bf16(sizes, 1), 1, &format!("sizes {sizes:?}"));
    }
}

fn an_explicit_order_takes_the_place_of_the_stable_one() {
    let problem = problem_bf16([70, 16, 8, 3, 2, 20], 1);
    let bins = problem.bins();
    let mut order = bins.sorted_indices().to_vec();
    for expert in 0..bins.experts() {
        order[bins.range(expert)].reverse();
    }
    let problem = problem.with_order(order).unwrap();
    assert!(problem.explicit_order().is_some());
    check(&problem, 1, "reversed");
}

fn sizes_that_are_no_multiples_of_eight_take_the_portable_kernels() {
    for sizes in [[9, 12, 16, 2, 2, 9], [9, 16, 12, 2, 2, 9], [9, 8, 8, 513, 2, 9]] {
        let problem = problem_bf16(sizes, 1);
        assert_eq!(path_of(&problem), "portable_bf16", "sizes {sizes:?}");
        check(&problem, 1, &format!("sizes {sizes:?}"));
    }
}

fn empty_and_extreme_sizes() {
    for sizes in [
        [0, 8, 8, 2, 2, 5],
        [5, 8, 8, 2, 2, 0],
        [0, 8, 8, 0, 2, 5],
        [5, 0, 8, 2, 2, 4],
        [5, 8, 0, 2, 2, 4],
        [5, 8, 8, 2, 2, usize::MAX],
        [6, 8, 8, 512, 9, 3],
        [1, 8, 8, 1, 1, 1],
    ] {
        check(&problem_bf16(sizes, 7), 4, &format!("sizes {sizes:?}"));
    }
}

fn any_schedule_gives_the_same_bits_on_any_number_of_multiprocessors() {
    let problem = problem_bf16([150, 72, 136, 3, 2, 1000], 9);
    let expected = stages(&problem, 1, 0);
    expect_stages(&problem, &expected, "one multiprocessor");
    for multiprocessors in [2, 7] {
        let machine = emulator(0).with_multiprocessors(multiprocessors);
        let mut pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
        for seed in 1..4 {
            pipeline.machine_mut().set_schedule(Schedule {
                seed,
                resident_blocks: seed as u32,
                access_interval: if seed == 3 { 50 } else { 0 },
                poison: POISONS[seed as usize % 3],
            });
            let found = pipeline.forward_with_stages(&problem).unwrap();
            let same = bits(&found) == bits(&expected);
            assert!(same, "{multiprocessors} multiprocessors, seed {seed}");
        }
    }
}

fn a_token_has_the_same_bits_in_any_batch() {
    let all = problem_bf16([300, 72, 72, 2, 2, 1000], 6);
    let expected = stages(&all, 3, 1).output;
    for (first, count) in [(0, 1), (7, 2), (100, 40), (299, 1)] {
        let tokens = first..first + count;
        let some = Problem::new(
            all.hidden_states()
                .slice(ndarray::s![.., tokens.clone(), ..])
                .to_owned(),
            all.router_indices().slice(ndarray::s![tokens.clone(), ..]).to_owned(),
            all.routing_weights()
                .slice(ndarray::s![.., tokens.clone(), ..])
                .to_owned(),
            all.weights().clone(),
            1000,
        );
        let some = some.unwrap().with_activation(all.activation());
        let found = stages(&some, 3, 2).output;
        let expected = expected.slice(ndarray::s![.., tokens.clone(), ..]);
        assert_eq!(
            found.mapv(bf16::to_bits),
            expected.mapv(bf16::to_bits),
            "tokens {tokens:?}"
        );
    }
}

fn nan_and_infinity_stay_in_the_rows_that_use_them() {
    for value in [bf16::NAN, bf16::INFINITY, bf16::NEG_INFINITY] {
        for (place, problem) in with_value(&problem_bf16([30, 24, 16, 3, 2, 25], 9), value)
            .iter()
            .enumerate()
        {
            check(problem, 1, &format!("{value} in place {place}"));
        }
    }
}

fn the_activation_follows_its_parameters() {
    for (alpha, limit) in ACTIVATIONS {
        let problem = problem_bf16([20, 8, 8, 3, 2, 30], 4).with_activation(Activation { alpha, limit });
        check(&problem, 1, &format!("alpha {alpha}, limit {limit}"));
    }
}

fn the_weights_are_kept_packed_alone() {
    let problem = problem_bf16([3, 72, 40, 2, 1, 3], 1);
    let pipeline = Pipeline::new(problem.weights().clone(), emulator(0)).unwrap();
    // One tile of 192 lines for each product, and its biases; two and one k-blocks.
    assert_eq!(pipeline.packed_bytes(), 2 * 192 * (3 * 128 + 2 * 4));
}
