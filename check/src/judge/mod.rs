//! One engine on one case.

mod again;
mod batch;
mod chosen;
mod compare;
mod fractions;
mod kept;
mod mixed;
mod prepared;
mod sampled;
mod shrink;
mod smaller;
mod tokens;
mod verdict;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ndarray::{Array2, Axis, IxDyn};

pub(crate) use again::judge_again;
pub use compare::{compare, compare_runs, share_used};
pub use sampled::Sampled;
pub use shrink::{Shrunk, shrink};
pub use tokens::{OnTokens, is_of_weights_at, judge_tokens};
pub use verdict::{BatchPlace, Kept, Mismatch, SkipReason, Verdict};

use self::batch::Batch;
use self::prepared::Prepared;
use crate::case::stage::{Stage, Stages};
use crate::case::{AnyProblem, CaseSpec, ElementType, SpecError, Tensor, Warmup};
use crate::domain::Domain;
use crate::engine::{Engine, Fault, Outcome, WarmupCall, caught, forward, precisions_of};
use crate::oracle::sums::{CaseSums, Slopes};
use crate::oracle::{Bounds, Expected, Precision, Roundings};

/// A case with all that is needed to judge engines on it.
#[derive(Debug, Clone)]
pub struct Trial {
    case: Prepared,
    before: Before,
    /// What the errors of its output are added up along, for each precision.
    slopes: Vec<(Precision, Slopes)>,
    /// Whether engines are asked although their domain does not admit the case.
    is_beyond: bool,
    /// Whether a verdict on wrong values says which weaker precisions admit them.
    is_explained: bool,
    /// Whether a judgement has the sharpest claims that admit the output.
    is_measured: bool,
    /// Time spent building the problems.
    pub(crate) generating: Duration,
    /// Time spent on the definition and the bounds.
    pub(crate) oracle: Duration,
}

/// The warm-up calls before a case.
#[derive(Debug, Clone)]
enum Before {
    /// These, which may be none.
    Calls(Vec<Prepared>),
    /// The case itself.
    Same,
}

impl Trial {
    /// Builds a spec, and prepares it for engines of some precisions.
    ///
    /// # Errors
    /// [`SpecError`] if the spec cannot be built.
    pub fn from_spec(spec: &CaseSpec, precisions: &[Precision]) -> Result<Trial, SpecError> {
        let start = Instant::now();
        let problem = spec.build()?;
        let before = match spec.warmup {
            Some(Warmup::Same) => None,
            _ => Some(
                spec.predecessors()
                    .iter()
                    .map(CaseSpec::build)
                    .collect::<Result<Vec<_>, _>>()?,
            ),
        };
        let generating = start.elapsed();
        let prepared = |problem| {
            if spec.sampled {
                Prepared::sampled(problem, precisions)
            } else {
                Prepared::new(problem, precisions)
            }
        };
        Ok(Trial {
            before: before.map_or(Before::Same, |calls| {
                Before::Calls(calls.into_iter().map(prepared).collect())
            }),
            case: prepared(problem),
            slopes: Vec::new(),
            is_beyond: false,
            is_explained: false,
            is_measured: false,
            generating,
            oracle: start.elapsed() - generating,
        })
    }

