//! The bar on a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// What a run is at. Nothing is shown where standard error is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    failures: usize,
}

impl Progress {
    /// A bar for so many steps. Where lines are `streamed` to the same terminal there is none.
    pub fn new(length: usize, streamed: bool) -> Progress {
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

    /// A step is done.
    pub fn step(&self) {
        self.bar.inc(1);
        if self.failures > 0 {
            self.bar.set_message(self.failed());
        }
    }

    /// One of them failed.
    pub fn failing(&mut self) {
        self.failures += 1;
        self.bar.set_message(self.failed());
    }

    /// A case is tried to make a failing one smaller: the number of it.
    pub fn shrinking(&self, tries: usize) {
        self.bar
            .set_message(format!("{}; shrinking, try {tries}", self.failed()));
        self.bar.tick();
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn failed(&self) -> String {
        match self.failures {
            1 => ", 1 failure".to_owned(),
            failures => format!(", {failures} failures"),
        }
    }
}
