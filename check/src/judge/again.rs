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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::Domain;
    use crate::engine::{Fault, Reference};
    use crate::oracle::Precision;
    use crate::{AnyProblem, CaseSpec, ElementType, Selection};

    /// The reference after some time.
    struct Slow;

    const TIME: Duration = Duration::from_millis(50);

    impl Engine for Slow {
        fn name(&self) -> &str {
            "slow"
        }

        fn domain(&self) -> Domain {
            Domain::default()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            std::thread::sleep(TIME);
            Reference.forward(problem)
        }
    }

    #[test]
    fn the_time_of_the_engine_and_of_the_comparison_are_told_apart() {
        let selection = Selection {
            elements: vec![ElementType::F32],
            ..Selection::small()
        };
        let trial = Trial::from_spec(&CaseSpec::from_seed(1, &selection), &[Precision::FP32]).unwrap();
        let earlier = Reference.forward(trial.problem()).unwrap();
        let start = Instant::now();
        let judgement = judge_again(&mut Slow, &trial, &earlier);
        let all = start.elapsed();
        assert!(matches!(judgement.verdict, Verdict::Agree { .. }), "{judgement:?}");
        assert!(judgement.engine >= TIME && judgement.comparing > Duration::ZERO);
        assert!(
            judgement.engine + judgement.comparing <= all,
            "{judgement:?} in {all:?}"
        );
    }
}
