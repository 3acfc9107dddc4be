//! Several engines of one kind, side by side.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use binned_experts_check::check::{CaseResult, CheckError, Contender, OpenEngine};
use binned_experts_check::engine::Reference;
use binned_experts_check::{AnyProblem, CheckPlan, Domain, Engine, Fault, Outcome, Selection, check};

/// How many engines compute, and the most that did at once.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    opened: AtomicUsize,
}

/// The reference, which waits a little and refuses cases without tokens.
struct Slow(Arc<Busy>);

impl Engine for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn domain(&self) -> Domain {
        Domain::in_stable_order()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let now = self.0.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        let outcome = if problem.dims().tokens == 0 {
            Err(Fault::refused("no tokens"))
        } else {
            Reference.forward(problem)
        };
        self.0.now.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}

fn plan() -> CheckPlan {
    CheckPlan {
        cases: 100,
        selection: Selection::small(),
        shrink_budget: 20,
        ..CheckPlan::default()
    }
}

/// The cases in the order in which they were told, and the verdicts.
fn run(contender: Contender<'_>) -> Result<Vec<(String, &'static str)>, CheckError> {
    let mut told = Vec::new();
    let mut watch = |result: &CaseResult| {
        told.push((result.case.clone(), result.verdict.kind()));
        ControlFlow::Continue(())
    };
    check(&mut [contender], &plan(), &mut watch)?;
    Ok(told)
}

fn opener(busy: &Arc<Busy>) -> Box<OpenEngine<'static>> {
    let busy = busy.clone();
    Box::new(move || {
        busy.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Slow(busy.clone())))
    })
}

#[test]
fn side_by_side_says_what_one_after_the_other_says() {
    let busy = Arc::new(Busy::default());
    let alone = run(Contender::single(&mut Slow(busy.clone()))).unwrap();
    assert_eq!(busy.most.load(Ordering::SeqCst), 1);
    for most in [1, 3, 20] {
        let busy = Arc::new(Busy::default());
        let several = Contender::several(Box::new(Slow(busy.clone())), opener(&busy), most);
        assert_eq!(run(several).unwrap(), alone);
        let at_once = busy.most.load(Ordering::SeqCst);
        assert!(at_once <= most && (most == 1 || at_once > 1), "{at_once} of {most}");
        assert!(busy.opened.load(Ordering::SeqCst) < most);
    }
}

#[test]
fn an_engine_that_cannot_be_opened_again_ends_the_run() {
    let busy = Arc::new(Busy::default());
    let open: Box<OpenEngine<'static>> = Box::new(|| Err("no more of them".into()));
    let error = run(Contender::several(Box::new(Slow(busy)), open, 2)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "slow: could not be opened once more: no more of them"
    );
}
