//! A run of engines over many cases.

mod contender;
mod source;
mod summary;
mod workers;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

pub use contender::{Contender, OpenEngine};
pub use summary::{CaseResult, EngineTotals, Summary};

use self::source::{Case, Sources};
use self::workers::Workers;
use crate::engine::{Engine, Fault};
use crate::generate::Selection;
use crate::judge::{Judgement, SkipReason, Verdict, judge, judge_spec, shrink};
use crate::oracle::Coverage;
use crate::program::FileError;

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
    /// Files to run besides, each with the orders it holds.
    pub golden: Vec<PathBuf>,
}

impl Default for CheckPlan {
    /// 1,000 cases from seed 0.
    fn default() -> CheckPlan {
        CheckPlan {
            cases: 1000,
            seed: 0,
            selection: Selection::default(),
            golden: Vec::new(),
        }
    }
}

/// Why a check could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// A golden cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// An engine could be opened once, but not once more.
    #[error("{engine}: could not be opened once more: {error}")]
    Open {
        /// Its name.
        engine: String,
        /// What it says.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Checks one engine on this thread.
///
/// # Panics
/// If a golden of the plan cannot be read.
pub fn check_engine(engine: &mut dyn Engine, plan: &CheckPlan) -> Summary {
    let mut contenders = [Contender::single(engine)];
    check(&mut contenders, plan, &mut |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks engines on all cores, handing each result to `watch` as it comes, in the order of the cases. Where `watch`
/// breaks, the run ends there, and the summary is that of the results so far.
///
/// # Errors
/// [`CheckError`] if a golden cannot be read, or an engine not be opened for each thread.
pub fn check(
    contenders: &mut [Contender<'_>],
    plan: &CheckPlan,
    watch: &mut dyn FnMut(&CaseResult) -> ControlFlow<()>,
) -> Result<Summary, CheckError> {
    let start = Instant::now();
    let sources = Sources::new(contenders, plan)?;
    let workers = Workers::new(contenders);
    let mut run = Run::new(contenders);
    workers.run(&sources, |case, judgements| {
        run.record(&case, judgements, contenders, &workers, watch)
    })?;
    Ok(Summary {
        elapsed: start.elapsed(),
        ..run.summary
    })
}

/// Totals as they grow.
struct Run {
    summary: Summary,
    /// Cases in a row without an answer, for each engine.
    silences: Vec<usize>,
}

impl Run {
    fn new(contenders: &[Contender<'_>]) -> Run {
        let totals = |contender: &Contender<'_>| EngineTotals {
            name: contender.name(),
            ..EngineTotals::default()
        };
        let summary = Summary {
            engines: contenders.iter().map(totals).collect(),
            coverage: Coverage::default().named().map(|(name, _)| (name, 0)).to_vec(),
            ..Summary::default()
        };
        Run {
            summary,
            silences: vec![0; contenders.len()],
        }
    }

    /// Adds a case; engines that the workers have not run are run here.
    fn record(
        &mut self,
        case: &Case,
        judgements: Vec<Option<Judgement>>,
        contenders: &mut [Contender<'_>],
        workers: &Workers,
        watch: &mut dyn FnMut(&CaseResult) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.summary.cases += 1;
        self.summary.generating += case.trial.generating;
        self.summary.oracle += case.trial.oracle;
        for ((_, count), (_, holds)) in self.summary.coverage.iter_mut().zip(case.coverage.named()) {
            *count += usize::from(holds);
        }
        for (index, (contender, judgement)) in contenders.iter_mut().zip(judgements).enumerate() {
            let judgement = match judgement {
                _ if self.silences[index] >= PATIENCE => Judgement::skipped(SkipReason::GivenUp),
                Some(judgement) => judgement,
                None => judge(contender.engine(), &case.trial),
            };
            let result = self.record_engine(case, index, contender.engine(), judgement);
            if self.silences[index] >= PATIENCE {
                workers.give_up(index);
            }
            watch(&result)?;
        }
        ControlFlow::Continue(())
    }

    fn record_engine(
        &mut self,
        case: &Case,
        index: usize,
        engine: &mut dyn Engine,
        judgement: Judgement,
    ) -> CaseResult {
        let silent = matches!(
            judgement.verdict,
            Verdict::Fault(Fault::TimedOut { .. } | Fault::Crashed { .. })
        );
        self.silences[index] = match judgement.verdict {
            Verdict::Skip(SkipReason::GivenUp) => PATIENCE,
            _ if silent => self.silences[index] + 1,
            _ => 0,
        };
        self.summary.comparing += judgement.comparing;
        let totals = &mut self.summary.engines[index];
        let first_failure = totals.disagree + totals.fault == 0;
        totals.add(&case.name, case.trial.expected().inputs(), &judgement);
        let shrunk = match &case.spec {
            Some(spec) if first_failure && judgement.verdict.is_failure() => {
                Some(shrink(spec, judgement.verdict.clone(), |candidate| {
                    judge_spec(engine, candidate)
                }))
            }
            _ => None,
        };
        let result = CaseResult {
            case: case.name.clone(),
            spec: case.spec.clone(),
            engine: index,
            verdict: judgement.verdict,
            shrunk,
        };
        if first_failure && result.verdict.is_failure() {
            self.summary.failures.push(result.clone());
        }
        result
    }
}
