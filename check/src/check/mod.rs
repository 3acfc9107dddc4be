//! A run of engines over many cases.

mod again;
mod contender;
mod measured;
mod pool;
mod result;
mod shapes;
mod shard;
mod source;
mod summary;
mod totals;
mod workers;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

pub use contender::Contender;
pub use measured::Measured;
pub use pool::{AnyEngine, OpenEngine, OpenError};
pub use result::{CaseResult, GoldenCase, Repeats};
pub use shapes::Shapes;
pub use shard::Shard;
pub use summary::{BeyondTotals, End, FailureKind, Summary};
pub use totals::{Declined, EngineTotals};

use self::source::{Case, Sources};
use self::workers::{Judged, Workers};
use crate::case::file::FileError;
use crate::case::{CaseSpec, SpecError};
use crate::domain::{Domain, DomainError};
use crate::engine::{Engine, Stop};
use crate::generate::Selection;
use crate::judge::{Judgement, Shrunk, SkipReason, Verdict, judge_spec, shrink};
use crate::oracle::Coverage;

/// Cases in a row without an answer after which an engine is given up.
const PATIENCE: usize = 10;

/// What a check runs over.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckPlan {
    /// Number of generated cases.
    pub cases: usize,
    /// Case i is the case of seed number `seed + i`.
    pub seed: u64,
    /// What the cases are drawn from. Element types that no engine takes are left out in any case, and so are explicit
    /// orders that are not asked for by name where some engine takes none: the same cases are run without.
    pub selection: Selection,
    /// Files to run before, each with the orders it holds.
    pub golden: Vec<PathBuf>,
    /// Cases to run after the files and before the generated ones, by name.
    pub specs: Vec<(String, CaseSpec)>,
    /// Which of all these cases are run.
    pub shard: Shard,
    /// The shapes of the generated cases.
    pub shapes: Shapes,
    /// The most cases one step beyond the limits of the domain, which run after all others and count apart.
    pub outside: usize,
    /// The fewest cases of each engine that have to be judged; none for a tenth of those that it was asked.
    pub at_least: Option<usize>,
    /// Whether a case that an engine declines inside its domain is a failure.
    pub is_strict: bool,
    /// How often the first failing case of each kind is run again, to tell how often it fails.
    pub repeat: usize,
    /// Whether the sharpest claims that each engine meets are found, which takes several times as long.
    pub measure: bool,
    /// The most cases that are tried to make the first failing case of each kind smaller.
    pub shrink_budget: usize,
    /// Ends the run when it is set. Programs are to be
    /// [stopped by](crate::engine::program::Program::stopped_by) the same.
    pub stop: Stop,
}

impl Default for CheckPlan {
    /// 1,000 cases from seed 0.
    fn default() -> CheckPlan {
        CheckPlan {
            cases: 1000,
            seed: 0,
            selection: Selection::default(),
            golden: Vec::new(),
            specs: Vec::new(),
            shard: Shard::default(),
            shapes: Shapes::Any,
            outside: 0,
            at_least: None,
            is_strict: false,
            repeat: 0,
            measure: false,
            shrink_budget: 500,
            stop: Stop::default(),
        }
    }
}

