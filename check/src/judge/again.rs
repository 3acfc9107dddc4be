//! A case once more, after others.

use std::time::Instant;

use super::compare::compare_runs;
use super::{Judgement, SkipReason, Trial, Verdict, judge_outcome};
use crate::engine::{Engine, Outcome, forward};

/// Runs an engine once more on a case that it was right on, without the calls before it. Its result must be right again;
/// if it claims to be deterministic, with the bits of the earlier one.
pub(crate) fn judge_again(engine: &mut dyn Engine, trial: &Trial, earlier: &Outcome) -> Judgement {
    let element = trial.problem().element();
    let Some(precision) = engine.precision(element) else {
        return Judgement::skipped(SkipReason::ElementType(element));
    };
    let domain = engine.domain();
    let start = Instant::now();
    let outcome = forward(engine, trial.problem());
    let in_engine = start.elapsed();
    let verdict = match outcome {
        Err(fault) => Verdict::of_fault(fault),
        Ok(outcome) => match judge_outcome(trial, precision, &domain, &outcome) {
            None => Verdict::Skip(SkipReason::ElementType(element)),
            Some(Verdict::Agree { used, undecided }) if domain.is_deterministic() => {
                let right = Verdict::Agree { used, undecided };
                compare_runs(earlier, &outcome).map_or_else(Verdict::Disagree, |()| right)
            }
            Some(verdict) => verdict,
        },
    };
    Judgement {
        engine: in_engine,
        comparing: start.elapsed() - in_engine,
        ..Judgement::of(verdict)
    }
}
