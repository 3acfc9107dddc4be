//! One engine on one case.

mod batch;
mod compare;
mod shrink;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ndarray::{Axis, IxDyn};

pub use compare::{compare, compare_runs, share_used};
pub use shrink::{Shrunk, shrink};
pub use verdict::{BatchPlace, Mismatch, SkipReason, Verdict};

use self::batch::Batch;
use crate::case::{CaseSpec, SpecError, Warmup};
use crate::domain::{Domain, TieOrder};
use crate::engine::{Engine, Fault, Outcome, caught, forward, precisions_of};
use crate::oracle::{Bounds, Expected, Inputs, Precision, Roundings};
use crate::stage::{Stage, StageValues, Stages};
use crate::sums::{CaseSums, Slopes};
use crate::tensor::{AnyProblem, ElementType, Tensor};

/// A case with all that is needed to judge engines on it.
#[derive(Debug, Clone)]
pub struct Trial {
    problem: AnyProblem,
    /// The warm-up call before the case.
    warmup: Option<(Warmup, AnyProblem)>,
    expected: Expected,
    bounds: Vec<(Precision, Bounds)>,
    /// What the errors of its output are added up along, for each precision.
    slopes: Vec<(Precision, Slopes)>,
    /// Whether engines are asked although their domain does not admit the case.
    is_beyond: bool,
    /// Whether a verdict on wrong values says which weaker precisions admit them.
    is_explained: bool,
    /// Time spent building the problems.
    pub(crate) generating: Duration,
    /// Time spent on the definition and the bounds.
    pub(crate) oracle: Duration,
}

impl Trial {
    /// Builds a spec, and prepares it for engines of some precisions.
    ///
    /// # Errors
    /// [`SpecError`] if the spec cannot be built.
    pub fn from_spec(spec: &CaseSpec, precisions: &[Precision]) -> Result<Trial, SpecError> {
        let start = Instant::now();
        let problem = spec.build()?;
        let warmup = match (spec.warmup, spec.predecessor()) {
            (Some(Warmup::Same), _) => Some((Warmup::Same, problem.clone())),
            (Some(warmup), Some(predecessor)) => Some((warmup, predecessor.build()?)),
            _ => None,
        };
        let generating = start.elapsed();
        Ok(Trial {
            warmup,
            generating,
            ..Trial::from_problem(problem, precisions)
        })
    }

    /// Prepares a problem for engines of some precisions.
    pub fn from_problem(problem: AnyProblem, precisions: &[Precision]) -> Trial {
        let start = Instant::now();
        let element = problem.element();
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), element);
        let bounds = precisions
            .iter()
            .map(|&precision| {
                let roundings = Roundings::new(precision, element);
                (
                    precision,
                    Bounds::new(expected.inputs(), expected.definition(), roundings),
                )
            })
            .collect();
        Trial {
            problem,
            warmup: None,
            expected,
            bounds,
            slopes: Vec::new(),
            is_beyond: false,
            is_explained: false,
            generating: Duration::ZERO,
            oracle: start.elapsed(),
        }
    }

    /// The same case; engines are asked although their domain does not admit it.
    #[must_use]
    pub fn beyond_domains(self) -> Trial {
        Trial {
            is_beyond: true,
            ..self
        }
    }

    /// The same case; a verdict on wrong values says which weaker precisions admit them, which takes as long as the case
    /// for each.
    #[must_use]
    pub fn explained(self) -> Trial {
        Trial {
            is_explained: true,
            ..self
        }
    }

    /// The same case; a judgement that agrees has its [sums](CaseSums).
    #[must_use]
    pub fn summed(self) -> Trial {
        let start = Instant::now();
        let slopes = self.bounds.iter().map(|(precision, bounds)| {
            let roundings = Roundings::new(*precision, self.problem.element());
            (*precision, Slopes::new(&self.expected, bounds, roundings))
        });
        Trial {
            slopes: slopes.collect(),
            oracle: self.oracle + start.elapsed(),
            ..self
        }
    }

    /// What an output that agrees says of its errors.
    fn sums(&self, precision: Precision, outcome: &Outcome) -> Option<(Precision, Box<CaseSums>)> {
        let (_, slopes) = self.slopes.iter().find(|(known, _)| *known == precision)?;
        let bounds = self.bounds(precision)?;
        let sums = CaseSums::new(slopes, &self.expected, bounds, &outcome.output);
        Some((precision, Box::new(sums)))
    }

    /// The problem.
    pub fn problem(&self) -> &AnyProblem {
        &self.problem
    }

    /// The right results.
    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The bounds of a precision that the case was prepared for.
    pub fn bounds(&self, precision: Precision) -> Option<&Bounds> {
        self.bounds
            .iter()
            .find(|(known, _)| *known == precision)
            .map(|(_, bounds)| bounds)
    }
}

