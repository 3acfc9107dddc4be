//! What a check found.

use std::path::PathBuf;
use std::time::Duration;

use super::source::Case;
use super::{Measured, Shard};
use crate::case::{CaseSpec, ElementType, Profile};
use crate::domain::{Domain, Limit};
use crate::engine::text::without_numbers;
use crate::engine::{Fault, MachineError};
use crate::judge::{Judgement, Sampled, Shrunk, SkipReason, Verdict};
use crate::oracle::Precision;
use crate::oracle::sums::Sums;

/// The most kinds of failures, or of reasons, that are told apart; the rest is one more.
const MAX_KINDS: usize = 40;

/// One engine on one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// The case's name: `seed N`, that of a spec, or a golden's file name and order.
    pub case: String,
    /// Its spec, unless it is a golden or the first case again.
    pub spec: Option<CaseSpec>,
    /// Where it comes from, if it is a golden.
    pub golden: Option<GoldenCase>,
    /// Position of the engine in the check.
    pub engine: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// How many tokens it is a verdict on, where only some were judged by the definition.
    pub sampled: Option<Sampled>,
    /// How many failures of this kind the engine had, this one included; 0 where it is none.
    pub of_kind: usize,
    /// How the first failing case of its kind fared when it was run again.
    pub repeats: Option<Repeats>,
    /// The first failing case of its kind, made small.
    pub shrunk: Option<Shrunk>,
    /// The limit of the domain that the case is beyond. The engine may decline it, and its failures count apart.
    pub beyond: Option<Limit>,
}

impl CaseResult {
    /// The result of an engine that was not asked yet.
    pub(super) fn of(case: &Case, engine: usize) -> CaseResult {
        CaseResult {
            case: case.name.clone(),
            spec: case.spec.clone(),
            golden: case.golden.clone(),
            engine,
            verdict: Verdict::Skip(SkipReason::GivenUp),
            sampled: None,
            of_kind: 0,
            repeats: None,
            shrunk: None,
            beyond: case.beyond,
        }
    }
}

/// A case that was run several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeats {
    /// How often.
    pub runs: usize,
    /// How often it failed, in whatever way.
    pub failures: usize,
}

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

/// A case of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenCase {
    /// The file.
    pub path: PathBuf,
    /// The tensor of it that is the explicit order.
    pub order: Option<String>,
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

/// Cases that an engine declined for reasons that look alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declined {
    /// The reason, with `#` for each number.
    pub reason: String,
    /// Number of cases.
    pub cases: usize,
    /// The first of them.
    pub first: String,
}

/// Counts of an engine's verdicts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineTotals {
    /// The engine's name.
    pub name: String,
    /// What it claims on the element types that it takes.
    pub precisions: Vec<Precision>,
    /// Cases on which it agrees.
    pub agree: usize,
    /// Cases on which it disagrees.
    pub disagree: usize,
    /// For each weaker precision, those of them whose values all lie within it.
    pub within: Vec<(Precision, usize)>,
    /// Cases on which it gave no result to compare.
    pub fault: usize,
    /// Cases that were not run, by reason.
    pub skips: Vec<(String, usize)>,
    /// Cases that it declined, by reason.
    pub declined: Vec<Declined>,
    /// Whether it declares a domain, so that what it declines is inside.
    pub has_domain: bool,
    /// The largest share of a bound that was used.
    pub used: f64,
    /// The case of that share.
    pub used_by: String,
    /// Output elements that some order of summation leaves open.
    pub undecided: usize,
    /// Output elements compared.
    pub elements: usize,
    /// Cases of which only some tokens were judged by the definition.
    pub sampled_cases: usize,
    /// The tokens of those cases.
    pub sampled: Sampled,
    /// What its errors add up to on the cases on which it agrees, by precision.
    pub sums: Vec<Sums>,
    /// The claims that admit all its results, by element type, if they were [measured](super::CheckPlan::measure).
    pub measured: Vec<Measured>,
    /// Time spent in the engine.
    pub time: Duration,
    /// Seconds spent in the engine on each case that was compared.
    pub seconds: Vec<f32>,
}

impl EngineTotals {
    /// Cases that were not run.
    pub fn skipped(&self) -> usize {
        self.skips.iter().map(|(_, count)| count).sum()
    }

    /// Cases that it declined.
    pub fn declines(&self) -> usize {
        self.declined.iter().map(|declined| declined.cases).sum()
    }

    /// Cases that it declined although its domain admits them.
    pub fn declined_inside(&self) -> usize {
        if self.has_domain { self.declines() } else { 0 }
    }

    /// The fewest cases that have to be judged if nobody says how many: a tenth of those that it was asked.
    fn least_judged(&self) -> usize {
        (self.compared() + self.declines()).div_ceil(10).max(1)
    }

