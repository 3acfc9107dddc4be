//! Engines that are right on a case at first, and not on the same case after others.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use binned_experts_check::check::{CaseResult, Contender, End, OpenEngine};
use binned_experts_check::engine::Reference;
use binned_experts_check::report;
use binned_experts_check::{
    AnyProblem, CheckPlan, Domain, ElementType, Engine, Fault, Outcome, Precision, Selection, Summary, Tensor, check,
    check_engine,
};
use binned_experts_reference::Problem;

/// Calls between two of a case that are made at once.
const SOON: usize = 8;

/// What becomes of a case that comes once more after many others.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    Right,
    Wrong,
    OtherBits,
    Declined,
    Refused,
}

/// The reference, for which calls add up.
#[derive(Clone)]
struct Decaying {
    then: Then,
    domain: Domain,
    known: Vec<Problem<f32>>,
    /// How many cases came to this engine, and to others that share the number, once more after many.
    old: Arc<AtomicUsize>,
}

impl Decaying {
    fn new(then: Then, domain: &str) -> Decaying {
        let domain: Domain = domain.parse().unwrap();
        Decaying {
            then,
            domain: domain.meet(&Domain::of(Precision::FP32)),
            known: Vec::new(),
            old: Arc::default(),
        }
    }

    fn outcome(&self, problem: &AnyProblem, is_old: bool) -> Result<Outcome, Fault> {
        let outcome = Reference.forward(problem)?;
        let changed = |change: fn(f32) -> f32| match &outcome.output {
            Tensor::F32(output) => Ok(Outcome::output(output.mapv(change))),
            _ => Err(Fault::refused("expected f32")),
        };
        match self.then {
            _ if !is_old => Ok(outcome),
            Then::Right => Ok(outcome),
            Then::Wrong => changed(|value| value + 1.0),
            // A value of 0 may have to be met exactly, and infinities are.
            Then::OtherBits => changed(|value| if value.is_normal() { value.next_up() } else { value }),
            Then::Declined => Err(Fault::declined("no more of these")),
            Then::Refused => Err(Fault::refused("no more of these")),
        }
    }
}

impl Engine for Decaying {
    fn name(&self) -> &str {
        "decaying"
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let AnyProblem::F32(own) = problem else {
            return Err(Fault::refused("expected f32"));
        };
        let earlier = self.known.iter().position(|known| known == own);
        let is_old = earlier.is_some_and(|at| at + SOON < self.known.len());
        self.known.push(own.clone());
        self.old.fetch_add(usize::from(is_old), Ordering::SeqCst);
        self.outcome(problem, is_old)
    }
}

fn plan(cases: usize) -> CheckPlan {
    CheckPlan {
        cases,
        // Of its values some are neither 0 nor infinite.
        seed: 3,
        selection: Selection {
            elements: vec![ElementType::F32],
            ..Selection::small()
        },
        ..CheckPlan::default()
    }
}

fn run(then: Then, domain: &str) -> Summary {
    check_engine(&mut Decaying::new(then, domain), &plan(60))
}

/// The only failure is one of the first case again, of this kind.
#[track_caller]
fn assert_found(summary: &Summary, kind: &str) {
    let [failure] = &summary.failures[..] else {
        panic!("expected one failure: {summary}")
    };
    assert_eq!(
        (failure.case.as_str(), failure.verdict.kind()),
        ("seed 3, the first case again", kind)
    );
    // No file of a case would show it.
    assert!(failure.spec.is_none() && failure.golden.is_none() && failure.shrunk.is_none());
    let totals = &summary.engines[0];
    assert_eq!((summary.cases, totals.agree, totals.failed()), (60, 60, 1), "{summary}");
    assert!(summary.has_failures() && summary.end == End::Complete);
    let text = summary.to_string();
    assert!(
        text.contains("decaying fails on seed 3, the first case again\n"),
        "{text}"
    );
    assert!(report::conclusion(summary).contains("DISAGREE: decaying"), "{text}");
}

#[test]
fn an_engine_whose_first_result_is_right_alone_is_found() {
    assert_found(&run(Then::Wrong, ""), "disagree");
    assert_found(&run(Then::Refused, ""), "refused");
}

#[test]
fn other_bits_are_found_where_the_same_are_claimed() {
    assert_found(&run(Then::OtherBits, "deterministic = true"), "not-deterministic");
    run(Then::OtherBits, "").assert_agrees();
}

#[test]
fn what_is_right_again_or_declined_counts_as_nothing() {
    for then in [Then::Right, Then::Declined] {
        let summary = run(then, "deterministic = true");
        summary.assert_agrees();
        let totals = &summary.engines[0];
        assert_eq!((totals.agree, totals.compared(), totals.declines()), (60, 60, 0));
    }
}

/// Each of them has a first case of its own.
#[test]
fn engines_side_by_side_are_all_asked_again() {
    /// Takes so long that the others are asked meanwhile.
    struct Slow(Decaying);
    impl Engine for Slow {
        fn name(&self) -> &str {
            self.0.name()
        }

        fn domain(&self) -> Domain {
            self.0.domain()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            std::thread::sleep(Duration::from_millis(2));
            self.0.forward(problem)
        }
    }
    let engine = Decaying::new(Then::Wrong, "");
    let (old, another) = (engine.old.clone(), engine.clone());
    let open: Box<OpenEngine<'_>> = Box::new(move || Ok(Box::new(Slow(another.clone()))));
    let contender = Contender::several(Box::new(Slow(engine)), open, 3);
    let mut told = 0;
    let mut watch = |result: &CaseResult| {
        told += usize::from(result.case.ends_with(", the first case again"));
        ControlFlow::Continue(())
    };
    let summary = check(&mut [contender], &plan(200), &mut watch).unwrap();
    let totals = &summary.engines[0];
    assert_eq!((totals.agree, totals.failed()), (200, told), "{summary}");
    assert_eq!(told, old.load(Ordering::SeqCst));
    assert!((2..=3).contains(&told), "{told}");
}

#[test]
fn a_run_that_ends_early_asks_nothing_again() {
    let mut calls = 0;
    let mut watch = |_: &CaseResult| {
        calls += 1;
        if calls < 60 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let mut engine = Decaying::new(Then::Wrong, "");
    let summary = check(&mut [Contender::single(&mut engine)], &plan(60), &mut watch).unwrap();
    assert_eq!((summary.end, summary.failures.len(), calls), (End::Stopped, 0, 60));
}