impl Trial {
    /// The right values of every stage as tensors of f64 in the shapes of a result file, by the names of the stages;
    /// and under `STAGE.bound` how far a right result of a precision may be from each. None if the case was not
    /// prepared for the precision. A stage that does not fit the memory in this shape is left out.
    pub fn tensors(&self, precision: Precision) -> Option<BTreeMap<String, Tensor>> {
        let bounds = self.bounds(precision)?;
        let (mut values, mut distances) = (Stages::default(), Stages::default());
        values = values.with(Stage::SortedIndices, self.expected.sorted_indices().to_vec());
        values = values.with(Stage::Bins, self.expected.bins().to_vec());
        for &stage in Stage::ALL {
            if let Some(right) = self.expected.rows(stage) {
                values = values.with(stage, right.value.select(Axis(0), &right.rows));
                if let Some(bound) = bounds.of(stage) {
                    distances = distances.with(stage, bound.select(Axis(0), &right.rows));
                }
            }
        }
        let shaped = |stages: Stages| stages.tensors(&self.problem, ElementType::F64, usize::MAX);
        let mut tensors = shaped(values);
        tensors.extend(
            shaped(distances)
                .into_iter()
                .map(|(name, bound)| (bound_name(&name), bound)),
        );
        let output = self.expected.definition().output.clone();
        for (name, rows) in [
            ("output".to_owned(), output),
            (bound_name("output"), bounds.output.clone()),
        ] {
            let shaped = rows.into_shape_with_order(IxDyn(self.expected.shape()));
            tensors.extend(
                shaped
                    .ok()
                    .map(|output| (name, Tensor::from_f64(output, ElementType::F64))),
            );
        }
        Some(tensors)
    }
}

fn bound_name(stage: &str) -> String {
    format!("{stage}.bound")
}

/// A verdict and the time it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// Where it agrees on a [summed](Trial::summed) case, the precision that it was judged by, and what its errors say.
    pub sums: Option<(Precision, Box<CaseSums>)>,
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
            sums: None,
            engine: Duration::ZERO,
            comparing: Duration::ZERO,
        }
    }
}

/// Runs an engine on a case, after its warm-up call, and compares. A case outside its domain is skipped.
pub fn judge(engine: &mut dyn Engine, trial: &Trial) -> Judgement {
    let element = trial.problem.element();
    let precision = engine.precision(element);
    let Some((precision, bounds)) = precision.and_then(|precision| Some((precision, trial.bounds(precision)?))) else {
        return Judgement::skipped(SkipReason::ElementType(element));
    };
    let domain = engine.domain();
    let has_order = trial.problem.has_explicit_order();
    if has_order && !domain.takes_order() && !trial.is_beyond {
        return Judgement::skipped(SkipReason::Order);
    }
    if let Err(outside) = domain.admits_inputs(trial.expected.inputs(), has_order)
        && !trial.is_beyond
    {
        return Judgement::skipped(SkipReason::Outside(outside.field));
    }
    let start = Instant::now();
    let outcome = run(engine, &domain, trial);
    let in_engine = start.elapsed();
    let (verdict, sums) = match outcome {
        Err(Fault::Machine(error)) => (Verdict::NotJudged(error), None),
        Err(Fault::Declined { reason }) => (Verdict::Declined(reason), None),
        Err(fault) => (Verdict::Fault(fault), None),
        Ok(runs) => {
            let verdict = verdict_on(&runs, trial, precision, bounds, &domain);
            // The right output of another order is another one.
            let is_summed =
                matches!(verdict, Verdict::Agree { .. }) && returned_order(&domain, trial, &runs.outcome).is_none();
            let sums = is_summed.then(|| trial.sums(precision, &runs.outcome)).flatten();
            (verdict, sums)
        }
    };
    Judgement {
        verdict,
        sums,
        engine: in_engine,
        comparing: start.elapsed() - in_engine,
    }
}

/// A problem's verdict on an outcome that is there already; none where the problem is not prepared for the precision.
pub(crate) fn judge_outcome(
    trial: &Trial,
    precision: Precision,
    domain: &Domain,
    outcome: &Outcome,
) -> Option<Verdict> {
    Some(compared(trial, precision, trial.bounds(precision)?, domain, outcome))
}

