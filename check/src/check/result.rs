//! What became of one engine on one case.

use std::path::PathBuf;

use super::source::Case;
use crate::case::CaseSpec;
use crate::domain::Limit;
use crate::judge::{Sampled, Shrunk, SkipReason, Verdict};

/// One engine on one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// The case's name: `seed N`, that of a spec, or a golden's file name and order.
    pub case: String,
    /// Its spec, unless it is a golden or the first case again.
    pub spec: Option<CaseSpec>,
    /// Where it comes from, if it is a golden.
    pub golden: Option<GoldenCase>,
    /// Position of the engine in the check.
    pub engine: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// How many tokens it is a verdict on, where only some were judged by the definition.
    pub sampled: Option<Sampled>,
    /// How many failures of this kind the engine had, this one included; 0 where it is none.
    pub of_kind: usize,
    /// How the first failing case of its kind fared when it was run again.
    pub repeats: Option<Repeats>,
    /// The first failing case of its kind, made small.
    pub shrunk: Option<Shrunk>,
    /// The limit of the domain that the case is beyond. The engine may decline it, and its failures count apart.
    pub beyond: Option<Limit>,
}

impl CaseResult {
    /// The result of an engine that was not asked yet.
    pub(super) fn of(case: &Case, engine: usize) -> CaseResult {
        CaseResult {
            case: case.name.clone(),
            spec: case.spec.clone(),
            golden: case.golden.clone(),
            engine,
            verdict: Verdict::Skip(SkipReason::GivenUp),
            sampled: None,
            of_kind: 0,
            repeats: None,
            shrunk: None,
            beyond: case.beyond,
        }
    }
}

/// A case that was run several times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repeats {
    /// How often.
    pub runs: usize,
    /// How often it failed, in whatever way.
    pub failures: usize,
}

/// A case of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenCase {
    /// The file.
    pub path: PathBuf,
    /// The tensor of it that is the explicit order.
    pub order: Option<String>,
}