/// Why a check could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A golden cannot be read.
    #[error("{}: {error}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
    /// A spec cannot be built.
    #[error("{name}: {error}")]
    Spec {
        /// Its name.
        name: String,
        /// What is wrong.
        error: SpecError,
    },
    /// The domains of plan and engines leave no case.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The domain rules out a profile that is asked for by name.
    #[error("profile {profile}: expected one that the domain does not rule out: {domain}")]
    RuledOut {
        /// The profile.
        profile: String,
        /// The domain.
        domain: Box<Domain>,
    },
    /// An engine could be opened once, but not once more.
    #[error("{engine}: could not be opened once more: {error}")]
    Open {
        /// Its name.
        engine: String,
        /// What it says.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What is told of a run while it goes on. A closure that takes results is one.
pub trait Watch {
    /// One engine on one case, in the order of the cases. Where this breaks, the run ends.
    fn result(&mut self, result: &CaseResult) -> ControlFlow<()>;

    /// A failure as soon as it is seen. Its [`result`](Watch::result) follows, after the case is made smaller.
    fn failing(&mut self, _result: &CaseResult) {}

    /// A case is tried to make a failing one smaller: the number of it.
    fn shrinking(&mut self, _tries: usize) {}
}

impl<F: FnMut(&CaseResult) -> ControlFlow<()>> Watch for F {
    fn result(&mut self, result: &CaseResult) -> ControlFlow<()> {
        self(result)
    }
}

/// Checks one engine on this thread.
///
/// # Panics
/// If a golden of the plan cannot be read.
pub fn check_engine(engine: &mut dyn Engine, plan: &CheckPlan) -> Summary {
    let mut contenders = [Contender::single(engine)];
    let mut watch = |_: &CaseResult| ControlFlow::Continue(());
    check(&mut contenders, plan, &mut watch).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks engines on all cores, telling `watch` of it. However a run [ends](End), the summary is that of the results so
/// far.
///
/// # Errors
/// [`CheckError`] if a golden cannot be read, or an engine not be opened for each thread.
pub fn check(contenders: &mut [Contender<'_>], plan: &CheckPlan, watch: &mut dyn Watch) -> Result<Summary, CheckError> {
    let start = Instant::now();
    let sources = Sources::new(contenders, plan)?;
    let workers = Workers::new(contenders);
    let mut run = Run::new(contenders, plan, &sources);
    workers.run(&sources, &plan.stop, |case, judgements| {
        run.record(&case, judgements, contenders, &workers, watch)
    })?;
    if plan.stop.is_set() && run.summary.cases < run.summary.planned {
        run.summary.end = End::Interrupted;
    }
    if run.summary.end == End::Complete {
        run.record_again(contenders, watch)?;
    }
    Ok(Summary {
        elapsed: start.elapsed(),
        ..run.summary
    })
}

/// Totals as they grow.
struct Run {
    summary: Summary,
    /// What plan and engines take, whatever the shapes.
    taken: Domain,
    repeat: usize,
    shrink_budget: usize,
    /// Cases in a row without an answer, for each engine.
    silences: Vec<usize>,
}

impl Run {
    fn new(contenders: &[Contender<'_>], plan: &CheckPlan, sources: &Sources) -> Run {
        let totals = |contender: &Contender<'_>| EngineTotals {
            name: contender.claims().name.clone(),
            precisions: contender
                .claims()
                .precisions
                .iter()
                .map(|(_, precision)| *precision)
                .collect(),
            has_domain: !contender.claims().domain.conditions().is_empty(),
            ..EngineTotals::default()
        };
        let domain = sources.domain().clone();
        let summary = Summary {
            engines: contenders.iter().map(totals).collect(),
            coverage: Coverage::none(),
            planned: sources.len(),
            shard: plan.shard,
            ruled_out: domain.ruled_out(),
            domain,
            at_least: plan.at_least,
            is_strict: plan.is_strict,
            ..Summary::default()
        };
        Run {
            summary,
            taken: sources.taken().clone(),
            repeat: plan.repeat,
            shrink_budget: plan.shrink_budget,
            silences: vec![0; contenders.len()],
        }
    }

    /// Adds a case; engines that the workers have not run are run here.
    fn record(
        &mut self,
        case: &Arc<Case>,
        judgements: Vec<Judged>,
        contenders: &mut [Contender<'_>],
        workers: &Workers,
        watch: &mut dyn Watch,
    ) -> Result<ControlFlow<()>, CheckError> {
        let mut engines = Vec::new();
        for (index, (contender, judgement)) in contenders.iter_mut().zip(judgements).enumerate() {
            let judgement = match judgement {
                _ if self.is_given_up(index) => Judgement::skipped(SkipReason::GivenUp),
                Judged::Done(judgement) => judgement,
                Judged::Left(trial) => contender.with(|engine, again| again.judge(engine, case, &trial))?,
            };
            if let Verdict::NotJudged(error) = &judgement.verdict {
                // The case is none of this run's: not every engine can be judged on it.
                return Ok(self.end(End::of_machine(error)));
            }
            engines.push((index, judgement));
        }
        if case.beyond.is_none() {
            self.summary.add_case(case);
        } else {
            self.summary.cases += 1;
        }
        for (index, judgement) in engines {
            let result = self.record_engine(case, index, &mut contenders[index], judgement, watch)?;
            if self.is_given_up(index) {
                workers.give_up(index);
            }
            if watch.result(&result).is_break() {
                return Ok(self.end(End::Stopped));
            }
        }
        if (0..self.silences.len()).all(|engine| self.is_given_up(engine)) {
            return Ok(self.end(End::GivenUp));
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Asks every engine again what it was right on first. Only what is wrong counts: the case is there already.
    fn record_again(&mut self, contenders: &mut [Contender<'_>], watch: &mut dyn Watch) -> Result<(), CheckError> {
        for (index, contender) in contenders.iter_mut().enumerate() {
            if self.is_given_up(index) {
                continue;
            }
            for (case, judgement) in contender.once_more() {
                if let Verdict::NotJudged(error) = &judgement.verdict {
                    self.summary.end = End::of_machine(error);
                    return Ok(());
                }
                if judgement.verdict.is_failure() {
                    let result = self.record_engine(&case, index, contender, judgement, watch)?;
                    if watch.result(&result).is_break() {
                        self.summary.end = End::Stopped;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, end: End) -> ControlFlow<()> {
        self.summary.end = end;
        ControlFlow::Break(())
    }

    fn is_given_up(&self, engine: usize) -> bool {
        self.silences[engine] >= PATIENCE
    }

    fn record_engine(
        &mut self,
        case: &Case,
        index: usize,
        contender: &mut Contender<'_>,
        judgement: Judgement,
        watch: &mut dyn Watch,
    ) -> Result<CaseResult, CheckError> {
        if let (Some(limit), Some(spec)) = (case.beyond, &case.spec) {
            self.summary.add_beyond(index, limit, spec, &judgement.verdict);
            return Ok(CaseResult {
                verdict: judgement.verdict,
                ..CaseResult::of(case, index)
            });
        }
        if !self.is_given_up(index) {
            let silent = judgement.verdict.is_silence();
            self.silences[index] = if silent { self.silences[index] + 1 } else { 0 };
        }
        let of_kind = self.summary.add_judgement(case, index, &judgement);
        let mut result = CaseResult {
            of_kind,
            verdict: judgement.verdict,
            sampled: judgement.sampled,
            ..CaseResult::of(case, index)
        };
        if result.verdict.is_failure() {
            watch.failing(&result);
            if of_kind == 1 {
                result.repeats = contender.with(|engine, _| self.repeated(&result, engine))?;
            }
            // Each try of a case without an answer would take the whole time limit.
            if of_kind == 1 && !result.verdict.is_time_out() {
                result.shrunk = contender.with(|engine, _| self.shrunk(&result, engine, watch))?;
            }
            if of_kind == 1 {
                self.summary.failures.push(result.clone());
            }
        }
        Ok(result)
    }

    fn repeated(&self, result: &CaseResult, engine: &mut dyn Engine) -> Option<Repeats> {
        let spec = result.spec.as_ref().filter(|_| self.repeat > 0)?;
        let runs = (0..self.repeat).filter_map(|_| judge_spec(engine, spec));
        // What the machine kept from being judged says nothing of the engine.
        let judged = runs.filter(|verdict| !matches!(verdict, Verdict::NotJudged(_)));
        Some(judged.fold(Repeats::default(), |repeats, verdict| Repeats {
            runs: repeats.runs + 1,
            failures: repeats.failures + usize::from(verdict.is_failure()),
        }))
    }

    fn shrunk(&self, result: &CaseResult, engine: &mut dyn Engine, watch: &mut dyn Watch) -> Option<Shrunk> {
        let spec = result.spec.as_ref().filter(|_| self.shrink_budget > 0)?;
        let mut tries = 0;
        // What is tried in place of a large case has other shapes than those that were asked for.
        let all = if spec.sampled {
            &self.taken
        } else {
            &self.summary.domain
        };
        let domain = if all.admits(spec).is_ok() {
            all.clone()
        } else {
            engine.domain()
        };
        Some(shrink(
            spec,
            result.verdict.clone(),
            &domain,
            self.shrink_budget,
            |candidate| {
                tries += 1;
                watch.shrinking(tries);
                judge_spec(engine, candidate)
            },
        ))
    }
}