fn compared(trial: &Trial, precision: Precision, bounds: &Bounds, domain: &Domain, outcome: &Outcome) -> Verdict {
    let ordered = returned_order(domain, trial, outcome).map(|problem| Trial::from_problem(problem, &[precision]));
    let (expected, bounds) = match &ordered {
        None => (&trial.expected, bounds),
        Some(ordered) => (&ordered.expected, ordered.bounds(precision).unwrap_or(bounds)),
    };
    let mut verdict = compare(expected, bounds, outcome);
    if trial.is_explained
        && let Verdict::Disagree(mismatch) = &mut verdict
        && let Mismatch::Values { within, .. } = &mut **mismatch
    {
        *within = holding(expected, precision.weaker(), outcome);
    }
    verdict
}

/// The precisions in whose bounds an outcome lies.
fn holding(expected: &Expected, precisions: &[Precision], outcome: &Outcome) -> Vec<Precision> {
    let holds = |precision: &&Precision| {
        let roundings = Roundings::new(**precision, expected.element());
        let bounds = Bounds::new(expected.inputs(), expected.definition(), roundings);
        matches!(compare(expected, &bounds, outcome), Verdict::Agree { .. })
    };
    precisions.iter().filter(holds).copied().collect()
}

/// What an engine gave for a case, and what it must equal bit by bit as the engine claims.
struct Runs {
    outcome: Outcome,
    /// An earlier run of the case.
    earlier: Option<Outcome>,
    /// A run of its tokens in another batch.
    batch: Option<(Batch, Outcome)>,
}

/// Runs what the engine's claims ask for, then the warm-up call, then the case. A call before the case that is declined
/// is left out.
fn run(engine: &mut dyn Engine, domain: &Domain, trial: &Trial) -> Result<Runs, Fault> {
    let claims_batches = domain.is_batch_invariant() && !trial.is_beyond;
    let batch = claims_batches.then(|| Batch::of(&trial.problem, domain)).flatten();
    let in_batch = match &batch {
        None => None,
        Some(batch) => before(forward(engine, &batch.problem))?,
    };
    let must_repeat = domain.is_deterministic() && matches!(trial.warmup, Some((Warmup::Same, _)));
    let earlier = match &trial.warmup {
        None => None,
        Some((_, problem)) if must_repeat => before(caught(|| engine.rerun(problem)))?,
        Some((_, problem)) => before(forward(engine, problem))?,
    };
    Ok(Runs {
        outcome: forward(engine, &trial.problem)?,
        earlier: earlier.filter(|_| must_repeat),
        batch: batch.zip(in_batch),
    })
}

/// First whether two runs of the case are the same, then whether the case is right, then whether its tokens have the same
/// rows in another batch.
fn verdict_on(runs: &Runs, trial: &Trial, precision: Precision, bounds: &Bounds, domain: &Domain) -> Verdict {
    if let Some(earlier) = &runs.earlier
        && let Err(mismatch) = compare_runs(earlier, &runs.outcome)
    {
        return Verdict::Disagree(mismatch);
    }
    let verdict = compared(trial, precision, bounds, domain, &runs.outcome);
    match (&verdict, &runs.batch) {
        (Verdict::Agree { .. }, Some((batch, in_batch))) => batch
            .compare(&trial.expected, in_batch, &runs.outcome)
            .map_or_else(Verdict::Disagree, |()| verdict),
        _ => verdict,
    }
}

/// What a call before the case gave; none where it was declined.
fn before(outcome: Result<Outcome, Fault>) -> Result<Option<Outcome>, Fault> {
    match outcome {
        Ok(outcome) => Ok(Some(outcome)),
        Err(Fault::Declined { .. }) => Ok(None),
        Err(Fault::Machine(error)) => Err(error.into()),
        Err(fault) => Err(Fault::InWarmup { fault: Box::new(fault) }),
    }
}

/// The problem in the order that an engine shows, where its domain says that it is judged by it and the order is one that
/// a sort can give.
fn returned_order(domain: &Domain, trial: &Trial, outcome: &Outcome) -> Option<AnyProblem> {
    let Some(StageValues::Indices(order)) = outcome.stages.get(Stage::SortedIndices) else {
        return None;
    };
    if domain.tie_order != Some(TieOrder::Returned) || order == trial.problem.bins().sorted_indices() {
        return None;
    }
    trial.problem.clone().with_order(order.clone()).ok()
}

/// An engine's verdict on a spec; none where the spec cannot be built.
pub fn judge_spec(engine: &mut dyn Engine, spec: &CaseSpec) -> Option<Verdict> {
    let precisions = precisions_of([&*engine], spec.element);
    let trial = Trial::from_spec(spec, &precisions).ok()?;
    Some(judge(engine, &trial).verdict)
}
