//! The bar on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// What a run is at. Nothing is shown where standard error is no terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    failures: usize,
}

impl Progress {
    /// A bar for so many steps. Where lines are `streamed` to the same terminal there is none.
    pub(super) fn new(length: usize, streamed: bool) -> Progress {
        let bar = if streamed && std::io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(length as u64)
        };
        let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left{msg}");
        Progress {
            bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
            failures: 0,
        }
    }

    pub(super) fn step(&self) {
        self.bar.inc(1);
        if self.failures > 0 {
            self.bar.set_message(self.failed());
        }
    }

    pub(super) fn failing(&mut self) {
        self.failures += 1;
        self.bar.set_message(self.failed());
    }

    pub(super) fn shrinking(&self, tries: usize) {
        self.bar
            .set_message(format!("{}; shrinking, try {tries}", self.failed()));
        self.bar.tick();
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn failed(&self) -> String {
        match self.failures {
            1 => ", 1 failure".to_owned(),
            failures => format!(", {failures} failures"),
        }
    }
}
