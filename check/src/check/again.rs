//! The first case that an engine is right on, once more after all others.

use std::sync::Arc;

use super::source::Case;
use crate::engine::{Engine, Outcome};
use crate::judge::{Judgement, Trial, Verdict, judge_again, judge_and_keep};

/// What one engine is asked once more at the end of a run.
#[derive(Default)]
pub(super) struct Again(Option<First>);

struct First {
    case: Arc<Case>,
    trial: Arc<Trial>,
    outcome: Outcome,
}

impl Again {
    /// Judges an engine on a case, which is kept if it is the first that the engine is right on. One that takes much memory
    /// is not.
    pub(super) fn judge(&mut self, engine: &mut dyn Engine, case: &Arc<Case>, trial: &Arc<Trial>) -> Judgement {
        let (judgement, outcome) = judge_and_keep(engine, trial);
        let is_right = matches!(judgement.verdict, Verdict::Agree { .. });
        if let Some(outcome) = outcome
            && self.0.is_none()
            && is_right
            && case.beyond.is_none()
            && !trial.is_sampled()
        {
            self.0 = Some(First {
                case: case.clone(),
                trial: trial.clone(),
                outcome,
            });
        }
        judgement
    }

    /// Judges the engine on that case once more; none where there is no such case.
    pub(super) fn once_more(&self, engine: &mut dyn Engine) -> Option<(Case, Judgement)> {
        let First { case, trial, outcome } = self.0.as_ref()?;
        Some((case.again(), judge_again(engine, trial, outcome)))
    }
}
