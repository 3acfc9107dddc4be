//! The pipeline on the emulator, judged by the derived bounds.

use std::panic::catch_unwind;
use std::sync::Arc;

use binned_experts_gpu::{GpuError, POISONS, Schedule, Stages};
use binned_experts_reference::{Activation, ExpertWeights, Problem};
use ndarray::{Array2, Array3, Axis};

use super::common::{ACTIVATIONS, Numbers, bits, expect_stages, pipeline, problem, with_value, with_weights};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(sizes_around_the_edges_of_tiles),
        test(experts_that_end_at_the_edges_of_row_tiles),
        test(routing_across_tiles_of_assignments),
        test(experts_past_one_block_of_the_scan),
        test(empty_and_extreme_sizes),
        test(an_explicit_order_takes_the_place_of_the_stable_one),
        test(every_schedule_gives_the_same_bits),
        test(one_workspace_serves_large_and_small_problems),
        test(a_wrong_stage_is_refused),
        test(pipelines_side_by_side_do_not_disturb_each_other),
        test(a_pipeline_is_usable_after_an_error),
        test(nan_and_infinity_stay_in_the_rows_that_use_them),
        test(the_activation_follows_its_parameters),
        test(tensors_may_have_any_layout),
    ]
}

/// Runs a problem with all stages and compares each.
fn check(problem: &Problem<f32>, seed: u64, what: &str) {
    let mut pipeline = pipeline(problem, seed);
    let stages = pipeline.forward_with_stages(problem).unwrap();
    expect_stages(problem, &stages, what);
    let output = pipeline.forward(problem).unwrap();
    assert_eq!(
        output.map(|value| value.to_bits()),
        stages.output.map(|value| value.to_bits()),
        "{what}"
    );
}

fn sizes_around_the_edges_of_tiles() {
    let edges = [1, 3, 15, 16, 17, 63, 64, 65];
    let mut numbers = Numbers(11);
    for case in 0..60 {
        let mut edge = || edges[numbers.below(edges.len())];
        let (tokens, hidden, intermediate) = (edge(), edge(), edge());
        let (experts, top_k) = (1 + numbers.below(6), 1 + numbers.below(4));
        let capacity = [1, 2, 63, 64, 65, 1000][numbers.below(6)];
        let sizes = [tokens, hidden, intermediate, experts, top_k, capacity];
        check(&problem(sizes, case), case, &format!("sizes {sizes:?}"));
    }
}

fn experts_that_end_at_the_edges_of_row_tiles() {
    for count in [63, 64, 65, 127, 128, 129] {
        for capacity in [count - 1, count, count + 1] {
            let sizes = [2 * count, 5, 3, 3, 1, capacity];
            let random = problem(sizes, count as u64);
            let ids = Array2::from_shape_fn((2 * count, 1), |(token, _)| if token % 2 == 0 { 2 } else { 0 });
            let problem = Problem::new(
                random.hidden_states().clone(),
                ids,
                random.routing_weights().clone(),
                random.weights().clone(),
                capacity,
            );
            check(&problem.unwrap(), 1, &format!("sizes {sizes:?}"));
        }
    }
}

fn routing_across_tiles_of_assignments() {
    for assignments in [255, 256, 257, 1023, 1024, 1025, 3000] {
        for (experts, capacity) in [(1, 7), (5, 100), (40, usize::MAX)] {
            let sizes = [assignments, 1, 1, experts, 1, capacity];
            check(&problem(sizes, assignments as u64), 2, &format!("sizes {sizes:?}"));
        }
    }
}

fn experts_past_one_block_of_the_scan() {
    for experts in [255, 256, 257, 1025, 3000] {
        let sizes = [40, 3, 2, experts, 3, 2];
        check(&problem(sizes, experts as u64), 3, &format!("sizes {sizes:?}"));
    }
}

fn empty_and_extreme_sizes() {
    for sizes in [
        [0, 4, 3, 2, 2, 5],
        [0, 0, 0, 3, 1, 0],
        [0, 4, 3, 0, 2, 5],
        [5, 4, 3, 2, 2, 0],
        [5, 0, 3, 2, 2, 4],
        [5, 4, 0, 2, 2, 4],
        [5, 0, 0, 2, 2, 4],
        [5, 4, 3, 2, 2, 65_536],
        [5, 4, 3, 2, 2, 1 << 31],
        [5, 4, 3, 2, 2, usize::MAX],
        [6, 4, 3, 20, 9, 3],
        [6, 4, 3, 20, 20, 3],
        [3, 4, 3, 2, 70, 60],
        [2, 200, 3, 2, 1, 2],
        [2, 3, 200, 2, 1, 2],
        [1, 1, 1, 1, 1, 1],
    ] {
        check(&problem(sizes, 7), 4, &format!("sizes {sizes:?}"));
    }
}

fn an_explicit_order_takes_the_place_of_the_stable_one() {
    let mut numbers = Numbers(5);
    for case in 0..12 {
        let problem = problem([70 + 30 * case, 3, 2, 1 + case % 5, 2, 20], case as u64);
        let bins = problem.bins();
        let mut order = bins.sorted_indices().to_vec();
        for expert in 0..bins.experts() {
            let range = bins.range(expert);
            for position in range.clone() {
                order.swap(position, range.start + numbers.below(range.len()));
            }
        }
        let problem = problem.with_order(order).unwrap();
        assert!(problem.explicit_order().is_some());
        check(&problem, case as u64, &format!("case {case}"));
    }
}