    /// Prepares a problem for engines of some precisions.
    pub fn from_problem(problem: AnyProblem, precisions: &[Precision]) -> Trial {
        let start = Instant::now();
        Trial {
            case: Prepared::new(problem, precisions),
            before: Before::Calls(Vec::new()),
            slopes: Vec::new(),
            is_beyond: false,
            is_explained: false,
            is_measured: false,
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

    /// The same case; a judgement has the sharpest claims that admit the output, which takes as long as the case for each
    /// claim that does not, unless it is one on some tokens only.
    #[must_use]
    pub fn measured(self) -> Trial {
        Trial {
            is_measured: true,
            ..self
        }
    }

    /// The same case; a judgement that agrees has its [sums](CaseSums), unless it is one on some tokens only.
    #[must_use]
    pub fn summed(self) -> Trial {
        if self.case.is_sampled {
            return self;
        }
        let start = Instant::now();
        let expected = &self.case.expected;
        let slopes = self.case.bounds.iter().map(|(precision, bounds)| {
            let roundings = Roundings::new(*precision, expected.element());
            (*precision, Slopes::new(expected, bounds, roundings))
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
        let sums = CaseSums::new(slopes, &self.case.expected, bounds, &outcome.output);
        Some((precision, Box::new(sums)))
    }

    /// The problem.
    pub fn problem(&self) -> &AnyProblem {
        &self.case.problem
    }

    /// Whether only some tokens are judged by the definition.
    pub fn is_sampled(&self) -> bool {
        self.case.is_sampled
    }

    /// The right results; of a [sampled](Trial::is_sampled) case those of its routing alone, as if H and I were 0.
    pub fn expected(&self) -> &Expected {
        &self.case.expected
    }

    /// The bounds of a precision that the case was prepared for; those of the routing alone as for
    /// [`expected`](Trial::expected).
    pub fn bounds(&self, precision: Precision) -> Option<&Bounds> {
        self.case.bounds(precision)
    }

    fn calls_before(&self) -> &[Prepared] {
        match &self.before {
            Before::Calls(calls) => calls,
            Before::Same => std::slice::from_ref(&self.case),
        }
    }
}

impl Trial {
    /// The right values of every stage as tensors of f64 in the shapes of a result file, by the names of the stages;
    /// and under `STAGE.bound` how far a right result of a precision may be from each. None if the case was not
    /// prepared for the precision, or is [sampled](Trial::is_sampled). A stage that does not fit the memory in this shape is
    /// left out.
    pub fn tensors(&self, precision: Precision) -> Option<BTreeMap<String, Tensor>> {
        let bounds = self.bounds(precision).filter(|_| !self.is_sampled())?;
        let (mut values, mut distances) = (Stages::default(), Stages::default());
        values = values.with(Stage::SortedIndices, self.case.expected.sorted_indices().to_vec());
        values = values.with(Stage::Bins, self.case.expected.bins().to_vec());
        for &stage in Stage::ALL {
            if let Some(right) = self.case.expected.rows(stage) {
                values = values.with(stage, right.value.select(Axis(0), &right.rows));
                if let Some(bound) = bounds.of(stage) {
                    distances = distances.with(stage, bound.select(Axis(0), &right.rows));
                }
            }
        }
        let shaped = |stages: Stages| stages.tensors(&self.case.problem, |_| ElementType::F64, usize::MAX);
        let mut tensors = shaped(values);
        tensors.extend(
            shaped(distances)
                .into_iter()
                .map(|(name, bound)| (bound_name(&name), bound)),
        );
        let (output, bound) = self.right_output(precision)?;
        tensors.insert("output".to_owned(), output);
        tensors.insert(bound_name("output"), bound);
        Some(tensors)
    }

    /// The output of [`tensors`](Trial::tensors) and its bound, `[B,S,H]`.
    pub fn right_output(&self, precision: Precision) -> Option<(Tensor, Tensor)> {
        let bounds = self.bounds(precision).filter(|_| !self.is_sampled())?;
        let expected = &self.case.expected;
        let shaped = |rows: &Array2<f64>| {
            let shaped = rows.clone().into_shape_with_order(IxDyn(expected.shape()));
            shaped.ok().map(|output| Tensor::from_f64(output, ElementType::F64))
        };
        Some((shaped(&expected.definition().output)?, shaped(&bounds.output)?))
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
    /// How many tokens it is a verdict on, where only some were judged by the definition.
    pub sampled: Option<Sampled>,
    /// Where it agrees on a [summed](Trial::summed) case, the precision that it was judged by, and what its errors say.
    pub sums: Option<(Precision, Box<CaseSums>)>,
    /// On a [measured](Trial::measured) case that has a result, the sharpest claims that admit it, each with the largest
    /// share of a bound; none if no claim does.
    pub sharpest: Option<Vec<(Precision, f64)>>,
    /// Time spent in the engine.
    pub engine: Duration,
    /// Time spent comparing.
    pub comparing: Duration,
}

impl Judgement {
    /// A case that was not run.
    pub fn skipped(reason: SkipReason) -> Judgement {
        Judgement::of(Verdict::Skip(reason))
    }

    /// A verdict alone.
    fn of(verdict: Verdict) -> Judgement {
        Judgement {
            verdict,
            sampled: None,
            sums: None,
            sharpest: None,
            engine: Duration::ZERO,
            comparing: Duration::ZERO,
        }
    }
}

/// Runs an engine on a case, after its warm-up call, and compares. A case outside its domain is skipped.
pub fn judge(engine: &mut dyn Engine, trial: &Trial) -> Judgement {
    judge_and_keep(engine, trial).0
}

/// The same, with what the engine gave for the case.
pub(crate) fn judge_and_keep(engine: &mut dyn Engine, trial: &Trial) -> (Judgement, Option<Outcome>) {
    let case = &trial.case;
    let skipped = |reason| (Judgement::skipped(reason), None);
    let element = case.problem.element();
    let precision = engine.precision(element);
    let Some(precision) = precision.filter(|precision| case.bounds(*precision).is_some()) else {
        return skipped(SkipReason::ElementType(element));
    };
    let domain = engine.domain();
    let has_order = case.problem.has_explicit_order();
    if has_order && !domain.takes_order() && !trial.is_beyond {
        return skipped(SkipReason::Order);
    }
    if let Err(outside) = domain.admits_problem(&case.problem)
        && !trial.is_beyond
    {
        return skipped(SkipReason::Outside(outside.field));
    }
    let start = Instant::now();
    let outcome = run(engine, &domain, trial);
    let in_engine = start.elapsed();
    let (mut sharpest, mut sampled) = (None, None);
    let (verdict, sums, outcome) = match outcome {
        Err(fault) => (Verdict::of_fault(fault), None, None),
        Ok(runs) => {
            let verdict = verdict_on(&runs, trial, precision, &domain, &mut sampled);
            let is_measured = trial.is_measured && !case.is_sampled;
            sharpest = is_measured.then(|| case.sharpest(&domain, &runs.outcome));
            // The right output of another order is another one.
            let is_summed =
                matches!(verdict, Verdict::Agree { .. }) && case.returned_order(&domain, &runs.outcome).is_none();
            let sums = is_summed.then(|| trial.sums(precision, &runs.outcome)).flatten();
            (verdict, sums, Some(runs.outcome))
        }
    };
    let judgement = Judgement {
        verdict,
        sampled,
        sums,
        sharpest,
        engine: in_engine,
        comparing: start.elapsed() - in_engine,
    };
    (judgement, outcome)
}

/// A problem's verdict on an outcome that is there already; none where the problem is not prepared for the precision.
pub fn judge_outcome(trial: &Trial, precision: Precision, domain: &Domain, outcome: &Outcome) -> Option<Verdict> {
    let judged = trial.case.verdict(precision, domain, outcome, trial.is_explained);
    judged.map(|(verdict, _)| verdict)
}

/// What an engine gave for a case, and for the calls before it.
struct Runs {
    outcome: Outcome,
    /// A run for each warm-up call; none where it was declined.
    before: Vec<Option<Outcome>>,
    /// A run of the case's tokens in another batch.
    batch: Option<(Batch, Outcome)>,
}

/// Runs what the engine's claims ask for, then the warm-up calls, then the case. A call before the case that is declined
/// is left out.
fn run(engine: &mut dyn Engine, domain: &Domain, trial: &Trial) -> Result<Runs, Fault> {
    let claims_batches = domain.is_batch_invariant() && !trial.is_beyond;
    let Prepared { problem, expected, .. } = &trial.case;
    let batch = claims_batches.then(|| Batch::of(problem, expected, domain)).flatten();
    let in_batch = match &batch {
        None => None,
        Some(batch) => before(forward(engine, &batch.problem), warmup_call(0, 1))?,
    };
    let is_rerun = domain.is_deterministic() && matches!(trial.before, Before::Same);
    let calls = trial.calls_before();
    let mut runs_before = Vec::new();
    for (number, call) in calls.iter().enumerate() {
        let outcome = if is_rerun {
            caught(|| engine.rerun(&call.problem))
        } else {
            forward(engine, &call.problem)
        };
        runs_before.push(before(outcome, warmup_call(number, calls.len()))?);
    }
    Ok(Runs {
        outcome: forward(engine, &trial.case.problem)?,
        before: runs_before,
        batch: batch.zip(in_batch),
    })
}

/// First whether two runs of the case are the same, then whether the calls before are right, then whether the case is,
/// then whether its tokens have the same rows in another batch.
fn verdict_on(
    runs: &Runs,
    trial: &Trial,
    precision: Precision,
    domain: &Domain,
    sampled: &mut Option<Sampled>,
) -> Verdict {
    if domain.is_deterministic()
        && matches!(trial.before, Before::Same)
        && let [Some(earlier)] = &runs.before[..]
        && let Err(mismatch) = compare_runs(earlier, &runs.outcome)
    {
        return Verdict::Disagree(mismatch);
    }
    let verdict_on = |prepared: &Prepared, outcome: &Outcome| {
        let verdict = prepared.verdict(precision, domain, outcome, trial.is_explained);
        verdict.expect("every problem is prepared for the same precisions")
    };
    let calls = trial.calls_before();
    for (number, (call, outcome)) in calls.iter().zip(&runs.before).enumerate() {
        if let Some(outcome) = outcome
            && let (Verdict::Disagree(mismatch), _) = verdict_on(call, outcome)
        {
            let call = warmup_call(number, calls.len());
            return Verdict::Disagree(Box::new(Mismatch::InWarmup { call, mismatch }));
        }
    }
    let (verdict, of_tokens) = verdict_on(&trial.case, &runs.outcome);
    *sampled = of_tokens;
    match (&verdict, &runs.batch) {
        (Verdict::Disagree(mismatch), _) if matches!(**mismatch, Mismatch::Values { .. }) => {
            let mismatch = mismatch.clone();
            Verdict::Disagree(kept::explained(mismatch, &trial.case, calls, runs, precision, domain))
        }
        (Verdict::Agree { .. }, Some((batch, in_batch))) => batch
            .compare(in_batch, &runs.outcome)
            .map_or_else(Verdict::Disagree, |()| verdict),
        _ => verdict,
    }
}

/// The call of a number from 0.
fn warmup_call(number: usize, of: usize) -> WarmupCall {
    WarmupCall { number: number + 1, of }
}

/// What a call before the case gave; none where it was declined.
fn before(outcome: Result<Outcome, Fault>, call: WarmupCall) -> Result<Option<Outcome>, Fault> {
    match outcome {
        Ok(outcome) => Ok(Some(outcome)),
        Err(Fault::Declined { .. }) => Ok(None),
        Err(Fault::Machine(error)) => Err(error.into()),
        Err(fault) => Err(Fault::InWarmup {
            call,
            fault: Box::new(fault),
        }),
    }
}

/// An engine's verdict on a spec; none where the spec cannot be built.
pub fn judge_spec(engine: &mut dyn Engine, spec: &CaseSpec) -> Option<Verdict> {
    let precisions = precisions_of([&*engine], spec.element);
    let trial = Trial::from_spec(spec, &precisions).ok()?;
    Some(judge(engine, &trial).verdict)
}
