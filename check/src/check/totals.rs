//! What a check found about each engine.

use std::time::Duration;

use super::Measured;
use super::source::Case;
use super::summary::MAX_KINDS;
use crate::case::ElementType;
use crate::engine::text::without_numbers;
use crate::judge::{Judgement, Sampled, Verdict};
use crate::oracle::Precision;
use crate::oracle::sums::Sums;

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
    pub(super) fn least_judged(&self) -> usize {
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

impl EngineTotals {
    pub(super) fn add(&mut self, case: &Case, judgement: &Judgement) {
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
