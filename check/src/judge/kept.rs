//! Whether a wrong output is right for an earlier call: a kernel that keeps results or weights between calls gives it
//! where other inputs lie at the same addresses, or have the same shapes.

use super::Runs;
use super::compare::compare_runs;
use super::mixed::with_weights_of;
use super::prepared::Prepared;
use super::verdict::{Kept, Mismatch, Verdict};
use crate::domain::Domain;
use crate::engine::Outcome;
use crate::oracle::Precision;

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
