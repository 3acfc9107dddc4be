//! Why the zoo cannot be visited.

use std::path::PathBuf;

use binned_experts_check::MachineError;
use binned_experts_check::engine::program::ProgramError;
use binned_experts_gpu::GpuError;

/// Why the zoo cannot be visited.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A file or the directory cannot be read.
    #[error("{path}: {error}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong.
        error: std::io::Error,
    },
    /// A file is not an animal.
    #[error("{name}: {message}")]
    Syntax {
        /// The animal.
        name: String,
        /// What was expected and what was found.
        message: String,
    },
    /// There is no kernel file of this name.
    #[error("{name}: expected the name of a kernel file, found {file}")]
    File {
        /// The animal.
        name: String,
        /// The name found.
        file: String,
    },
    /// The patch does not apply.
    #[error("{name}: expected the old text once in {file}, found it {found} times")]
    Patch {
        /// The animal.
        name: String,
        /// The kernel file.
        file: String,
        /// How often the text is there.
        found: usize,
    },
    /// The machine that runs the cases failed.
    #[error(transparent)]
    Judge(#[from] MachineError),
    /// The machine cannot be built.
    #[error(transparent)]
    Machine(#[from] GpuError),
    /// The kernels do not build.
    #[error("{name}: {error}")]
    Build {
        /// The animal.
        name: String,
        /// What the compiler says.
        error: BuildError,
    },
}

/// Why kernels cannot be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The compiler, or the device.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// The file of the machine code.
    #[error(transparent)]
    File(#[from] std::io::Error),
    /// The program that runs it.
    #[error(transparent)]
    Command(#[from] ProgramError),
}
