//! Problems from the generator of `binned-experts-check`, and its judgement of what a pipeline computed.

use std::sync::Arc;

use binned_experts_check::case::{Routing, RoutingProfile, ValueProfile, WeightProfile};
use binned_experts_check::draw::mix;
use binned_experts_check::judge::{Trial, compare};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{AnyProblem, CaseSpec, ElementType, Outcome, Precision, Stage, Verdict};
use binned_experts_gpu::{Emulator, Pipeline, Schedule, Stages};
use binned_experts_reference::{ExpertWeights, Problem};

/// A pipeline on the emulator.
pub(super) fn pipeline(problem: &Problem<f32>, seed: u64) -> Pipeline<Emulator> {
    Pipeline::new(problem.weights().clone(), emulator(seed)).unwrap()
}

/// The emulator under a schedule.
pub(super) fn emulator(seed: u64) -> Emulator {
    let schedule = Schedule {
        seed,
        ..Schedule::default()
    };
    Emulator::with_schedule(schedule).unwrap()
}

/// Numbers that look random and depend on nothing but where they start.
pub(super) struct Numbers(pub(super) u64);

impl Numbers {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 += 1;
        (mix(self.0) % bound as u64) as usize
    }
}

/// A problem of the given sizes in the order T, H, I, E, K, C; the limit is small enough that both clamps are reached.
pub(super) fn problem([tokens, hidden, intermediate, experts, top_k, capacity]: [usize; 6], seed: u64) -> Problem<f32> {
    let spec = CaseSpec {
        element: ElementType::F32,
        batch: 1,
        sequence: tokens,
        hidden,
        intermediate,
        experts,
        top_k,
        capacity,
        alpha: 1.702,
        limit: 2.0,
        seed: seed as u32,
        routing: Routing::Profile(RoutingProfile::Uniform),
        distinct: false,
        values: ValueProfile::Gentle,
        weights: WeightProfile::Negative,
        special: None,
        warmup: None,
        order: None,
        larger: None,
    };
    match spec.build().unwrap() {
        AnyProblem::F32(problem) => problem,
        other => panic!("expected f32, found {}", other.element()),
    }
}

/// The same tokens and routing with other weights.
pub(super) fn with_weights(problem: &Problem<f32>, weights: Arc<ExpertWeights<f32>>) -> Problem<f32> {
    Problem::new(
        problem.hidden_states().clone(),
        problem.router_indices().to_owned(),
        problem.routing_weights().clone(),
        weights,
        problem.capacity(),
    )
    .unwrap()
    .with_activation(problem.activation())
}

/// Every stage within its bound, integers exactly.
pub(super) fn expect_stages(problem: &Problem<f32>, found: &Stages, what: &str) {
    let trial = Trial::from_problem(AnyProblem::F32(problem.clone()), &[Precision::Fp32]);
    let bounds = trial.bounds(Precision::Fp32).expect("prepared for this precision");
    let positions = |indices: &[i32]| indices.iter().map(|&index| index as usize).collect::<Vec<_>>();
    let outcome = Outcome {
        output: found.output.clone().into(),
        stages: binned_experts_check::Stages::default()
            .with(Stage::SortedIndices, positions(&found.sorted_indices))
            .with(Stage::Bins, positions(&found.bins))
            .with(Stage::GateUp, found.gate_up.mapv(f64::from))
            .with(Stage::Activated, found.activated.mapv(f64::from))
            .with(Stage::ExpertOutput, found.expert_output.mapv(f64::from)),
    };
    let verdict = compare(trial.expected(), bounds, &outcome);
    assert!(
        matches!(verdict, Verdict::Agree { .. }),
        "{what}: {}",
        verdict_text(&verdict)
    );

    // These two are no stages of the function.
    let bins = problem.bins();
    let kept = (0..bins.experts()).flat_map(|expert| bins.kept(expert, problem.capacity()));
    let kept: Vec<i32> = kept.map(|&assignment| assignment as i32).collect();
    let mut row_of = vec![-1; bins.assignments()];
    for (row, &assignment) in kept.iter().enumerate() {
        row_of[assignment as usize] = row as i32;
    }
    assert_eq!(found.assignment_of, kept, "{what}");
    assert_eq!(found.row_of, row_of, "{what}");
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