    /// Cases that were compared.
    pub fn compared(&self) -> usize {
        self.agree + self.failed()
    }

    /// Cases on which it failed.
    pub fn failed(&self) -> usize {
        self.disagree + self.fault
    }

    /// Whether its errors add up to more than those of honest engines.
    pub fn is_biased(&self) -> bool {
        self.sums.iter().any(Sums::is_biased)
    }

    /// The lower median and the largest of the seconds that a case took.
    pub fn median_and_worst(&self) -> Option<(f32, f32)> {
        let mut seconds = self.seconds.clone();
        seconds.sort_unstable_by(f32::total_cmp);
        Some((*seconds.get(seconds.len().checked_sub(1)? / 2)?, *seconds.last()?))
    }
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

impl EngineTotals {
    fn add(&mut self, case: &Case, judgement: &Judgement) {
        self.time += judgement.engine;
        if let Some((precision, case)) = &judgement.sums {
            self.add_sums(*precision, |sums| sums.add(case));
        }
        if let Some(sharpest) = &judgement.sharpest {
            self.measured_on(case.element).add(sharpest);
        }
        if !matches!(
            judgement.verdict,
            Verdict::Skip(_) | Verdict::NotJudged(_) | Verdict::Declined(_)
        ) {
            self.seconds.push(judgement.engine.as_secs_f32());
        }
        if let Some(sampled) = judgement.sampled {
            self.add_sampled(1, sampled);
        }
        match &judgement.verdict {
            Verdict::Agree { used, undecided } => {
                self.agree += 1;
                self.undecided += undecided;
                self.elements += match judgement.sampled {
                    Some(Sampled { judged, tokens }) => case.elements / tokens.max(1) * judged,
                    None => case.elements,
                };
                if *used > self.used || self.used_by.is_empty() {
                    (self.used, self.used_by) = (*used, case.name.clone());
                }
            }
            Verdict::Disagree(mismatch) => {
                self.disagree += 1;
                let within = mismatch.within();
                within.iter().for_each(|precision| self.add_within(*precision, 1));
            }
            Verdict::Fault(_) => self.fault += 1,
            Verdict::NotJudged(_) => {}
            Verdict::Declined(reason) => self.add_declined(&without_numbers(reason), 1, &case.name),
            Verdict::Skip(reason) => self.add_skips(&reason.to_string(), 1),
        }
    }

    /// Adds cases of which only some tokens were judged by the definition.
    pub(crate) fn add_sampled(&mut self, cases: usize, Sampled { judged, tokens }: Sampled) {
        self.sampled_cases += cases;
        self.sampled.judged += judged;
        self.sampled.tokens += tokens;
    }

    /// Adds to the sums of a precision, where honest engines of it are known.
    pub(crate) fn add_sums(&mut self, precision: Precision, add: impl FnMut(&mut Sums)) {
        if !self.sums.iter().any(|sums| sums.precision == precision) {
            self.sums.extend(Sums::new(precision));
            self.sums.sort_unstable_by_key(|sums| sums.precision);
        }
        let known = self.sums.iter_mut().find(|sums| sums.precision == precision);
        known.into_iter().for_each(add);
    }

    /// What is measured on cases of an element type.
    fn measured_on(&mut self, element: ElementType) -> &mut Measured {
        let is = |measured: &Measured| measured.element == element;
        let at = self.measured.iter().position(is).unwrap_or_else(|| {
            self.measured.push(Measured::new(element));
            self.measured.len() - 1
        });
        &mut self.measured[at]
    }

    /// Adds what was measured on other cases.
    pub(crate) fn add_measured(&mut self, measured: &Measured) {
        self.measured_on(measured.element).merge(measured);
    }

    /// Adds wrong results that lie within a weaker precision.
    pub(crate) fn add_within(&mut self, precision: Precision, cases: usize) {
        match self.within.iter_mut().find(|(known, _)| *known == precision) {
            Some((_, count)) => *count += cases,
            None => {
                self.within.push((precision, cases));
                self.within.sort_unstable_by_key(|(precision, _)| *precision);
            }
        }
    }

    pub(crate) fn add_skips(&mut self, reason: &str, cases: usize) {
        match self.skips.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += cases,
            None => self.skips.push((reason.to_owned(), cases)),
        }
    }

    /// Adds declined cases of one reason.
    pub(crate) fn add_declined(&mut self, reason: &str, cases: usize, first: &str) {
        let is_new = !self.declined.iter().any(|declined| declined.reason == reason);
        let reason = if is_new && self.declined.len() >= MAX_KINDS {
            "other reasons"
        } else {
            reason
        };
        match self.declined.iter_mut().find(|declined| declined.reason == reason) {
            Some(declined) => declined.cases += cases,
            None => self.declined.push(Declined {
                reason: reason.to_owned(),
                cases,
                first: first.to_owned(),
            }),
        }
    }
}
