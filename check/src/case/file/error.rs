//! Why a file could not be read or written.

use std::path::PathBuf;

/// Why a file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its reason.
        source: std::io::Error,
    },
    /// Not a safetensors file.
    #[error("{}: not a safetensors file: {message}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What the parser says.
        message: String,
    },
    /// A tensor is not there.
    #[error("{tensor}: expected a tensor of this name, found {found}")]
    Missing {
        /// Its name.
        tensor: String,
        /// The names that are there.
        found: String,
    },
    /// A tensor has another element type.
    #[error("{tensor}: expected {expected}, found {found}")]
    Type {
        /// Its name.
        tensor: String,
        /// The types that fit.
        expected: String,
        /// The type found.
        found: String,
    },
    /// A tensor has another number of axes.
    #[error("{tensor}: expected {expected}, found shape {found:?}")]
    Rank {
        /// Its name.
        tensor: String,
        /// The axes that fit.
        expected: &'static str,
        /// The shape found.
        found: Vec<usize>,
    },
    /// An index is negative where a position is wanted.
    #[error("{tensor}[{at}]: expected a position, found {found}")]
    Position {
        /// The tensor's name.
        tensor: String,
        /// Flat index of the entry.
        at: usize,
        /// The entry.
        found: i64,
    },
    /// A metadata entry is missing or cannot be read.
    #[error("metadata {key}: expected {expected}, found {found}")]
    Metadata {
        /// Its key.
        key: &'static str,
        /// What fits.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The memory to judge the case could not be had.
    #[error("to judge the case: expected {bytes} bytes of memory, which could not be had")]
    Memory {
        /// What the stages of the case and their bounds take.
        bytes: usize,
    },
    /// The tensors do not make a problem.
    #[error(transparent)]
    Problem(#[from] binned_experts_reference::Error),
}
