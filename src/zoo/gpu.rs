//! Bugs on a GPU. Each engine is a program of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use binned_experts_check::engine::program::{Limits, Program};
use binned_experts_check::{AnyProblem, Domain, Engine, Fault, Outcome, Stop};
use binned_experts_gpu::{Cuda, cuda, sources};
use tempfile::TempDir;

use super::BuildError;
use super::{Kernels, Machine, ZooError};

/// How long a GPU may take: a kernel may wait for ever.
const LIMITS: Limits = Limits {
    start: Duration::from_secs(60),
    case: Duration::from_secs(60),
};

impl Machine {
    /// The first GPU, run by the command `binned-experts` at this path.
    ///
    /// # Errors
    /// [`ZooError::Machine`] without a GPU or NVRTC.
    pub fn cuda(program: PathBuf) -> Result<Machine, ZooError> {
        cuda::compiler_version()?;
        let architecture = Cuda::new()?.architecture()?;
        Ok(Machine::Cuda { program, architecture })
    }
}

/// The engine of this name on the first GPU, with these kernels.
pub(super) fn engine(
    program: &Path,
    architecture: &str,
    kernels: &Kernels,
    name: &str,
) -> Result<Box<dyn Engine>, BuildError> {
    let source = sources::joined(kernels.iter().map(|(_, text)| text.as_str()));
    let image = cuda::compile(&source, architecture)?.image;
    // What a program cannot load would pass for a bug that was caught.
    #[expect(unsafe_code, reason = "machine code can only be trusted")]
    // SAFETY: nothing is launched.
    unsafe { Cuda::with_image(Cuda::new()?.stream().clone(), image.clone()) }?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kernels.cubin");
    std::fs::write(&path, image)?;
    let words = [
        &program.to_string_lossy(),
        "serve",
        name,
        "--image",
        &path.to_string_lossy(),
    ];
    let command = shlex::try_join(words).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(Box::new(Served {
        program: Program::described(&command, LIMITS, &Stop::default())?,
        _folder: folder,
    }))
}

/// A pipeline of this crate in another process.
struct Served {
    program: Program,
    /// Holds the machine code.
    _folder: TempDir,
}

impl Engine for Served {
    fn name(&self) -> &str {
        self.program.name()
    }

    fn domain(&self) -> Domain {
        self.program.domain()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.program.forward(problem)
    }
}
