//! How much of each profile of values the tensor cores take: a row that cannot be split goes to the fallback kernels.

use binned_experts_check::case::{SizeProfile, ValueProfile};
use binned_experts_check::{AnyProblem, CaseSpec, ElementType, Selection};
use binned_experts_gpu::{Emulator, Pipeline};
use binned_experts_reference::{ActivationKind, Layer};
use libtest_mimic::Trial;

use crate::needs;
use crate::trials::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = needs::compiler();
    vec![
        trial(&[&compiler], the_tensor_cores_take_the_rows_that_they_should),
        trial(&[&compiler], silu_needs_a_limit_for_its_bound),
    ]
}

/// Cases of a profile.
const SEEDS: u64 = 100;

/// Of the cases of a profile.
#[derive(Debug, Default)]
struct Taken {
    cases: usize,
    rows: usize,
    fallback: usize,
}

/// Runs the cases of a profile whose sizes the tensor cores take.
fn taken(values: ValueProfile) -> Taken {
    let selection = Selection {
        elements: vec![ElementType::F32],
        sizes: vec![SizeProfile::TileEdges],
        values: vec![values],
        work: 1 << 20,
        ..Selection::default()
    };
    let mut pipeline: Option<Pipeline<Emulator>> = None;
    let mut machine = Some(Emulator::new().unwrap());
    let mut taken = Taken::default();
    for seed in 0..SEEDS {
        // Special values are another axis, and so are limits so high that only the norms bound the activations.
        let spec = CaseSpec::from_seed(seed, &selection);
        let high = spec.limit >= 1e4 && values != ValueProfile::HugeGates;
        let spec = CaseSpec {
            special: None,
            against: None,
            limit: if high { 7.0 } else { spec.limit },
            ..spec
        };
        let AnyProblem::F32(problem) = spec.build().unwrap() else {
            panic!("the selection asks for f32")
        };
        let weights = problem.weights().clone();
        let pipeline = match (&mut pipeline, machine.take()) {
            (Some(pipeline), _) => {
                pipeline.load_weights(weights).unwrap();
                pipeline
            }
            (none, machine) => none.insert(Pipeline::new(weights, machine.unwrap()).unwrap()),
        };
        let stages = pipeline.forward_with_stages(&problem).unwrap();
        if let Some(fallback) = stages.fallback_rows {
            taken.cases += 1;
            taken.rows += stages.activated.nrows();
            taken.fallback += fallback;
        }
    }
    taken
}

fn the_tensor_cores_take_the_rows_that_they_should() {
    for values in ValueProfile::ALL {
        let taken = taken(*values);
        let share = taken.fallback as f64 / taken.rows as f64;
        let found = format!("{values:?}: {taken:?}, {share:.3} of the rows fall back");
        println!("{found}");
        assert!(taken.cases >= 20, "{found}");
        let expected = match values {
            ValueProfile::PureBias => 0.0..=0.0,
            // A few rows of small activations, in shallow cases.
            ValueProfile::Gentle | ValueProfile::Cancelling => 0.0..=0.02,
            // One token in 32 is beyond 2^62.
            ValueProfile::Outliers => 0.02..=0.05,
            // Biases of one size and products of another.
            ValueProfile::LargeBias => 0.0..=0.02,
            // No activation but 0, of tokens and weights that are mostly zero.
            ValueProfile::Exact => 1.0..=1.0,
            // Gates far below zero leave no activation.
            ValueProfile::Clamping => 0.01..=0.4,
            // Weights that are mostly zero, or that span 2^±60.
            ValueProfile::Provenance | ValueProfile::SmallIntegers | ValueProfile::WideRange => 0.5..=1.0,
            // Scales beyond 2^±62.
            ValueProfile::OppositeScales | ValueProfile::LostSquares => 1.0..=1.0,
            // Activations that would be lost beside their bound.
            ValueProfile::LowGates => 0.9..=1.0,
            // Only the lowest limit leaves a bound.
            ValueProfile::HugeGates => 0.4..=0.9,
        };
        assert!(expected.contains(&share), "{found}: expected {expected:?}");
    }
}

/// Without a limit the norms alone bound the activations of SiLU.
fn silu_needs_a_limit_for_its_bound() {
    const ROWS: usize = 32;
    let selection = Selection {
        elements: vec![ElementType::F32],
        values: vec![ValueProfile::Gentle],
        ..Selection::default()
    };
    let spec = CaseSpec {
        batch: 1,
        sequence: ROWS,
        hidden: 512,
        intermediate: 64,
        experts: 1,
        top_k: 1,
        capacity: ROWS,
        limit: 7.0,
        special: None,
        against: None,
        warmup: None,
        larger: None,
        order: None,
        ..CaseSpec::from_seed(0, &selection)
    };
    let AnyProblem::F32(problem) = spec.build().unwrap() else {
        panic!("the selection asks for f32")
    };
    let mut pipeline = Pipeline::new(problem.weights().clone(), Emulator::new().unwrap()).unwrap();
    for (activation, expected) in [
        (ActivationKind::ClampedSwiglu, 0),
        (ActivationKind::ClampedSilu, 0),
        (ActivationKind::Silu, ROWS),
    ] {
        let layer = Layer {
            activation,
            ..Layer::GPT_OSS
        };
        let problem = problem.clone().with_layer(layer).unwrap();
        let stages = pipeline.forward_with_stages(&problem).unwrap();
        assert_eq!(stages.fallback_rows, Some(expected), "{activation}");
    }
}
