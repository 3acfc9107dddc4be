//! The bounds accept every honest way to compute and refuse a coarser class.

mod common;

use binned_experts::case::{Profile, ValueProfile};
use binned_experts::engine::Reference;
use binned_experts::judge::judge_spec;
use binned_experts::{CaseSpec, CheckPlan, Class, Selection, Verdict, check_engine};
use common::{Loops, Order, bf16, tf32};

/// Values that strain the derivation.
const STRAINED: [ValueProfile; 7] = [
    ValueProfile::WideRange,
    ValueProfile::Cancelling,
    ValueProfile::OppositeScales,
    ValueProfile::HugeGates,
    ValueProfile::LowGates,
    ValueProfile::Outliers,
    ValueProfile::LostSquares,
];

fn all_cases(cases: usize, profile: ValueProfile) -> CheckPlan {
    CheckPlan {
        cases,
        selection: Selection {
            profiles: vec![Profile::Values(profile)],
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}

fn f32_cases(cases: usize, profiles: &[ValueProfile]) -> CheckPlan {
    let profiles = profiles.iter().copied().map(Profile::Values).collect();
    let elements = vec![binned_experts::ElementType::F32];
    CheckPlan {
        cases,
        selection: Selection {
            elements,
            profiles,
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}

#[test]
fn every_order_of_summation_agrees() {
    for order in [Order::Forward, Order::Backward, Order::Pairwise, Order::Blocked] {
        let mut engine = Loops { order, ..Loops::FP32 };
        let summary = check_engine(&mut engine, &f32_cases(400, &[]));
        summary.assert_agrees();
    }
}

#[test]
fn coarser_operands_agree_in_their_own_class() {
    for (class, operand) in [(Class::Tf32, tf32 as fn(f32) -> f32), (Class::Bf16, bf16)] {
        let mut engine = Loops {
            class,
            operand,
            ..Loops::FP32
        };
        check_engine(&mut engine, &f32_cases(400, &[])).assert_agrees();
    }
}

#[test]
fn the_reference_agrees_on_strained_values() {
    for profile in STRAINED {
        check_engine(&mut Reference, &all_cases(400, profile)).assert_agrees();
    }
}

#[test]
fn every_order_of_summation_agrees_on_strained_values() {
    for profile in STRAINED {
        for order in [Order::Forward, Order::Backward, Order::Pairwise, Order::Blocked] {
            let mut engine = Loops { order, ..Loops::FP32 };
            check_engine(&mut engine, &f32_cases(150, &[profile])).assert_agrees();
        }
    }
}

#[test]
fn coarser_operands_agree_in_their_own_class_on_strained_values() {
    for profile in STRAINED {
        for (class, operand) in [(Class::Tf32, tf32 as fn(f32) -> f32), (Class::Bf16, bf16)] {
            let mut engine = Loops {
                class,
                operand,
                ..Loops::FP32
            };
            check_engine(&mut engine, &f32_cases(150, &[profile])).assert_agrees();
        }
    }
}

/// Cases on which a class is meant to be told from a coarser one.
fn gentle_cases(least_hidden: usize, wanted: usize) -> Vec<CaseSpec> {
    let selection = Selection {
        orders: false,
        ..f32_cases(0, &[ValueProfile::Gentle]).selection
    };
    let fits = |spec: &CaseSpec| {
        spec.hidden >= least_hidden && spec.tokens() > 0 && spec.capacity > 0 && spec.special.is_none()
    };
    (0..)
        .map(|seed| CaseSpec::from_seed(seed, &selection))
        .filter(fits)
        .take(wanted)
        .collect()
}

#[test]
fn operands_rounded_to_tf32_are_refused_in_the_fp32_class() {
    let cases = gentle_cases(64, 200);
    for operand in [tf32 as fn(f32) -> f32, bf16] {
        let mut engine = Loops { operand, ..Loops::FP32 };
        let refused = |spec: &&CaseSpec| matches!(judge_spec(&mut engine, spec), Some(Verdict::Disagree(_)));
        let refused = cases.iter().filter(refused).count();
        assert!(refused >= 190, "refused on {refused} of 200 gentle cases with H ≥ 64");
    }
}

#[test]
fn operands_rounded_to_bf16_are_refused_in_the_tf32_class() {
    let cases = gentle_cases(64, 100);
    let mut engine = Loops {
        class: Class::Tf32,
        operand: bf16,
        ..Loops::FP32
    };
    let refused = |spec: &&CaseSpec| matches!(judge_spec(&mut engine, spec), Some(Verdict::Disagree(_)));
    let refused = cases.iter().filter(refused).count();
    assert!(refused >= 10, "refused on {refused} of 100 gentle cases with H ≥ 64");
}
