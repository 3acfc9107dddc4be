//! The bounds accept every honest way to compute and refuse a coarser class.

use crate::common::{Loops, Order, bf16, cut_to_tf32, tf32};
use std::ops::ControlFlow;

use binned_experts_check::case::{Profile, SizeProfile, ValueProfile, WeightProfile};
use binned_experts_check::check::{CaseResult, Contender, check};
use binned_experts_check::engine::Reference;
use binned_experts_check::judge::judge_spec;
use binned_experts_check::{CaseSpec, CheckPlan, Domain, ElementType, Precision, Selection, Verdict, check_engine};
use rayon::prelude::*;

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
        selection: Selection::default().with_profiles([Profile::Values(profile)]),
        ..CheckPlan::default()
    }
}

fn f32_cases(cases: usize, profiles: &[ValueProfile]) -> CheckPlan {
    CheckPlan {
        cases,
        selection: Selection {
            elements: vec![ElementType::F32],
            values: profiles.to_vec(),
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}

/// Sums in every order, and operands rounded more coarsely by engines that say so. One run prepares each case once for
/// all of them.
fn honest() -> Vec<Loops> {
    let orders = [Order::Forward, Order::Backward, Order::Pairwise, Order::Blocked];
    let orders = orders.map(|order| Loops { order, ..Loops::FP32 });
    let coarser = [(Precision::TF32, tf32 as fn(f32) -> f32), (Precision::BF16, bf16)];
    let coarser = coarser.map(|(precision, operand)| Loops {
        precision,
        operand,
        ..Loops::FP32
    });
    orders.into_iter().chain(coarser).collect()
}

fn all_agree(engines: &mut [Loops], plan: &CheckPlan) {
    let mut contenders: Vec<Contender<'_>> = engines.iter_mut().map(|engine| Contender::single(engine)).collect();
    let summary = check(&mut contenders, plan, &mut |_: &CaseResult| ControlFlow::Continue(()));
    summary.unwrap().assert_agrees();
}

#[test]
fn every_order_and_every_precision_agrees() {
    all_agree(&mut honest(), &f32_cases(80, &[]));
}

#[test]
fn every_order_and_every_precision_agrees_on_strained_values() {
    // Side by side: on one thread this would end long after every other test.
    let agree = |profile| all_agree(&mut honest(), &f32_cases(25, &[profile]));
    STRAINED.into_par_iter().for_each(agree);
}

#[test]
fn the_reference_agrees_on_strained_values() {
    for profile in STRAINED {
        check_engine(&mut Reference, &all_cases(60, profile)).assert_agrees();
    }
}

/// Cases on which a class is meant to be told from a coarser one.
fn gentle_cases(least_hidden: usize, wanted: usize) -> Vec<CaseSpec> {
    let selection = Selection {
        domain: Domain::in_stable_order(),
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
    let cases = gentle_cases(64, 100);
    for operand in [tf32 as fn(f32) -> f32, bf16] {
        let mut engine = Loops { operand, ..Loops::FP32 };
        let refused = |spec: &&CaseSpec| matches!(judge_spec(&mut engine, spec), Some(Verdict::Disagree(_)));
        let refused = cases.iter().filter(refused).count();
        assert!(refused >= 95, "refused on {refused} of 100 gentle cases with H ≥ 64");
    }
}

#[test]
fn operands_rounded_to_bf16_are_refused_in_the_tf32_class() {
    let cases = gentle_cases(64, 100);
    let mut engine = Loops {
        precision: Precision::TF32,
        operand: bf16,
        ..Loops::FP32
    };
    let refused = |spec: &&CaseSpec| matches!(judge_spec(&mut engine, spec), Some(Verdict::Disagree(_)));
    let refused = cases.iter().filter(refused).count();
    assert!(refused >= 10, "refused on {refused} of 100 gentle cases with H ≥ 64");
}

const CUT: Loops = Loops {
    precision: Precision::TF32,
    operand: cut_to_tf32,
    ..Loops::FP32
};

/// The shift of cut operands adds up over slots whose weights and rows have either sign.
#[test]
fn operands_cut_to_tf32_agree_in_the_tf32_class() {
    let mut plan = f32_cases(300, &[]);
    plan.seed = 700;
    plan.selection.weights = vec![WeightProfile::Negative];
    plan.selection.sizes = vec![SizeProfile::Tiny, SizeProfile::TileEdges];
    plan.selection.work = 1 << 16;
    check_engine(&mut { CUT }, &plan).assert_agrees();
}

/// The bound that follows the shift still tells this from operands that are cut or rounded.
#[test]
fn sums_rounded_to_bf16_now_and_then_are_refused_in_the_tf32_class() {
    let mut engine = Loops {
        operand: tf32,
        order: Order::RenewedInBf16,
        ..CUT
    };
    let mut plan = f32_cases(150, &[]);
    plan.seed = 250;
    plan.shrink_budget = 0;
    let mut stop_at_first = |result: &CaseResult| match result.verdict {
        Verdict::Disagree(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let summary = check(&mut [Contender::single(&mut engine)], &plan, &mut stop_at_first).unwrap();
    assert_eq!(summary.engines[0].disagree, 1, "{summary}");
}

/// Whoever claims too much is told which claim would have held.
#[test]
fn coarser_classes_that_hold_are_named() {
    for (operand, precision) in [(tf32 as fn(f32) -> f32, Precision::TF32), (bf16, Precision::BF16)] {
        let mut plan = f32_cases(30, &[ValueProfile::Gentle]);
        plan.shrink_budget = 0;
        let summary = check_engine(&mut Loops { operand, ..Loops::FP32 }, &plan);
        let totals = &summary.engines[0];
        assert!(totals.disagree >= 10, "{summary}");
        // Some results of a coarser class lie within a sharper one as well, by chance; all lie within their own.
        let of = |wanted| {
            totals
                .within
                .iter()
                .find(|(precision, _)| *precision == wanted)
                .map(|(_, cases)| *cases)
        };
        assert_eq!(of(precision), Some(totals.disagree), "{summary}");
        assert!(of(Precision::FP32).is_none(), "{summary}");
        assert!(
            precision == Precision::TF32 || of(Precision::TF32) < Some(totals.disagree),
            "{summary}"
        );
        assert!(
            summary.to_string().contains("claim     every value lies within"),
            "{summary}"
        );
    }
}
