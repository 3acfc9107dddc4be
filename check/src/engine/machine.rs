//! What fails on the machine that runs the check, and says nothing about an engine.

use std::path::{Path, PathBuf};

/// A failure of the machine that runs the check. It is no verdict on an engine: the run ends with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// A file of the check's own could not be written or read.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        message: String,
    },
    /// A program that was started before could not be started again.
    #[error("could not start {program:?} again: {message}")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        message: String,
    },
    /// What another run said of its machine.
    #[error("{message}")]
    Reported {
        /// Its words.
        message: String,
    },
    /// The run was [stopped](crate::Stop) while the engine worked.
    #[error("interrupted")]
    Interrupted,
}

impl MachineError {
    pub(crate) fn file(path: &Path, error: &dyn std::fmt::Display) -> MachineError {
        MachineError::File {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }
}
