//! What a check found.

use std::time::Duration;

use super::source::Case;
use super::{CaseResult, EngineTotals, Shard};
use crate::case::{CaseSpec, Profile};
use crate::domain::{Domain, Limit};
use crate::engine::{Fault, MachineError};
use crate::judge::{Judgement, Verdict};

/// The most kinds of failures, or of reasons, that are told apart; the rest is one more.
pub(super) const MAX_KINDS: usize = 40;

/// What an engine did with cases one step beyond a limit of the domain.
#[derive(Debug, Clone, PartialEq)]
pub struct BeyondTotals {
    /// Position of the engine in the check.
    pub engine: usize,
    /// The limit: a field of the domain.
    pub limit: String,
    /// Cases with a right result.
    pub right: usize,
    /// Cases that it declined or refused.
    pub declined: usize,
    /// Cases with a wrong result, and no word of it.
    pub wrong: usize,
    /// Cases that it did not answer.
    pub unanswered: usize,
    /// The first case with a wrong result or no answer, and the verdict on it.
    pub first: Option<Box<(CaseSpec, Verdict)>>,
}

impl BeyondTotals {
    /// Whether it gave a wrong result or no answer.
    pub fn is_bad(&self) -> bool {
        self.wrong + self.unanswered > 0
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// After its last case.
    #[default]
    Complete,
    /// Every engine was given up, since it gave no answer to ten cases in a row.
    GivenUp,
    /// Its watcher ended it.
    Stopped,
    /// It was [stopped](crate::Stop).
    Interrupted,
    /// The machine failed.
    Machine(MachineError),
}

impl End {
    /// By what kept an engine from being judged.
    pub(super) fn of_machine(error: &MachineError) -> End {
        match error {
            MachineError::Interrupted => End::Interrupted,
            error => End::Machine(error.clone()),
        }
    }
}

/// Failures of an engine that look alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureKind {
    /// Position of the engine in the check.
    pub engine: usize,
    /// What they have in common.
    pub text: String,
    /// Number of cases.
    pub cases: usize,
    /// The first of them.
    pub first: String,
}

