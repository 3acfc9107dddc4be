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
    /// Sum over the cases of the mean squared error, in units of the bound. With another activation than that of gpt-oss the
    /// unit is as much larger as the largest share of an honest engine is.
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
        let unit = honest.share_of(case.activation) / honest.share;
        self.mean_squares += case.squares / case.elements as f64 / (unit * unit);
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

    /// The root of [`mean_squares`](Sums::mean_squares) of a case; every case counts alike.
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

#[cfg(test)]
mod tests {
    use binned_experts_reference::ActivationKind;

    use super::super::Projection;
    use super::*;

    const ALPHA: usize = Direction::Alpha as usize;
    const LIMIT: usize = Direction::Limit as usize;

    fn none(precision: Precision) -> Sums {
        Sums {
            precision,
            cases: 0,
            elements: 0,
            mean_squares: 0.0,
            along: Default::default(),
        }
    }

    fn case(error: f64, information: f64) -> CaseSums {
        let mut case = CaseSums {
            activation: ActivationKind::ClampedSwiglu,
            elements: 4,
            squares: 8.0,
            along: Default::default(),
        };
        case.along[LIMIT] = Projection { error, information };
        case
    }

    #[test]
    fn a_case_counts_half_at_the_most_information() {
        let honest = Honest::of(Precision::TF32).unwrap();
        let range = honest.range(Direction::Limit, ActivationKind::ClampedSwiglu);
        let most = honest.most_of_a_case(Direction::Limit);
        let mut sums = none(Precision::TF32);
        for _ in 0..2 {
            sums.add(&case(-3.0, most));
        }
        assert_eq!((sums.cases, sums.elements, sums.mean_squares), (2, 8, 4.0));
        let expected = Sum {
            cases: 2,
            numerator: -3.0,
            denominator: most,
            squares: 4.5,
            middle: most * range.middle,
            shift: most * range.shift,
        };
        assert_eq!(sums.along[LIMIT], expected);
        assert_eq!(sums.along[ALPHA], Sum::default());
    }

    #[test]
    fn a_share_counts_by_what_honest_engines_show_with_the_activation() {
        let mut sums = none(Precision::BF16);
        sums.add(&CaseSums {
            activation: ActivationKind::ReluSquared,
            ..case(0.0, 1.0)
        });
        assert_eq!(sums.mean_squares, 2.0 / (0.35_f64 / 0.08).powi(2));
    }

    #[test]
    fn what_says_nothing_does_not_count() {
        let mut sums = none(Precision::TF32);
        sums.add(&CaseSums {
            elements: 0,
            ..case(1.0, 1.0)
        });
        assert_eq!(sums, none(Precision::TF32));
        for information in [0.0, f64::INFINITY, f64::NAN] {
            sums.add(&case(1.0, information));
        }
        assert_eq!((sums.cases, sums.along[LIMIT]), (3, Sum::default()));
        // No honest engine of the claim is known.
        let mut sums = none(Precision::FP64);
        sums.add(&case(1.0, 1.0));
        assert_eq!(sums, none(Precision::FP64));
        assert!(Sums::new(Precision::FP64).is_none() && sums.estimates().is_empty());
        assert_eq!(Sums::new(Precision::BF16), Some(none(Precision::BF16)));
    }

    #[test]
    fn sums_of_shares_add_up() {
        let of = |times: f64| {
            let mut sums = none(Precision::BF16);
            (sums.cases, sums.elements, sums.mean_squares) = (times as usize, 2 * times as usize, 3.0 * times);
            sums.along[LIMIT] = Sum {
                cases: 4 * times as usize,
                numerator: 5.0 * times,
                denominator: 6.0 * times,
                squares: 7.0 * times,
                middle: 8.0 * times,
                shift: 9.0 * times,
            };
            sums
        };
        let mut sums = of(2.0);
        sums.merge(&of(3.0));
        assert_eq!(sums, of(5.0));
    }

    /// Sums along the limit and alpha; bf16's spreads are 0.06 and 0.07.
    fn along(limit: Sum, alpha: Sum) -> Sums {
        let mut sums = none(Precision::BF16);
        (sums.along[LIMIT], sums.along[ALPHA]) = (limit, alpha);
        sums
    }

    const SUM: Sum = Sum {
        cases: LEAST_CASES,
        numerator: -3.0,
        denominator: 4.0,
        squares: 0.25,
        middle: -0.5,
        shift: 0.5,
    };

    #[test]
    fn an_estimate_deviates_by_what_is_beyond_the_shift() {
        let few = Sum {
            cases: LEAST_CASES - 1,
            ..SUM
        };
        let found = along(SUM, few).estimates();
        let expected = Estimate {
            direction: Direction::Limit,
            found: -0.75,
            error: 0.06 / 2.0,
            deviations: (2.5 - 0.5) / 4.0 / (0.06 / 2.0),
            is_biased: true,
        };
        assert_eq!(found, [expected]);
        // Within the shift nothing deviates.
        let within = Sum { numerator: -1.0, ..SUM };
        let found = along(within, few).estimates();
        assert_eq!((found[0].deviations, found[0].is_biased), (0.0, false));
        // The most deviating comes first.
        let order = |limit, alpha| {
            along(limit, alpha)
                .estimates()
                .iter()
                .map(|one| one.direction)
                .collect::<Vec<_>>()
        };
        assert_eq!(order(SUM, within), [Direction::Limit, Direction::Alpha]);
        assert_eq!(order(within, SUM), [Direction::Alpha, Direction::Limit]);
    }

    #[test]
    fn a_kernel_is_biased_beyond_both_deviations() {
        let is_biased = |sum: Sum| along(sum, Sum::default()).is_biased();
        // Two beyond the shift: four of its own standard errors of ½, and three of ⅔.
        assert!(is_biased(SUM));
        assert!(!is_biased(Sum {
            squares: 4.0 / 9.0,
            ..SUM
        }));
        // Six standard errors of 0.06, and a little more.
        let beyond = |numerator: f64| Sum {
            numerator,
            denominator: 1.0,
            squares: 1e-4,
            middle: 0.0,
            shift: 0.0,
            ..SUM
        };
        assert!(!is_biased(beyond(6.0 * 0.06)));
        assert!(is_biased(beyond(-6.001 * 0.06)));
    }

    #[test]
    fn a_kernel_is_biased_where_its_errors_are_larger_than_honest_ones() {
        let of = |cases: usize, share: f64| Sums {
            cases,
            mean_squares: cases as f64 * share * share,
            ..none(Precision::BF16)
        };
        let honest = of(1, 0.0).honest_share();
        assert_eq!((of(25, 0.5).share(), of(0, 0.0).share(), honest), (0.5, 0.0, 0.08));
        assert_eq!(none(Precision::FP64).honest_share(), f64::INFINITY);
        assert!(of(LEAST_CASES, 0.081).is_biased());
        assert!(!of(LEAST_CASES, 0.079).is_biased());
        assert!(!of(LEAST_CASES - 1, 0.5).is_biased());
    }
}
