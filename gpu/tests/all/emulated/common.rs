//! Problems, and the comparison of what a pipeline computed with the reference.

use std::sync::Arc;

use binned_experts_gpu::{Emulator, PORTABLE_FP32, Pipeline, Schedule, Stages};
use binned_experts_reference::{Activation, Dims, ExpertWeights, Problem, binned_experts_ref};
use ndarray::{Array2, Array3, ArrayView, Dimension};

/// A pipeline of the portable path on the emulator.
pub(super) fn pipeline(problem: &Problem<f32>, seed: u64) -> Pipeline<Emulator> {
    Pipeline::with_path(problem.weights().clone(), emulator(seed), &PORTABLE_FP32).unwrap()
}

/// The emulator under a schedule.
pub(super) fn emulator(seed: u64) -> Emulator {
    let schedule = Schedule {
        seed,
        ..Schedule::default()
    };
    Emulator::with_schedule(schedule).unwrap()
}

/// Numbers that look random and depend on nothing but the seed.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In -1..1.
    pub(super) fn signed(&mut self) -> f32 {
        (self.next() % 20_001) as f32 / 10_000.0 - 1.0
    }
}

pub(super) fn weights(dims: Dims, numbers: &mut Numbers) -> Arc<ExpertWeights<f32>> {
    let (hidden, inner, experts) = (dims.hidden, dims.intermediate, dims.experts);
    let scale = 3.0 / (hidden.max(1) as f32).sqrt();
    let weights = ExpertWeights::new(
        Array3::from_shape_fn((experts, hidden, 2 * inner), |_| numbers.signed() * scale),
        Array2::from_shape_fn((experts, 2 * inner), |_| numbers.signed() * 4.0),
        Array3::from_shape_fn((experts, inner, hidden), |_| numbers.signed()),
        Array2::from_shape_fn((experts, hidden), |_| numbers.signed()),
    );
    Arc::new(weights.unwrap())
}

/// A problem over given weights with random tokens and routing; the limit is small enough that both clamps are reached.
pub(super) fn problem_with(dims: Dims, weights: Arc<ExpertWeights<f32>>, numbers: &mut Numbers) -> Problem<f32> {
    let Dims { tokens, experts, .. } = dims;
    Problem::new(
        Array3::from_shape_fn((1, tokens, dims.hidden), |_| numbers.signed()),
        Array2::from_shape_fn((tokens, dims.top_k), |_| numbers.below(experts) as i64),
        Array3::from_shape_fn((1, tokens, experts), |_| numbers.signed()),
        weights,
        dims.capacity,
    )
    .unwrap()
    .with_activation(Activation {
        alpha: 1.702,
        limit: 2.0,
    })
}

/// A problem of the given sizes in the order T, H, I, E, K, C.
pub(super) fn problem([tokens, hidden, intermediate, experts, top_k, capacity]: [usize; 6], seed: u64) -> Problem<f32> {
    let dims = Dims {
        tokens,
        hidden,
        intermediate,
        experts,
        top_k,
        capacity,
    };
    let mut numbers = Numbers::new(seed + 1);
    let weights = weights(dims, &mut numbers);
    problem_with(dims, weights, &mut numbers)
}

/// Every stage against the reference: integers exactly, floats by [`expect_close`].
pub(super) fn expect_stages(problem: &Problem<f32>, stages: &Stages, what: &str) {
    let trace = binned_experts_ref(problem).unwrap();
    let (bins, capacity) = (problem.bins(), problem.capacity());
    let narrow = |values: &[usize]| values.iter().map(|&value| value as i32).collect::<Vec<_>>();
    let kept: Vec<usize> = (0..bins.experts())
        .flat_map(|expert| bins.kept(expert, capacity).to_vec())
        .collect();
    let mut row_of = vec![-1; bins.assignments()];
    for (row, &assignment) in kept.iter().enumerate() {
        row_of[assignment] = row as i32;
    }
    assert_eq!(stages.sorted_indices, narrow(bins.sorted_indices()), "{what}");
    assert_eq!(stages.bins, narrow(bins.ends()), "{what}");
    assert_eq!(stages.assignment_of, narrow(&kept), "{what}");
    assert_eq!(stages.row_of, row_of, "{what}");
    let hidden = problem.dims().hidden as f32;
    let inner = problem.dims().intermediate as f32;
    expect_close(stages.gate_up.view(), trace.gate_up.rows().view(), hidden, what);
    expect_close(stages.activated.view(), trace.activated.rows().view(), hidden, what);
    expect_close(
        stages.expert_output.view(),
        trace.expert_output.rows().view(),
        hidden + inner,
        what,
    );
    expect_close(stages.output.view(), trace.output.view(), hidden + inner, what);
}

/// The same shape, NaN and infinities at the same places, and finite values within a tolerance that suits sums of
/// `terms` products of values near 1.
pub(super) fn expect_close<D: Dimension>(
    found: ArrayView<'_, f32, D>,
    expected: ArrayView<'_, f32, D>,
    terms: f32,
    what: &str,
) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let tolerance = 2e-6 * (terms + 16.0).sqrt() * 4.0;
    for (position, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        let equal = found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan());
        let close = (found - expected).abs() <= tolerance * (1.0 + expected.abs());
        assert!(
            equal || close,
            "{what}: element {position}: expected {expected}, found {found}"
        );
    }
}

pub(super) fn the_comparison_refuses_nan() {
    let expected: Array2<f32> = Array2::ones((1, 2));
    let mut found = expected.clone();
    found[[0, 1]] = f32::NAN;
    let refused = std::panic::catch_unwind(|| expect_close(found.view(), expected.view(), 1.0, "NaN"));
    let message = refused.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("element 1"), "{message}");
}

pub(super) fn bits(stages: &Stages) -> Vec<u32> {
    let floats = [&stages.gate_up, &stages.activated, &stages.expert_output];
    let integers = [
        &stages.sorted_indices,
        &stages.bins,
        &stages.row_of,
        &stages.assignment_of,
    ];
    let floats = floats
        .into_iter()
        .flatten()
        .chain(&stages.output)
        .map(|value| value.to_bits());
    let integers = integers.into_iter().flatten().map(|&value| value as u32);
    floats.chain(integers).collect()
}
