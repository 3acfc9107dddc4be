//! Why an engine gave no result that can be compared.

use super::{MachineError, Rule};
use crate::case::Named;

/// Why an engine gave no result that can be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It reported an error.
    #[error("refused: {message}")]
    Refused {
        /// Its message.
        message: String,
    },
    /// It does not take such cases. A judge makes of it that the case is [declined](crate::Verdict::Declined).
    #[error("declined: {reason}")]
    Declined {
        /// Why.
        reason: String,
    },
    /// A warm-up call before the case failed, so that the case was not run.
    #[error("in {call}: {fault}")]
    InWarmup {
        /// Which call.
        call: WarmupCall,
        /// What happened there.
        fault: Box<Fault>,
    },
    /// It broke a rule of how it is called.
    #[error("{rule}: {message}")]
    Broken {
        /// The rule.
        rule: Rule,
        /// What was expected and what was found.
        message: String,
    },
    /// It panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// The program neither said that it is ready nor answered within the time limit for its start.
    #[error("not ready within {seconds} s of its start{}", tail(stderr))]
    NotReady {
        /// The limit.
        seconds: f64,
        /// The end of its standard error.
        stderr: String,
    },
    /// No answer within the time limit.
    #[error("no answer within {seconds} s{}", tail(stderr))]
    TimedOut {
        /// The limit.
        seconds: f64,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program ended.
    #[error("the program ended without an answer: {status}{}", tail(stderr))]
    Crashed {
        /// Its exit status.
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program printed something other than an answer.
    #[error("expected {expected} on stdout, found {line:?}{}", tail(stderr))]
    Garbage {
        /// What would have been an answer.
        expected: String,
        /// The line, or its start.
        line: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The program answered, but wrote no `output`.
    #[error("output: expected a tensor of this name in the result file, found {found}")]
    MissingOutput {
        /// The names that are there, or that there is no file.
        found: String,
    },
    /// The program's result cannot be read.
    #[error("result file: {message}")]
    Unreadable {
        /// Tensor, what was expected, what was found.
        message: String,
    },
    /// The machine that runs the check failed, not the engine. A judge makes of it
    /// [no verdict on the engine](crate::Verdict::NotJudged).
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// One of the calls that an engine gets just before a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmupCall {
    /// Its number, from 1.
    pub number: usize,
    /// Number of warm-up calls of the case.
    pub of: usize,
}

impl std::fmt::Display for WarmupCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WarmupCall { of: 1, .. } => f.write_str("the warm-up call before the case"),
            WarmupCall { number, of } => write!(f, "warm-up call {number} of {of} before the case"),
        }
    }
}

impl Fault {
    /// An engine's own error.
    pub fn refused(message: impl std::fmt::Display) -> Fault {
        Fault::Refused {
            message: message.to_string(),
        }
    }

    /// A case that the engine does not take.
    pub fn declined(reason: impl std::fmt::Display) -> Fault {
        Fault::Declined {
            reason: reason.to_string(),
        }
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Refused { .. } => "refused",
            Fault::Declined { .. } => "declined",
            Fault::InWarmup { fault, .. } => fault.kind(),
            Fault::Broken { rule, .. } => rule.name(),
            Fault::Panicked { .. } => "panicked",
            Fault::NotReady { .. } => "not-ready",
            Fault::TimedOut { .. } => "timed-out",
            Fault::Crashed { .. } => "crashed",
            Fault::Garbage { .. } => "garbage",
            Fault::MissingOutput { .. } => "missing-output",
            Fault::Unreadable { .. } => "unreadable",
            Fault::Machine(_) => "machine",
        }
    }

    /// Whether the engine did not answer at all.
    pub(crate) fn is_silence(&self) -> bool {
        match self {
            Fault::InWarmup { fault, .. } => fault.is_silence(),
            fault => fault.is_time_out() || matches!(fault, Fault::Crashed { .. }),
        }
    }

    /// Whether a time limit passed without an answer.
    pub(crate) fn is_time_out(&self) -> bool {
        match self {
            Fault::InWarmup { fault, .. } => fault.is_time_out(),
            fault => matches!(fault, Fault::NotReady { .. } | Fault::TimedOut { .. }),
        }
    }
}

/// The end of a standard error below the fault that it explains.
fn tail(stderr: &str) -> String {
    if stderr.is_empty() {
        return String::new();
    }
    let lines: Vec<String> = stderr.lines().map(|line| format!("\n    {line}")).collect();
    format!("\n  the end of its standard error:{}", lines.concat())
}
