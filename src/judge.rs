//! One engine on one case.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::bound::Bounds;
use crate::case::{After, CaseSpec, SpecError};
use crate::compare::{Expected, compare, compare_runs};
use crate::definition::Inputs;
use crate::engine::{Engine, Fault, Outcome};
use crate::precision::{Class, Precision};
use crate::tensor::{AnyProblem, ElementType};
use crate::verdict::{SkipReason, Verdict};

/// A case with all that is needed to judge engines on it.
#[derive(Debug, Clone)]
pub struct Prepared {
    problem: AnyProblem,
    /// What an engine computes before the case.
    before: Option<(After, AnyProblem)>,
    expected: Expected,
    bounds: Vec<(Class, Bounds)>,
    /// Time spent building the problems.
    pub(crate) generating: Duration,
    /// Time spent on the definition and the bounds.
    pub(crate) oracle: Duration,
}

impl Prepared {
    /// Builds a spec, and prepares it for engines of some classes.
    ///
    /// # Errors
    /// [`SpecError`] if the spec cannot be built.
    pub fn from_spec(spec: &CaseSpec, classes: &[Class]) -> Result<Prepared, SpecError> {
        let start = Instant::now();
        let problem = spec.build()?;
        let before = match (spec.after, spec.predecessor()) {
            (Some(After::Same), _) => Some((After::Same, problem.clone())),
            (Some(after), Some(predecessor)) => Some((after, predecessor.build()?)),
            _ => None,
        };
        let generating = start.elapsed();
        Ok(Prepared {
            before,
            generating,
            ..Prepared::from_problem(problem, classes)
        })
    }

    /// Prepares a problem for engines of some classes.
    pub fn from_problem(problem: AnyProblem, classes: &[Class]) -> Prepared {
        let start = Instant::now();
        let element = problem.element();
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), element);
        let bounds = classes
            .iter()
            .map(|&class| {
                let precision = Precision::new(class, element);
                (class, Bounds::new(expected.inputs(), expected.definition(), precision))
            })
            .collect();
        Prepared {
            problem,
            before: None,
            expected,
            bounds,
            generating: Duration::ZERO,
            oracle: start.elapsed(),
        }
    }

    /// The problem.
    pub fn problem(&self) -> &AnyProblem {
        &self.problem
    }

    /// What is right.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The bounds of a class that the case was prepared for.
    pub fn bounds(&self, class: Class) -> Option<&Bounds> {
        self.bounds
            .iter()
            .find(|(known, _)| *known == class)
            .map(|(_, bounds)| bounds)
    }
}

/// The classes that an engine claims on an element type, as [`Prepared`] wants them.
pub fn classes_of<'a>(engines: impl IntoIterator<Item = &'a dyn Engine>, element: ElementType) -> Vec<Class> {
    let mut classes: Vec<Class> = engines.into_iter().filter_map(|engine| engine.class(element)).collect();
    classes.sort_by_key(|class| *class as u8);
    classes.dedup();
    classes
}

/// A verdict and the time it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Time spent in the engine.
    pub engine: Duration,
    /// Time spent comparing.
    pub comparing: Duration,
}

impl Judgement {
    /// A case that was not run.
    pub fn skipped(reason: SkipReason) -> Judgement {
        Judgement {
            verdict: Verdict::Skip(reason),
            engine: Duration::ZERO,
            comparing: Duration::ZERO,
        }
    }
}

/// Runs an engine on a case, after what comes before it, and compares.
pub fn judge(engine: &mut dyn Engine, prepared: &Prepared) -> Judgement {
    let start = Instant::now();
    let element = prepared.problem.element();
    let Some(bounds) = engine.class(element).and_then(|class| prepared.bounds(class)) else {
        return Judgement::skipped(SkipReason::ElementType(element));
    };
    if prepared.problem.has_explicit_order() && !engine.takes_order() {
        return Judgement::skipped(SkipReason::Order);
    }
    let outcome = run(engine, prepared);
    let in_engine = start.elapsed();
    let verdict = match outcome {
        Err(fault) => Verdict::Fault(fault),
        Ok((outcome, Some(earlier))) => match compare_runs(&earlier.output, &outcome.output) {
            Err(mismatch) => Verdict::Disagree(mismatch),
            Ok(()) => compare(&prepared.expected, bounds, &outcome),
        },
        Ok((outcome, None)) => compare(&prepared.expected, bounds, &outcome),
    };
    Judgement {
        verdict,
        engine: in_engine,
        comparing: start.elapsed() - in_engine,
    }
}

/// The outcome, and that of an earlier run of the same case where both must be the same.
fn run(engine: &mut dyn Engine, prepared: &Prepared) -> Result<(Outcome, Option<Outcome>), Fault> {
    let earlier = match &prepared.before {
        None => None,
        Some((After::Same, problem)) if engine.is_repeatable() => {
            Some(caught(|| engine.forward_in_another_order(problem))?)
        }
        Some((_, problem)) => {
            forward(engine, problem)?;
            None
        }
    };
    Ok((forward(engine, &prepared.problem)?, earlier))
}

/// Calls an engine; a panic is a fault.
///
/// # Errors
/// The engine's [`Fault`].
pub fn forward(engine: &mut dyn Engine, problem: &AnyProblem) -> Result<Outcome, Fault> {
    caught(|| engine.forward(problem))
}

fn caught(run: impl FnOnce() -> Result<Outcome, Fault>) -> Result<Outcome, Fault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Fault::Panicked {
            message: message.unwrap_or_else(|| "no message".to_owned()),
        })
    })
}

/// An engine's verdict on a spec; none where the spec cannot be built.
pub fn judge_spec(engine: &mut dyn Engine, spec: &CaseSpec) -> Option<Verdict> {
    let classes = classes_of([&*engine], spec.element);
    let prepared = Prepared::from_spec(spec, &classes).ok()?;
    Some(judge(engine, &prepared).verdict)
}
