//! Problems from the generator of `binned-experts-check`, and its judgement of what a pipeline computed.

use std::sync::Arc;

use binned_experts_check::case::{CaseViews, LayerSpec, Routing, RoutingProfile, ValueProfile, WeightProfile};
use binned_experts_check::draw::mix;
use binned_experts_check::judge::{Trial, compare};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{AnyProblem, CaseElement, CaseSpec, ElementType, Outcome, Precision, Stage, Verdict};
use binned_experts_gpu::{Emulator, Pipeline, Schedule, Stages};
use binned_experts_reference::{Element, ExpertWeights, Problem};
use half::bf16;

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
pub(super) fn problem(sizes: [usize; 6], seed: u64) -> Problem<f32> {
    match problem_of(ElementType::F32, sizes, seed) {
        AnyProblem::F32(problem) => problem,
        other => panic!("expected f32, found {}", other.element()),
    }
}

/// As [`problem`], in bf16.
pub(super) fn problem_bf16(sizes: [usize; 6], seed: u64) -> Problem<bf16> {
    match problem_of(ElementType::Bf16, sizes, seed) {
        AnyProblem::Bf16(problem) => problem,
        other => panic!("expected bf16, found {}", other.element()),
    }
}

fn problem_of(
    element: ElementType,
    [tokens, hidden, intermediate, experts, top_k, capacity]: [usize; 6],
    seed: u64,
) -> AnyProblem {
    let spec = CaseSpec {
        element,
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
        against: None,
        warmup: None,
        order: None,
        larger: None,
        layer: LayerSpec::default(),
        foreign: None,
        views: CaseViews::new(),
        sampled: false,
    };
    spec.build().unwrap()
}

/// The same tokens and routing with other weights.
pub(super) fn with_weights<T: Element>(problem: &Problem<T>, weights: Arc<ExpertWeights<T>>) -> Problem<T> {
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

/// Alpha and limit. For some of them the activation of zeros, such as those in the padding of a tile, is not zero.
pub(super) const ACTIVATIONS: [(f64, f64); 6] = [
    (1.702, 7.0),
    (0.5, 0.25),
    (1.0, f64::INFINITY),
    (1.702, f64::NAN),
    (f64::INFINITY, 7.0),
    (1.0, -1.0),
];

/// The problem with a value in two tokens, in a weight, and in both. It has at least 2 experts and 4 tokens, and 5 hidden
/// features.
pub(super) fn with_value<T: Element>(problem: &Problem<T>, value: T) -> [Problem<T>; 3] {
    let [mut tokens, plain_tokens] = [(); 2].map(|()| problem.hidden_states().clone());
    let last = tokens.dim().1 - 1;
    tokens[[0, 3, 4]] = value;
    tokens[[0, last, 0]] = value;
    let weights = problem.weights();
    let mut gate_up_proj = weights.gate_up_proj().clone();
    gate_up_proj[[1, 0, 5]] = value;
    let changed = ExpertWeights::new(
        gate_up_proj,
        weights.gate_up_proj_bias().clone(),
        weights.down_proj().clone(),
        weights.down_proj_bias().clone(),
    );
    let changed = Arc::new(changed.unwrap());
    [
        (tokens.clone(), weights.clone()),
        (plain_tokens, changed.clone()),
        (tokens, changed),
    ]
    .map(|(tokens, weights)| {
        let routing = problem.router_indices().to_owned();
        let problem_with = Problem::new(
            tokens,
            routing,
            problem.routing_weights().clone(),
            weights,
            problem.capacity(),
        );
        problem_with.unwrap().with_activation(problem.activation())
    })
}

/// Every stage within its bound, integers exactly.
pub(super) fn expect_stages<T: CaseElement>(problem: &Problem<T>, found: &Stages<T>, what: &str) {
    let precision = Precision::of(T::TYPE);
    let trial = Trial::from_problem(T::problem(problem.clone()), &[precision]);
    let bounds = trial.bounds(precision).expect("prepared for this precision");
    let positions = |indices: &Vec<i32>| indices.iter().map(|&index| index as usize).collect::<Vec<_>>();
    let mut stages = binned_experts_check::Stages::default()
        .with(Stage::Activated, found.activated.mapv(f64::from))
        .with(Stage::ExpertOutput, found.expert_output.mapv(f64::from));
    if let Some(sorted_indices) = &found.sorted_indices {
        stages = stages.with(Stage::SortedIndices, positions(sorted_indices));
    }
    if let Some(bins) = &found.bins {
        stages = stages.with(Stage::Bins, positions(bins));
    }
    if let Some(gate_up) = &found.gate_up {
        stages = stages.with(Stage::GateUp, gate_up.mapv(f64::from));
    }
    let outcome = Outcome {
        output: found.output.clone().into(),
        stages,
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
    if let Some(assignment_of) = &found.assignment_of {
        assert_eq!(assignment_of, &kept, "{what}");
    }
    assert_eq!(found.row_of, row_of, "{what}");
}

pub(super) fn bits<T: CaseElement>(stages: &Stages<T>) -> Vec<u64> {
    let floats = [
        stages.gate_up.as_ref(),
        Some(&stages.activated),
        Some(&stages.expert_output),
    ];
    let integers = [
        stages.sorted_indices.as_ref(),
        stages.bins.as_ref(),
        Some(&stages.row_of),
        stages.assignment_of.as_ref(),
    ];
    let floats = floats
        .into_iter()
        .flatten()
        .flatten()
        .map(|value| u64::from(value.to_bits()));
    let output = stages.output.iter().map(|value| value.to_f64().to_bits());
    let integers = integers.into_iter().flatten().flatten().map(|&value| value as u64);
    floats.chain(output).chain(integers).collect()
}
