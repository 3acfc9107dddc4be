//! Texts that a person reads: bins of small routings, errors, reports. They live in `snapshots/`.

use std::time::Duration;

use crate::common::Spoiled;
use binned_experts_check::case::{Profile, RoutingProfile, ValueProfile};
use binned_experts_check::engine::{Fault, Reference, Rule, WarmupCall};
use binned_experts_check::judge::{BatchPlace, Kept, Mismatch, SkipReason};
use binned_experts_check::{
    CaseSpec, CheckPlan, ElementType, Location, Precision, Selection, Stage, Summary, Verdict, check_engine, report,
};
use binned_experts_reference::{Error, sort_tokens_by_expert};

fn assert_snapshot(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(crate::in_repository("snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// One line a profile: the ids by token, the order, the bins, and what a capacity of 2 drops.
#[test]
fn bins_of_small_routings() {
    let mut text = String::new();
    for profile in RoutingProfile::ALL {
        let spec: CaseSpec = format!(
            "element = 'f32'\nbatch = 1\nsequence = 5\nhidden = 1\nintermediate = 1\nexperts = 6\ntop_k = 3\n\
             capacity = 2\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = '{}'\nvalues = 'gentle'\n\
             weights = 'normalised'",
            Profile::Routing(*profile).name()
        )
        .parse()
        .unwrap();
        let ids = spec.router_indices().unwrap();
        let bins = sort_tokens_by_expert(ids.view(), spec.experts).unwrap();
        let rows: Vec<Vec<i64>> = ids.rows().into_iter().map(|row| row.to_vec()).collect();
        text += &format!("{}\n  ids     {rows:?}\n", Profile::Routing(*profile).name());
        text += &format!("  order   {:?}\n  bins    {:?}\n", bins.sorted_indices(), bins.ends());
        text += &format!("  dropped {}\n", bins.dropped(spec.capacity));
    }
    assert_snapshot("bins_of_small_routings", &text);
}

#[test]
fn error_texts() {
    let errors = [
        Error::Shape {
            tensor: "down_proj",
            expected: vec![4, 8, 16],
            found: vec![4, 16, 8],
        },
        Error::OddGateUp { found: 5 },
        Error::ExpertOutOfRange {
            token: 3,
            slot: 1,
            expert: -1,
            experts: 8,
        },
        Error::ZeroTopK,
        Error::NoExperts,
        Error::TooLarge {
            what: "experts",
            limit: 1 << 20,
            found: 1 << 50,
        },
        Error::SizeOverflow {
            what: "gate_up",
            sizes: vec![1 << 40, 8, 1 << 30, 2, 4],
        },
        Error::OutOfMemory {
            what: "gathered",
            elements: 1 << 60,
        },
        Error::OrderLength { expected: 8, found: 7 },
        Error::OrderOutOfRange {
            position: 2,
            found: 9,
            assignments: 8,
        },
        Error::OrderRepeats {
            position: 5,
            assignment: 1,
        },
        Error::OrderNotSorted {
            position: 4,
            expert: 0,
            previous: 2,
        },
    ];
    assert_snapshot("error_texts", &errors.map(|error| error.to_string()).join("\n"));
}

/// Every kind of verdict, its short name, whether it is a failure, and its text.
#[test]
fn verdict_texts() {
    let at = Location {
        token: Some(3),
        slot: Some(1),
        expert: Some(5),
        column: Some(0),
        ..Location::default()
    };
    let values = |stage, found, expected, bound, worst| Mismatch::Values {
        stage,
        at,
        found,
        expected,
        bound,
        wrong: 4,
        rows: 2,
        total: 96,
        worst,
        within: Vec::new(),
    };
    let position = Location {
        position: Some(2),
        ..at
    };
    let mismatches = [
        Mismatch::Shape {
            stage: Stage::GateUp,
            expected: vec![18, 8],
            found: vec![8, 18],
        },
        Mismatch::Type {
            stage: Stage::Output,
            expected: "f32".to_owned(),
            found: "f64".to_owned(),
        },
        values(Stage::Activated, -1.0, -1.5, 0.25, 3.0),
        values(Stage::ExpertOutput, 10_000.0, 0.0, 1.0, 123_456.0),
        values(Stage::Output, 9_999.0, 0.0, 1.0, f64::INFINITY),
        values(Stage::Gathered, 1.0 / 3.0, f64::NAN, 0.0, f64::INFINITY),
        values(Stage::SelectedWeights, 0.1, f64::from(0.1f32), 0.0, f64::INFINITY),
        values(Stage::Bins, 12.0, 13.0, 0.0, f64::INFINITY),
        Mismatch::Values {
            stage: Stage::SortedIndices,
            at: position,
            found: 40.0,
            expected: 41.0,
            bound: 0.0,
            wrong: 1,
            rows: 1,
            total: 96,
            worst: f64::INFINITY,
            within: Vec::new(),
        },
        Mismatch::Values {
            stage: Stage::Output,
            at,
            found: 1.0,
            expected: 1.5,
            bound: 0.25,
            wrong: 1,
            rows: 1,
            total: 96,
            worst: 2.0,
            within: vec![Precision::TF32, Precision::BF16],
        },
        Mismatch::Kept {
            kept: Kept::Result,
            call: WarmupCall { number: 2, of: 3 },
            mismatch: Box::new(values(Stage::Output, 1.0, 1.5, 0.25, 2.0)),
        },
        Mismatch::Kept {
            kept: Kept::Weights,
            call: WarmupCall { number: 1, of: 1 },
            mismatch: Box::new(values(Stage::Output, 1.0, 1.5, 0.25, 2.0)),
        },
        Mismatch::InWarmup {
            call: WarmupCall { number: 1, of: 1 },
            mismatch: Box::new(Mismatch::Type {
                stage: Stage::Output,
                expected: "f32".to_owned(),
                found: "f64".to_owned(),
            }),
        },
        Mismatch::NotDeterministic {
            stage: Stage::Output,
            at,
            first: 0.5,
            second: -0.5,
            wrong: 7,
        },
        Mismatch::NotBatchInvariant {
            at,
            here: 0.5,
            place: BatchPlace { position: 4, tokens: 7 },
            there: -0.5,
            wrong: 3,
        },
    ];
    let disagreements = mismatches
        .into_iter()
        .map(|mismatch| Verdict::Disagree(Box::new(mismatch)));
    let others = [
        Verdict::Agree {
            used: 0.25,
            undecided: 0,
        },
        Verdict::Agree {
            used: 0.25,
            undecided: 3,
        },
        Verdict::Fault(Fault::refused("no memory")),
        Verdict::Fault(Fault::Broken {
            rule: Rule::InputChanged,
            message: "down_proj: expected it as it was, found element 3 changed".to_owned(),
        }),
        Verdict::Fault(Fault::InWarmup {
            call: WarmupCall { number: 2, of: 3 },
            fault: Box::new(Fault::refused("no memory")),
        }),
        Verdict::Declined("H is no multiple of 64".to_owned()),
        Verdict::Skip(SkipReason::ElementType(ElementType::Bf16)),
        Verdict::Skip(SkipReason::Outside("hidden")),
        Verdict::Skip(SkipReason::Order),
        Verdict::Skip(SkipReason::GivenUp),
    ];
    let mut text = String::new();
    for verdict in others.into_iter().chain(disagreements) {
        let stage = match &verdict {
            Verdict::Disagree(mismatch) => format!(", {}", mismatch.stage()),
            _ => String::new(),
        };
        let failure = if verdict.is_failure() { "failure" } else { "no failure" };
        text += &format!(
            "[{}{stage}, {failure}]\n{}\n",
            verdict.kind(),
            report::verdict_text(&verdict)
        );
    }
    assert_snapshot("verdict_texts", &text);
}

fn f32_plan(cases: usize) -> CheckPlan {
    let selection = Selection {
        elements: vec![ElementType::F32],
        values: vec![ValueProfile::Provenance],
        ..Selection::default()
    };
    CheckPlan {
        cases,
        selection,
        ..CheckPlan::default()
    }
}

/// Measured values to three digits: the last bits of exp and of a product depend on the machine.
fn rounded(text: &str) -> String {
    let word = |word: &str| match word.parse::<f64>() {
        Ok(value) if word.contains('e') => format!("{value:.2e}"),
        _ => word.to_owned(),
    };
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Times differ from run to run, and shares of bounds and sums of errors with the last bits of a machine's exp.
fn settled(summary: Summary) -> Summary {
    let mut engines = summary.engines;
    for totals in &mut engines {
        (totals.used, totals.time) = (0.0, Duration::from_millis(50));
        totals.used_by = "…".to_owned();
        totals.sums = Vec::new();
    }
    let (generating, oracle) = (Duration::from_millis(10), Duration::from_millis(30));
    let (comparing, elapsed) = (Duration::from_millis(10), Duration::from_millis(60));
    Summary {
        engines,
        generating,
        oracle,
        comparing,
        elapsed,
        ..summary
    }
}

#[test]
fn report_of_a_right_engine() {
    let summary = check_engine(
        &mut Reference,
        &CheckPlan {
            cases: 100,
            ..CheckPlan::default()
        },
    );
    assert_snapshot("report_agree", &settled(summary).to_string());
}

/// A kernel that keeps one assignment more than the capacity.
#[test]
fn report_of_a_planted_bug() {
    let mut engine = Spoiled(|problem: &binned_experts_reference::Problem<f32>, _| {
        let more = binned_experts_reference::Problem::new(
            problem.hidden_states().clone(),
            problem.router_indices().to_owned(),
            problem.routing_weights().clone(),
            problem.weights().clone(),
            problem.capacity().saturating_add(1),
        )
        .unwrap()
        .with_activation(problem.activation());
        let output = binned_experts_reference::binned_experts_ref(&more).unwrap().output;
        output
            .into_shape_with_order((problem.dims().tokens, problem.dims().hidden))
            .unwrap()
    });
    let summary = check_engine(&mut engine, &f32_plan(40));
    let shrunk = summary.failures[0].shrunk.as_ref().unwrap();
    assert!(shrunk.spec.tokens() <= 2 && shrunk.spec.hidden == 1 && shrunk.spec.intermediate == 1);
    let settled = settled(summary);
    assert_snapshot("report_planted_bug", &rounded(&settled.to_string()));
    let last: serde_json::Value = serde_json::from_str(&report::totals_json(&settled)).unwrap();
    assert_snapshot("totals_json", &serde_json::to_string_pretty(&last).unwrap());
}
