//! Why an engine gave no result that can be compared.

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
    /// It panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// No answer within the time limit.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: f64,
    },
    /// The program ended.
    #[error("the program ended without an answer: {status}")]
    Crashed {
        /// Its exit status.
        status: String,
    },
    /// The program printed something other than an answer.
    #[error("expected {{\"ok\": true}} or {{\"error\": …}} on stdout, found {line:?}")]
    Garbage {
        /// The line.
        line: String,
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
}

impl Fault {
    /// An engine's own error.
    pub fn refused(message: impl std::fmt::Display) -> Fault {
        Fault::Refused {
            message: message.to_string(),
        }
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Refused { .. } => "refused",
            Fault::Panicked { .. } => "panicked",
            Fault::TimedOut { .. } => "timed-out",
            Fault::Crashed { .. } => "crashed",
            Fault::Garbage { .. } => "garbage",
            Fault::MissingOutput { .. } => "missing-output",
            Fault::Unreadable { .. } => "unreadable",
        }
    }
}
