//! What a line of JSON says of an engine's totals.

use std::time::Duration;

use serde::Deserialize;

use super::MAX_TEXT;
use crate::case::ElementType;
use crate::check::{EngineTotals, Measured};
use crate::engine::text::clean;
use crate::judge::Sampled;
use crate::oracle::Precision;
use crate::oracle::sums::{Direction, Sum, Sums};

/// The totals of an engine.
#[derive(Deserialize)]
pub(super) struct EngineLine {
    pub(super) engine: String,
    #[serde(default)]
    precision: Vec<Precision>,
    agree: usize,
    disagree: usize,
    #[serde(default)]
    within: Vec<WithinLine>,
    fault: usize,
    #[serde(default)]
    declines: Vec<DeclinedLine>,
    #[serde(default)]
    declined_inside: usize,
    skips: Vec<SkipLine>,
    used: f64,
    used_by: String,
    undecided: usize,
    elements: usize,
    #[serde(default)]
    sampled_cases: usize,
    #[serde(default)]
    sampled: SampledLine,
    #[serde(default)]
    measured: Vec<MeasuredLine>,
    #[serde(default)]
    sums: Vec<SumsLine>,
    seconds: f64,
}

impl EngineLine {
    pub(super) fn add_to(self, totals: &mut EngineTotals) {
        totals.precisions = self.precision;
        totals.agree += self.agree;
        totals.disagree += self.disagree;
        totals.fault += self.fault;
        for WithinLine { precision, cases } in self.within {
            totals.add_within(precision, cases);
        }
        totals.has_domain |= self.declined_inside > 0;
        for DeclinedLine { reason, cases, first } in self.declines {
            totals.add_declined(&clean(&reason, MAX_TEXT), cases, &first);
        }
        for SkipLine { reason, cases } in self.skips {
            totals.add_skips(&reason, cases);
        }
        if self.used > totals.used || totals.used_by.is_empty() {
            (totals.used, totals.used_by) = (self.used, self.used_by);
        }
        totals.undecided += self.undecided;
        totals.elements += self.elements;
        totals.add_sampled(self.sampled_cases, self.sampled.sampled());
        for line in self.measured {
            totals.add_measured(&line.measured());
        }
        for line in self.sums {
            totals.add_sums(line.precision, |sums| sums.merge(&line.sums()));
        }
        totals.time += seconds(self.seconds);
    }
}

#[derive(Default, Deserialize)]
pub(super) struct SampledLine {
    judged: usize,
    tokens: usize,
}

impl SampledLine {
    pub(super) fn sampled(self) -> Sampled {
        let SampledLine { judged, tokens } = self;
        Sampled { judged, tokens }
    }
}

#[derive(Deserialize)]
struct MeasuredLine {
    element: ElementType,
    cases: usize,
    claims: Vec<ClaimLine>,
}

impl MeasuredLine {
    fn measured(self) -> Measured {
        let claims = self.claims.into_iter().map(|line| (line.precision, line.used));
        Measured::of(self.element, self.cases, claims.collect())
    }
}

#[derive(Deserialize)]
struct ClaimLine {
    precision: Precision,
    used: f64,
}

#[derive(Deserialize)]
struct SumsLine {
    precision: Precision,
    cases: usize,
    elements: usize,
    mean_squares: f64,
    along: Vec<SumLine>,
}

impl SumsLine {
    fn sums(&self) -> Sums {
        let mut sums = Sums {
            precision: self.precision,
            cases: self.cases,
            elements: self.elements,
            mean_squares: self.mean_squares,
            along: Default::default(),
        };
        for line in &self.along {
            sums.along[line.direction as usize] = Sum {
                cases: line.cases,
                numerator: line.numerator,
                denominator: line.denominator,
                squares: line.squares,
                middle: line.middle,
                shift: line.shift,
            };
        }
        sums
    }
}

#[derive(Deserialize)]
struct SumLine {
    direction: Direction,
    cases: usize,
    numerator: f64,
    denominator: f64,
    squares: f64,
    #[serde(default)]
    middle: f64,
    shift: f64,
}

#[derive(Deserialize)]
struct WithinLine {
    precision: Precision,
    cases: usize,
}

#[derive(Deserialize)]
struct SkipLine {
    reason: String,
    cases: usize,
}

#[derive(Deserialize)]
struct DeclinedLine {
    reason: String,
    cases: usize,
    first: String,
}

pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