/// The whole run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// One entry an engine.
    pub engines: Vec<EngineTotals>,
    /// Number of cases.
    pub cases: usize,
    /// In how many cases each situation occurred.
    pub coverage: Vec<(&'static str, usize)>,
    /// Number of cases that were to be run.
    pub planned: usize,
    /// The share of the check that was run.
    pub shard: Shard,
    /// What the cases were drawn inside of.
    pub domain: Domain,
    /// The profiles that it rules out.
    pub ruled_out: Vec<Profile>,
    /// The fewest cases of an engine that have to be judged; none for a tenth of those that it was asked.
    pub at_least: Option<usize>,
    /// Whether a case that is declined inside a domain is a failure.
    pub is_strict: bool,
    /// How the run ended.
    pub end: End,
    /// The first failure of each kind.
    pub failures: Vec<CaseResult>,
    /// All failures, by engine and kind.
    pub kinds: Vec<FailureKind>,
    /// What engines did beyond each limit of the domain.
    pub beyond: Vec<BeyondTotals>,
    /// Processor time spent building problems.
    pub generating: Duration,
    /// Processor time spent on the definition and the bounds.
    pub oracle: Duration,
    /// Processor time spent comparing.
    pub comparing: Duration,
    /// Wall time of the whole run.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether the run is complete, and every engine was compared on enough cases, failed on none and is not
    /// biased.
    pub fn agrees(&self) -> bool {
        self.end == End::Complete && self.is_conclusive() && !self.has_failures()
    }

    /// Whether an engine failed on a case, or is biased.
    pub fn has_failures(&self) -> bool {
        let is_bad = |totals: &EngineTotals| self.has_failed(totals) || totals.is_biased();
        self.engines.iter().any(is_bad)
    }

    /// Whether an engine failed on a case; where that counts, also whether it declined one inside its domain, or gave a
    /// wrong result or no answer beyond it.
    pub fn has_failed(&self, totals: &EngineTotals) -> bool {
        let beyond = self
            .beyond
            .iter()
            .filter(|beyond| self.engines[beyond.engine].name == totals.name);
        let is_bad = || totals.declined_inside() > 0 || beyond.into_iter().any(BeyondTotals::is_bad);
        totals.failed() > 0 || self.is_strict && is_bad()
    }

    /// Whether every engine was compared on enough cases.
    pub fn is_conclusive(&self) -> bool {
        let enough = |totals: &EngineTotals| totals.compared() >= self.least_judged(totals);
        !self.engines.is_empty() && self.engines.iter().all(enough)
    }

    /// The fewest cases of an engine that have to be judged.
    pub fn least_judged(&self, totals: &EngineTotals) -> usize {
        self.at_least.unwrap_or_else(|| totals.least_judged()).max(1)
    }

    /// For tests.
    ///
    /// # Panics
    /// If an engine failed on a case, is biased, or was compared on too few; the message is the report.
    pub fn assert_agrees(&self) {
        assert!(self.agrees(), "{self}");
    }

    pub(super) fn add_case(&mut self, case: &Case) {
        self.cases += 1;
        self.generating += case.generating;
        self.oracle += case.oracle;
        for ((_, count), (_, holds)) in self.coverage.iter_mut().zip(case.coverage.named()) {
            *count += usize::from(holds);
        }
    }

    /// Adds one engine's. Where it is a failure, the number of those of its kind so far; otherwise 0.
    pub(super) fn add_judgement(&mut self, case: &Case, engine: usize, judgement: &Judgement) -> usize {
        self.comparing += judgement.comparing;
        self.engines[engine].add(case, judgement);
        if judgement.verdict.is_failure() {
            self.add_kind(engine, &judgement.verdict.likeness(), 1, &case.name)
        } else {
            0
        }
    }

    /// Adds one engine's verdict on a case beyond the domain.
    pub(super) fn add_beyond(&mut self, engine: usize, limit: Limit, spec: &CaseSpec, verdict: &Verdict) {
        let totals = self.beyond_totals(engine, &limit.to_string());
        match verdict {
            Verdict::Agree { .. } => totals.right += 1,
            Verdict::Declined(_) | Verdict::Fault(Fault::Refused { .. }) => totals.declined += 1,
            Verdict::Disagree(_) => totals.wrong += 1,
            Verdict::Fault(_) => totals.unanswered += 1,
            Verdict::Skip(_) | Verdict::NotJudged(_) => {}
        }
        if totals.is_bad() {
            totals
                .first
                .get_or_insert_with(|| Box::new((spec.clone(), verdict.clone())));
        }
    }

    /// The totals of an engine beyond a limit.
    pub(crate) fn beyond_totals(&mut self, engine: usize, limit: &str) -> &mut BeyondTotals {
        let is = |beyond: &BeyondTotals| beyond.engine == engine && beyond.limit == limit;
        let at = self.beyond.iter().position(is).unwrap_or_else(|| {
            self.beyond.push(BeyondTotals {
                engine,
                limit: limit.to_owned(),
                right: 0,
                declined: 0,
                wrong: 0,
                unanswered: 0,
                first: None,
            });
            self.beyond.len() - 1
        });
        &mut self.beyond[at]
    }

    /// Adds failing cases of one kind, and returns how many there are now.
    pub(crate) fn add_kind(&mut self, engine: usize, text: &str, cases: usize, first: &str) -> usize {
        let is = |kind: &FailureKind, text: &str| kind.engine == engine && kind.text == text;
        let is_new = !self.kinds.iter().any(|kind| is(kind, text));
        let text = if is_new && self.kinds.len() >= MAX_KINDS {
            "other failures"
        } else {
            text
        };
        let at = self.kinds.iter().position(|kind| is(kind, text)).unwrap_or_else(|| {
            self.kinds.push(FailureKind {
                engine,
                text: text.to_owned(),
                cases: 0,
                first: first.to_owned(),
            });
            self.kinds.len() - 1
        });
        self.kinds[at].cases += cases;
        self.kinds[at].cases
    }
}
