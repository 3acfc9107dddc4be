//! Where animals are run: the kernels with a bug as an engine.

#[cfg(feature = "cuda")]
use std::path::PathBuf;

use binned_experts_check::Engine;
use binned_experts_gpu::{EmulatorBuilder, Schedule};

use super::{Animal, BuildError, KernelPath, Kernels, Mode, ZooError, own_kernels};

/// What runs the kernels.
#[derive(Debug)]
pub enum Machine {
    /// The emulator.
    Emulator(EmulatorBuilder),
    #[cfg(feature = "cuda")]
    /// The first GPU. Each engine is a program of its own, since a fault takes the context of its process along.
    Cuda {
        /// The command `binned-experts`.
        program: PathBuf,
        /// What NVRTC compiles for, such as `sm_90a`.
        architecture: String,
    },
}

impl Machine {
    /// The emulator.
    ///
    /// # Errors
    /// [`ZooError::Machine`] without a C++ compiler.
    pub fn emulator() -> Result<Machine, ZooError> {
        Ok(Machine::Emulator(EmulatorBuilder::new()?))
    }

    /// Whether the machine may pass over an animal, as its file says.
    pub(super) fn may_miss(&self, animal: &Animal) -> bool {
        !matches!(self, Machine::Emulator(_)) && animal.unseen_on_gpu.is_some()
    }

    /// The kernels with a bug, or as they are.
    ///
    /// # Errors
    /// [`ZooError`] if the patch does not apply or does not build.
    pub fn engine(&self, animal: Option<&Animal>, path: KernelPath, mode: Mode) -> Result<Box<dyn Engine>, ZooError> {
        let kernels = animal.map_or_else(|| Ok(own_kernels()), Animal::kernels)?;
        let built = match self {
            Machine::Emulator(builder) => on_emulator(builder, &kernels, path, mode),
            #[cfg(feature = "cuda")]
            Machine::Cuda { program, architecture } => {
                super::gpu::engine(program, architecture, &kernels, path.cuda_engine(mode))
            }
        };
        built.map_err(|error| ZooError::Build {
            name: animal.map_or("no patch", |animal| &animal.name).to_owned(),
            error,
        })
    }
}

fn on_emulator(
    builder: &EmulatorBuilder,
    kernels: &Kernels,
    path: KernelPath,
    mode: Mode,
) -> Result<Box<dyn Engine>, BuildError> {
    #[expect(unsafe_code, reason = "an animal is code that runs in this process")]
    // SAFETY: the kernels are those of the crate, but for one place that a file of the zoo changes. Whoever names the
    // zoo's folder trusts its files as code.
    let emulator = unsafe { builder.build(kernels, Schedule::default()) }?;
    Ok(path.on_emulator(emulator, mode)?)
}