fn every_schedule_gives_the_same_bits() {
    let problem = problem([90, 20, 9, 5, 3, 40], 1);
    let mut pipeline = pipeline(&problem, 0);
    let expected = pipeline.forward_with_stages(&problem).unwrap();
    expect_stages(&problem, &expected, "seed 0");
    for seed in 1..12 {
        pipeline.machine_mut().set_schedule(Schedule {
            seed,
            resident_blocks: seed as u32 % 4,
            access_interval: if seed % 3 == 0 { 50 } else { 0 },
            poison: POISONS[seed as usize % 3],
        });
        let found = pipeline.forward_with_stages(&problem).unwrap();
        assert!(bits(&found) == bits(&expected), "seed {seed}");
    }
}

fn one_workspace_serves_large_and_small_problems() {
    let first = problem([200, 9, 5, 4, 2, 150], 3);
    let others = [(3, 2, 1), (0, 1, 1), (30, 9, 9), (200, 1, 0), (7, 2, 150)];
    let others = others.map(|(tokens, top_k, capacity)| {
        with_weights(&problem([tokens, 9, 5, 4, top_k, capacity], 4), first.weights().clone())
    });
    let mut pipeline = pipeline(&first, 1);
    for (index, problem) in std::iter::once(&first).chain(&others).enumerate() {
        let stages = pipeline.forward_with_stages(problem).unwrap();
        expect_stages(problem, &stages, &format!("problem {index}"));
    }
}

/// One value changed in any stage is seen.
fn a_wrong_stage_is_refused() {
    let problem = problem([20, 8, 6, 3, 2, 20], 1);
    let right = pipeline(&problem, 1).forward_with_stages(&problem).unwrap();
    let changes: [fn(&mut Stages); 8] = [
        |stages| stages.sorted_indices.as_mut().unwrap().swap(0, 1),
        |stages| stages.bins.as_mut().unwrap()[0] += 1,
        |stages| stages.row_of[0] += 1,
        |stages| stages.assignment_of.as_mut().unwrap().swap(0, 1),
        |stages| stages.gate_up.as_mut().unwrap()[[0, 0]] += 0.01,
        |stages| stages.activated[[1, 1]] = f32::NAN,
        |stages| stages.expert_output[[2, 2]] -= 0.01,
        |stages| stages.output[[0, 3, 3]] = f32::NAN,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut wrong = right.clone();
        change(&mut wrong);
        let refused = catch_unwind(|| expect_stages(&problem, &wrong, "changed"));
        assert!(refused.is_err(), "change {index} was not seen");
    }
}

fn pipelines_side_by_side_do_not_disturb_each_other() {
    let problems = [problem([40, 9, 5, 3, 2, 20], 1), problem([60, 5, 9, 6, 1, 5], 2)];
    let (mut first, mut second) = (pipeline(&problems[0], 1), pipeline(&problems[1], 2));
    for _ in 0..3 {
        expect_stages(&problems[0], &first.forward_with_stages(&problems[0]).unwrap(), "first");
        expect_stages(
            &problems[1],
            &second.forward_with_stages(&problems[1]).unwrap(),
            "second",
        );
    }
    std::thread::scope(|scope| {
        for (index, problem) in problems.iter().enumerate() {
            scope.spawn(move || (0..3).for_each(|seed| check(problem, seed, &format!("thread {index}"))));
        }
    });
}

fn a_pipeline_is_usable_after_an_error() {
    let (own, other) = (problem([20, 4, 3, 2, 2, 9], 1), problem([20, 4, 3, 2, 2, 9], 2));
    let mut pipeline = pipeline(&own, 1);
    let expected = pipeline.forward(&own).unwrap();
    assert_eq!(pipeline.forward(&other), Err(GpuError::OtherWeights));
    assert_eq!(pipeline.forward(&own).unwrap(), expected);
}

fn nan_and_infinity_stay_in_the_rows_that_use_them() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for (place, problem) in with_value(&problem([70, 20, 6, 3, 2, 60], 9), value).iter().enumerate() {
            check(problem, 1, &format!("{value} in place {place}"));
        }
    }
}

fn the_activation_follows_its_parameters() {
    for (alpha, limit) in ACTIVATIONS {
        let problem = problem([30, 8, 6, 3, 2, 30], 4).with_activation(Activation { alpha, limit });
        check(&problem, 1, &format!("alpha {alpha}, limit {limit}"));
    }
}

fn tensors_may_have_any_layout() {
    let plain = problem([30, 8, 6, 3, 2, 30], 4);
    let transposed = |tensor: &Array3<f32>| {
        let mut tensor = tensor.clone();
        tensor.swap_axes(1, 2);
        let mut tensor = tensor.as_standard_layout().into_owned();
        tensor.swap_axes(1, 2);
        tensor
    };
    let mut ids = plain.router_indices().to_owned();
    ids.invert_axis(Axis(0));
    let mut ids = ids.as_standard_layout().into_owned();
    ids.invert_axis(Axis(0));
    let weights = ExpertWeights::new(
        transposed(plain.weights().gate_up_proj()),
        plain.weights().gate_up_proj_bias().clone(),
        transposed(plain.weights().down_proj()),
        plain.weights().down_proj_bias().clone(),
    );
    let problem = Problem::new(
        transposed(plain.hidden_states()),
        ids,
        transposed(plain.routing_weights()),
        Arc::new(weights.unwrap()),
        30,
    );
    check(&problem.unwrap(), 1, "transposed");
}
