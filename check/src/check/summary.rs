//! What a check found.

use std::time::Duration;

use crate::case::CaseSpec;
use crate::judge::{Judgement, Shrunk, SkipReason, Verdict};
use crate::oracle::Inputs;

/// One engine on one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// The case's name: `seed N`, or a golden's file name and order.
    pub case: String,
    /// Its spec, where it was generated.
    pub spec: Option<CaseSpec>,
    /// Position of the engine in the check.
    pub engine: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The first failing case of an engine, made small.
    pub shrunk: Option<Shrunk>,
}

/// Counts of an engine's verdicts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineTotals {
    /// The engine's name.
    pub name: String,
    /// Cases on which it agrees.
    pub agree: usize,
    /// Cases on which it disagrees.
    pub disagree: usize,
    /// Cases on which it gave no result to compare.
    pub fault: usize,
    /// Cases that were not run, by reason.
    pub skips: Vec<(SkipReason, usize)>,
    /// The largest share of a bound that was used.
    pub used: f64,
    /// The case of that share.
    pub used_by: String,
    /// Output elements that some order of summation leaves open.
    pub undecided: usize,
    /// Output elements compared.
    pub elements: usize,
    /// Time spent in the engine.
    pub time: Duration,
}

impl EngineTotals {
    /// Cases that were not run.
    pub fn skipped(&self) -> usize {
        self.skips.iter().map(|(_, count)| count).sum()
    }

    /// Cases that were compared.
    pub fn compared(&self) -> usize {
        self.agree + self.disagree + self.fault
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
    /// The first failure of each engine.
    pub failures: Vec<CaseResult>,
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
    /// Whether every engine was compared on at least one case and failed on none.
    pub fn agrees(&self) -> bool {
        self.is_conclusive()
            && self
                .engines
                .iter()
                .all(|totals| totals.disagree == 0 && totals.fault == 0)
    }

    /// Whether every engine was compared on at least one case.
    pub fn is_conclusive(&self) -> bool {
        !self.engines.is_empty() && self.engines.iter().all(|totals| totals.compared() > 0)
    }

    /// For tests.
    ///
    /// # Panics
    /// If an engine failed on a case, or was compared on none; the message is the report.
    pub fn assert_agrees(&self) {
        assert!(self.agrees(), "{self}");
    }
}

impl EngineTotals {
    pub(super) fn add(&mut self, case: &str, inputs: &Inputs, judgement: &Judgement) {
        self.time += judgement.engine;
        match &judgement.verdict {
            Verdict::Agree { used, undecided } => {
                self.agree += 1;
                self.undecided += undecided;
                self.elements += inputs.dims.tokens * inputs.dims.hidden;
                if *used > self.used || self.used_by.is_empty() {
                    (self.used, self.used_by) = (*used, case.to_owned());
                }
            }
            Verdict::Disagree(_) => self.disagree += 1,
            Verdict::Fault(_) => self.fault += 1,
            Verdict::Skip(reason) => match self.skips.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => self.skips.push((*reason, 1)),
            },
        }
    }
}
