//! The sums of a run, and what they estimate.

use std::cmp::Ordering;

use super::honest::Honest;
use super::{CaseSums, Direction};
use crate::oracle::Precision;

/// Fewer cases than this say nothing of a direction.
pub const LEAST_CASES: usize = 20;
/// A kernel is biased beyond so many standard errors of honest ones.
pub const MOST_DEVIATIONS: f64 = 6.0;
/// And beyond so many standard errors that follow from how its own cases differ, so that no few cases decide.
const MOST_OWN_DEVIATIONS: f64 = 3.0;

/// What an engine's errors add up to over the cases of one precision on which it agrees.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// The precision that it was judged by.
    pub precision: Precision,
    /// Number of cases with an element that counts.
    pub cases: usize,
    /// Number of elements.
    pub elements: usize,
    /// Sum over the cases of the mean squared error, in units of the bound.
    pub mean_squares: f64,
    /// By direction, in the order of [`Direction::ALL`].
    pub along: [Sum; Direction::ALL.len()],
}

/// The sums along a direction.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// Number of cases that the direction changes.
    pub cases: usize,
    /// Sum of error · slope, by cases and weighted.
    pub numerator: f64,
    /// Sum of slope², weighted alike.
    pub denominator: f64,
    /// Sum of the squares of what each case adds to the numerator.
    pub squares: f64,
    /// The middle of what the numerator may be by the shifts of honest engines.
    pub middle: f64,
    /// How far it may be from there.
    pub shift: f64,
}

/// How much of a direction is in an engine's errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The direction.
    pub direction: Direction,
    /// How much; 0 is right.
    pub found: f64,
    /// The standard error of an honest engine.
    pub error: f64,
    /// How many standard errors lie between it and what honest engines show.
    pub deviations: f64,
    /// Whether no honest engine shows as much.
    pub is_biased: bool,
}

impl Sums {
    /// No case; none where no honest engines of the precision are known.
    pub fn new(precision: Precision) -> Option<Sums> {
        Honest::of(precision)?;
        Some(Sums {
            precision,
            cases: 0,
            elements: 0,
            mean_squares: 0.0,
            along: Default::default(),
        })
    }

    /// Adds a case.
    pub fn add(&mut self, case: &CaseSums) {
        let Some(honest) = Honest::of(self.precision).filter(|_| case.elements > 0) else {
            return;
        };
        self.cases += 1;
        self.elements += case.elements;
        self.mean_squares += case.squares / case.elements as f64;
        for ((sum, projection), direction) in self.along.iter_mut().zip(&case.along).zip(Direction::ALL) {
            let information = projection.information;
            if !(information > 0.0 && information.is_finite()) {
                continue;
            }
            let weight = 1.0 / (1.0 + information / honest.most_of_a_case(*direction));
            let added = weight * projection.error;
            sum.cases += 1;
            sum.numerator += added;
            sum.denominator += weight * information;
            sum.squares += added * added;
            let range = honest.range(*direction, case.activation);
            sum.middle += weight * information * range.middle;
            sum.shift += weight * information * range.shift;
        }
    }

    /// Adds the sums of other cases.
    pub fn merge(&mut self, other: &Sums) {
        self.cases += other.cases;
        self.elements += other.elements;
        self.mean_squares += other.mean_squares;
        for (sum, other) in self.along.iter_mut().zip(&other.along) {
            sum.cases += other.cases;
            sum.numerator += other.numerator;
            sum.denominator += other.denominator;
            sum.squares += other.squares;
            sum.middle += other.middle;
            sum.shift += other.shift;
        }
    }

    /// The estimates of every direction that enough cases say something of, the most deviating first.
    pub fn estimates(&self) -> Vec<Estimate> {
        let Some(honest) = Honest::of(self.precision) else {
            return Vec::new();
        };
        let known = Direction::ALL.iter().zip(&self.along);
        let known = known.filter(|(_, sum)| sum.cases >= LEAST_CASES);
        let mut estimates: Vec<Estimate> = known
            .map(|(&direction, sum)| {
                let found = sum.numerator / sum.denominator;
                let from_middle = (sum.numerator - sum.middle).abs();
                let beyond = ((from_middle - sum.shift) / sum.denominator).max(0.0);
                let error = honest.spread(direction) / sum.denominator.sqrt();
                let deviations = beyond / error;
                let own_deviations = beyond * sum.denominator / sum.squares.sqrt();
                Estimate {
                    direction,
                    found,
                    error,
                    deviations,
                    is_biased: deviations > MOST_DEVIATIONS && own_deviations > MOST_OWN_DEVIATIONS,
                }
            })
            .collect();
        estimates.sort_by(|one, other| other.deviations.partial_cmp(&one.deviations).unwrap_or(Ordering::Equal));
        estimates
    }

    /// The root of the mean squared error, in units of the bound; every case counts alike.
    pub fn share(&self) -> f64 {
        (self.mean_squares / self.cases.max(1) as f64).sqrt()
    }

    /// The largest share of an honest engine.
    pub fn honest_share(&self) -> f64 {
        Honest::of(self.precision).map_or(f64::INFINITY, |honest| honest.share)
    }

    /// Whether no honest engine of the precision has such errors.
    pub fn is_biased(&self) -> bool {
        let is_coarse = self.cases >= LEAST_CASES && self.share() > self.honest_share();
        is_coarse || self.estimates().iter().any(|estimate| estimate.is_biased)
    }
}
