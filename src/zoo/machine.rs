//! Where animals are run: the kernels with a bug as an engine.

use std::path::{Path, PathBuf};
use std::time::Duration;

use binned_experts_gpu::{Cuda, EmulatorBuilder, GpuError, Schedule, cuda, sources};
use tempfile::TempDir;

use super::{Animal, Habitat, Kernels, ZooError, own_kernels};
use crate::engine::{Command, Engine, Fault, GpuEngine, Outcome};
use crate::precision::Class;
use crate::tensor::{AnyProblem, ElementType};

/// How long a GPU may take for a case, the start of its program included: a kernel may wait for ever.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// What runs the kernels.
#[derive(Debug)]
pub enum Machine {
    /// The host machine.
    Host(EmulatorBuilder),
    /// The first GPU. Each engine is a program of its own, since a fault takes the context of its process along.
    Cuda {
        /// The command `binned-experts`.
        program: PathBuf,
        /// What NVRTC compiles for, such as `sm_90a`.
        architecture: String,
    },
}

impl Machine {
    /// The host machine.
    ///
    /// # Errors
    /// [`ZooError::Machine`] without a C++ compiler.
    pub fn host() -> Result<Machine, ZooError> {
        Ok(Machine::Host(EmulatorBuilder::new()?))
    }

    /// The first GPU, run by the command `binned-experts` at this path.
    ///
    /// # Errors
    /// [`ZooError::Machine`] without a GPU or NVRTC.
    pub fn cuda(program: PathBuf) -> Result<Machine, ZooError> {
        cuda::compiler_version()?;
        let architecture = Cuda::new()?.architecture()?;
        Ok(Machine::Cuda { program, architecture })
    }

    /// Whether the machine may pass over an animal, as its file says.
    pub(super) fn may_miss(&self, animal: &Animal) -> bool {
        matches!(self, Machine::Cuda { .. }) && animal.unseen_on_gpu.is_some()
    }

    /// The kernels with a bug, or as they are.
    ///
    /// # Errors
    /// [`ZooError`] if the patch does not apply or does not build.
    pub fn engine(&self, animal: Option<&Animal>, habitat: Habitat) -> Result<Box<dyn Engine>, ZooError> {
        let kernels = animal.map_or_else(|| Ok(own_kernels()), Animal::kernels)?;
        let built = match self {
            Machine::Host(builder) => on_host(builder, &kernels, habitat),
            Machine::Cuda { program, architecture } => on_gpu(program, architecture, &kernels, habitat),
        };
        built.map_err(|error| ZooError::Build {
            name: animal.map_or("no patch", |animal| &animal.name).to_owned(),
            error,
        })
    }
}

fn on_host(builder: &EmulatorBuilder, kernels: &Kernels, habitat: Habitat) -> Result<Box<dyn Engine>, BuildError> {
    let host = builder.build(kernels, Schedule::default())?;
    Ok(Box::new(GpuEngine::on_host(host, habitat.path())?))
}

#[allow(unsafe_code, reason = "machine code can only be trusted")]
fn on_gpu(
    program: &Path,
    architecture: &str,
    kernels: &Kernels,
    habitat: Habitat,
) -> Result<Box<dyn Engine>, BuildError> {
    let source = sources::joined(kernels.iter().map(|(_, text)| text.as_str()));
    let image = cuda::compile(&source, architecture)?.image;
    // What a program cannot load would pass for a bug that was caught.
    // SAFETY: nothing is launched.
    unsafe { Cuda::with_image(Cuda::new()?.stream().clone(), image.clone())? };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("kernels.cubin");
    std::fs::write(&path, image)?;
    let engine = match habitat {
        Habitat::Host => "cuda-portable",
        Habitat::HostTensorCores => "cuda",
    };
    let words = [
        &program.to_string_lossy(),
        "serve",
        engine,
        "--image",
        &path.to_string_lossy(),
    ];
    let command = shlex::try_join(words).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(Box::new(Served {
        command: Command::new(&command, Class::Fp32, TIME_LIMIT)?,
        _folder: folder,
    }))
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
    Command(#[from] crate::engine::CommandError),
}

/// A pipeline of this crate in another process.
struct Served {
    command: Command,
    /// Holds the machine code.
    _folder: TempDir,
}

impl Engine for Served {
    fn name(&self) -> &str {
        self.command.name()
    }

    fn class(&self, element: ElementType) -> Option<Class> {
        self.command.class(element)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn takes_order(&self) -> bool {
        true
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.command.forward(problem)
    }
}
