//! Whether a wrong output is right for an earlier call: a kernel that keeps results or weights between calls gives it
//! where other inputs lie at the same addresses, or have the same shapes.

use std::any::Any;
use std::sync::Arc;

use binned_experts_reference::{Error, ExpertWeights, Problem};

use super::Runs;
use super::compare::compare_runs;
use super::prepared::Prepared;
use super::verdict::{Kept, Mismatch, Verdict};
use crate::case::{AnyProblem, CaseElement};
use crate::domain::Domain;
use crate::engine::Outcome;
use crate::oracle::Precision;

/// Which of gate_up_proj, its bias, down_proj and its bias may be kept.
const KEPT_WEIGHTS: [[bool; 4]; 4] = [
    [true; 4],
    [true, false, true, false],
    [true, false, false, false],
    [false, false, true, false],
];

/// The mismatch of a wrong output, with what was kept where anything was. `calls` were right, and `runs` are what the
/// engine gave for them.
pub(super) fn explained(
    mismatch: Box<Mismatch>,
    case: &Prepared,
    calls: &[Prepared],
    runs: &Runs,
    precision: Precision,
    domain: &Domain,
) -> Box<Mismatch> {
    match kept(case, calls, runs, precision, domain) {
        Some((kept, number)) => Box::new(Mismatch::Kept {
            kept,
            call: super::warmup_call(number, calls.len()),
            mismatch,
        }),
        None => mismatch,
    }
}

/// What was kept, and the number from 0 of the call that it is of.
fn kept(
    case: &Prepared,
    calls: &[Prepared],
    runs: &Runs,
    precision: Precision,
    domain: &Domain,
) -> Option<(Kept, usize)> {
    let earlier = || calls.iter().zip(&runs.before).enumerate();
    let is_result = |(_, (_, outcome)): &(usize, (&Prepared, &Option<Outcome>))| {
        outcome.as_ref().is_some_and(|outcome| is_same(outcome, &runs.outcome))
    };
    if let Some((number, _)) = earlier().find(is_result) {
        return Some((Kept::Result, number));
    }
    let is_of_weights = |(_, (call, outcome)): &(usize, (&Prepared, &Option<Outcome>))| {
        outcome.is_some() && is_with_weights_of(case, call, &runs.outcome, precision, domain)
    };
    let (number, _) = earlier().find(is_of_weights)?;
    Some((Kept::Weights, number))
}

/// Whether an output is that of another call, bit for bit. Zeros say nothing.
fn is_same(earlier: &Outcome, later: &Outcome) -> bool {
    let output = |outcome: &Outcome| Outcome::output(outcome.output.clone());
    earlier.output.to_f64().iter().any(|value| *value != 0.0) && compare_runs(&output(earlier), &output(later)).is_ok()
}

/// Whether an outcome is right for a case that has some of the weights of another.
fn is_with_weights_of(
    case: &Prepared,
    call: &Prepared,
    outcome: &Outcome,
    precision: Precision,
    domain: &Domain,
) -> bool {
    with_weights_of(&case.problem, &call.problem).any(|mixed| {
        let verdict = Prepared::new(mixed, &[precision]).verdict(precision, domain, outcome, false);
        // Where any result is right, an agreement says nothing of the weights.
        matches!(verdict, Some((Verdict::Agree { undecided: 0, .. }, _)))
    })
}

/// A problem with some of the weights of another, for each choice of those that may be kept and fit.
pub(super) fn with_weights_of(problem: &AnyProblem, earlier: &AnyProblem) -> impl Iterator<Item = AnyProblem> {
    let weights = earlier.weights();
    KEPT_WEIGHTS.iter().filter_map(move |kept| {
        let mixed = with_problem!(problem, problem => mixed(problem, &weights, kept));
        mixed?.ok()
    })
}

/// A problem with those of another's weights that are kept; none where they do not fit.
fn mixed<T: CaseElement>(
    problem: &Problem<T>,
    earlier: &Arc<dyn Any + Send + Sync>,
    kept: &[bool; 4],
) -> Option<Result<AnyProblem, Error>> {
    let earlier = earlier.downcast_ref::<ExpertWeights<T>>()?;
    let mut weights = mixed_weights(problem.weights(), earlier, *kept)?;
    if let (Some(later), Some(earlier)) = (problem.weights().shared(), earlier.shared()) {
        weights = weights.with_shared(mixed_weights(later, earlier, *kept)?).ok()?;
    }
    Some(problem.clone().with_weights(weights).map(T::problem))
}

/// Weights of which some are those of earlier ones; none where they do not fit.
fn mixed_weights<T: CaseElement>(
    later: &ExpertWeights<T>,
    earlier: &ExpertWeights<T>,
    [gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias]: [bool; 4],
) -> Option<ExpertWeights<T>> {
    let of = |kept: bool| if kept { earlier } else { later };
    let parts = (
        of(gate_up_proj).gate_up_proj().clone(),
        of(gate_up_proj_bias).gate_up_proj_bias().clone(),
        of(down_proj).down_proj().clone(),
        of(down_proj_bias).down_proj_bias().clone(),
    );
    let mixed = if later.has_ups() {
        ExpertWeights::new(parts.0, parts.1, parts.2, parts.3)
    } else {
        ExpertWeights::without_ups(parts.0, parts.1, parts.2, parts.3)
    };
    mixed.ok()
}
