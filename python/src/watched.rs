//! What is seen of a check while it runs.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Instant;

use binned_experts::progress::Progress;
use binned_experts_check::check::{CaseResult, CheckPlan, Watch};

/// Shows the bar on a terminal, and takes down the verdicts.
pub(crate) struct Watched {
    progress: Progress,
    start: Instant,
    /// The verdict on each case by its name.
    pub(crate) verdicts: HashMap<String, &'static str>,
    /// Seconds from the start until each failing case was seen, by its name.
    pub(crate) seen: HashMap<String, f64>,
}

impl Watched {
    pub(crate) fn new(plan: &CheckPlan) -> Watched {
        Watched {
            progress: Progress::new(plan.cases, false),
            start: Instant::now(),
            verdicts: HashMap::new(),
            seen: HashMap::new(),
        }
    }
}

impl Watch for Watched {
    fn result(&mut self, result: &CaseResult) -> ControlFlow<()> {
        self.progress.step();
        self.verdicts.insert(result.case.clone(), result.verdict.kind());
        ControlFlow::Continue(())
    }

    fn failing(&mut self, result: &CaseResult) {
        self.progress.failing();
        let seconds = self.start.elapsed().as_secs_f64();
        self.seen.entry(result.case.clone()).or_insert(seconds);
    }

    fn shrinking(&mut self, tries: usize) {
        self.progress.shrinking(tries);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.progress.finish();
    }
}
