//! A failure in full, as a report tells it.

use std::fmt;

use super::{indented, sampled_text, verdict_text};
use crate::case::CaseSpec;
use crate::check::{CaseResult, Repeats};
use crate::judge::{Sampled, Shrunk};

/// A failing case with everything needed to run it again.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// The engine's name.
    pub engine: String,
    /// The case's name.
    pub case: String,
    /// Its spec, unless it comes from a file of tensors.
    pub spec: Option<CaseSpec>,
    /// The verdict.
    pub text: String,
    /// How many tokens it is about, where only some were judged by the definition.
    pub sampled: Option<Sampled>,
    /// What it has in common with others.
    pub kind: String,
    /// How it fared when it was run again.
    pub repeats: Option<Repeats>,
    /// The smallest case that was found to fail.
    pub shrunk: Option<ToldShrunk>,
}

/// A case that was made small.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldShrunk {
    /// The case.
    pub spec: CaseSpec,
    /// The verdict on it.
    pub text: String,
    /// Number of cases tried.
    pub tries: usize,
    /// Whether nothing smaller was left to try.
    pub is_smallest: bool,
}

impl Told {
    /// A failure of a run.
    pub fn new(engine: &str, failure: &CaseResult) -> Told {
        let shrunk = |shrunk: &Shrunk| ToldShrunk {
            spec: shrunk.spec.clone(),
            text: verdict_text(&shrunk.verdict),
            tries: shrunk.tries,
            is_smallest: shrunk.is_smallest,
        };
        Told {
            engine: engine.to_owned(),
            case: failure.case.clone(),
            spec: failure.spec.clone(),
            text: verdict_text(&failure.verdict),
            sampled: failure.sampled,
            kind: failure.verdict.likeness(),
            repeats: failure.repeats,
            shrunk: failure.shrunk.as_ref().map(shrunk),
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} fails on {}", self.engine, self.case)?;
        if let Some(spec) = &self.spec {
            writeln!(f, "  {}", spec.summary())?;
        }
        writeln!(f, "{}", indented(&self.text))?;
        if let Some(sampled) = self.sampled {
            writeln!(f, "  sampled   {}", sampled_text(sampled))?;
        }
        if let Some(Repeats { runs, failures }) = self.repeats {
            writeln!(f, "run again, it fails {failures} of {runs} times")?;
        }
        if let Some(shrunk) = &self.shrunk {
            let cut_short = if shrunk.is_smallest { "" } else { " and not to the end" };
            let (tries, summary) = (shrunk.tries, shrunk.spec.summary());
            writeln!(f, "smallest case found, in {tries} tries{cut_short}: {summary}")?;
            writeln!(f, "{}", indented(&shrunk.text))?;
            writeln!(f, "{}", indented(&shrunk.spec.to_string()))?;
        }
        Ok(())
    }
}
