//! A problem with its right results.

use std::collections::BTreeSet;

use super::compare::compare;
use super::sampled::{Large, Sampled};
use super::verdict::{Mismatch, Verdict};
use crate::case::AnyProblem;
use crate::case::stage::{Stage, StageValues};
use crate::domain::{Domain, TieOrder};
use crate::engine::Outcome;
use crate::oracle::{Bounds, Expected, Inputs, Precision, Roundings, claims_on};

/// A problem, what is right, and how far engines of some precisions may be from it.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) problem: AnyProblem,
    pub(super) expected: Expected,
    pub(super) bounds: Vec<(Precision, Bounds)>,
    /// Whether only some tokens are judged by the definition. `expected` and `bounds` are then those of the routing alone,
    /// as if H and I were 0.
    pub(super) is_sampled: bool,
}

impl Prepared {
    pub(super) fn new(problem: AnyProblem, precisions: &[Precision]) -> Prepared {
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), problem.element());
        Prepared::with(problem, expected, precisions, false)
    }

    /// Of a problem of which only some tokens are judged by the definition.
    pub(super) fn sampled(problem: AnyProblem, precisions: &[Precision]) -> Prepared {
        let mut shape = problem.output_shape();
        shape.pop();
        shape.push(0);
        let routing = Expected::new(Inputs::of_routing(&problem), shape, problem.element());
        Prepared::with(problem, routing, precisions, true)
    }

    fn with(problem: AnyProblem, expected: Expected, precisions: &[Precision], is_sampled: bool) -> Prepared {
        let bounds = precisions
            .iter()
            .map(|&precision| (precision, bounds_of(&expected, precision)));
        Prepared {
            bounds: bounds.collect(),
            problem,
            expected,
            is_sampled,
        }
    }

    /// The bounds of a precision that the problem was prepared for.
    pub(super) fn bounds(&self, precision: Precision) -> Option<&Bounds> {
        let known = self.bounds.iter().find(|(known, _)| *known == precision);
        known.map(|(_, bounds)| bounds)
    }

    /// The verdict on an outcome, and where it is one on some tokens, on how many; none where the problem is not prepared
    /// for the precision. Where `is_explained`, one on wrong values of all tokens says which weaker precisions admit them.
    pub(super) fn verdict(
        &self,
        precision: Precision,
        domain: &Domain,
        outcome: &Outcome,
        is_explained: bool,
    ) -> Option<(Verdict, Option<Sampled>)> {
        let ordered = self.returned_order(domain, outcome);
        let ordered = ordered.map(|problem| {
            let prepared = if self.is_sampled {
                Prepared::sampled
            } else {
                Prepared::new
            };
            prepared(problem, &[precision])
        });
        let prepared = ordered.as_ref().unwrap_or(self);
        let bounds = prepared.bounds(precision)?;
        if self.is_sampled {
            let large = Large {
                problem: &prepared.problem,
                routing: &prepared.expected,
                bounds,
                roundings: Roundings::new(precision, prepared.expected.element()),
            };
            let (verdict, sampled) = large.compare(outcome);
            return Some((verdict, Some(sampled)));
        }
        let mut verdict = compare(&prepared.expected, bounds, outcome);
        if is_explained
            && let Verdict::Disagree(mismatch) = &mut verdict
            && let Mismatch::Values { within, .. } = &mut **mismatch
        {
            *within = prepared.holding(precision, outcome);
        }
        Some((verdict, None))
    }

    /// The weaker claims in whose bounds an outcome lies: of the same preset those with one loosening modifier more, or
    /// if none is enough with two, and then coarser presets.
    fn holding(&self, precision: Precision, outcome: &Outcome) -> Vec<Precision> {
        let roundings = |precision: Precision| Roundings::new(precision, self.expected.element());
        let holds = |weaker: &Precision| {
            let bounds = bounds_of(&self.expected, *weaker);
            matches!(compare(&self.expected, &bounds, outcome), Verdict::Agree { .. })
        };
        let changes = |weaker: &Precision| roundings(*weaker) != roundings(precision);
        let mut within = Vec::new();
        // Most wrong results lie within none of them, which one comparison tells.
        if holds(&precision.loosest()) {
            within.extend(precision.loosened().filter(changes).filter(holds));
            if within.is_empty() {
                let twice: BTreeSet<Precision> = precision.loosened().flat_map(Precision::loosened).collect();
                within.extend(twice.into_iter().filter(changes).filter(holds));
            }
        }
        within.extend(precision.coarser().filter(holds));
        within
    }

    /// The sharpest claims in whose bounds an outcome lies, each with the largest share of a bound that it uses. None
    /// where no claim admits it.
    pub(super) fn sharpest(&self, domain: &Domain, outcome: &Outcome) -> Vec<(Precision, f64)> {
        let ordered = self.returned_order(domain, outcome);
        let ordered = ordered.map(|problem| Prepared::new(problem, &[]));
        let expected = &ordered.as_ref().unwrap_or(self).expected;
        let mut sharpest: Vec<(Precision, f64)> = Vec::new();
        for claim in claims_on(expected.element()) {
            if sharpest.iter().any(|(sharper, _)| claim.admits(*sharper)) {
                continue;
            }
            if let Verdict::Agree { used, .. } = compare(expected, &bounds_of(expected, claim), outcome) {
                sharpest.push((claim, used));
            }
        }
        sharpest
    }

    /// The problem in the order that an engine shows, where its domain says that it is judged by it and the order is one
    /// that a sort can give.
    pub(super) fn returned_order(&self, domain: &Domain, outcome: &Outcome) -> Option<AnyProblem> {
        let Some(StageValues::Indices(order)) = outcome.stages.get(Stage::SortedIndices) else {
            return None;
        };
        if domain.tie_order != Some(TieOrder::Returned) || order == self.problem.bins().sorted_indices() {
            return None;
        }
        self.problem.clone().with_order(order.clone()).ok()
    }
}

fn bounds_of(expected: &Expected, precision: Precision) -> Bounds {
    let roundings = Roundings::new(precision, expected.element());
    Bounds::new(expected.inputs(), expected.definition(), roundings)
}
