//! Builds the emulator at run time, with other kernels than the crate's own.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use libloading::Library;
use tempfile::TempDir;

use super::interface::{Instance, Interface};
use super::{Emulator, Schedule, unavailable};
use crate::{GpuError, sources};

/// The file that includes the kernels; the machine's other files do without them.
const LAUNCH: &str = "launch.cpp";

/// Libraries of several emulators live in one process. Of each only the C interface may be seen from outside, since the
/// dynamic linker would let them share the static variables of inline functions.
const FLAGS: [&str; 4] = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"];

/// The emulator without its kernels, compiled: [`build`](EmulatorBuilder::build) adds those of the caller's choice.
///
/// ```
/// use binned_experts_gpu::{GpuError, EmulatorBuilder, Schedule, sources};
///
/// let builder = match EmulatorBuilder::new() {
///     Err(GpuError::Unavailable { .. }) => return Ok(()), // no C++ compiler
///     builder => builder?,
/// };
/// let kernels = sources::KERNELS.map(|(name, text)| (name, text.replace("+ down_proj_bias[", "- down_proj_bias[")));
/// let host = builder.build(&kernels, Schedule::default())?;
/// # Ok::<(), GpuError>(())
/// ```
#[derive(Debug)]
pub struct EmulatorBuilder {
    /// The machine's sources and objects.
    folder: TempDir,
    compiler: OsString,
}

impl EmulatorBuilder {
    /// Compiles the machine with `CXX`, or `c++`.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is no compiler of C++17.
    pub fn new() -> Result<EmulatorBuilder, GpuError> {
        let builder = EmulatorBuilder {
            folder: tempfile::tempdir().map_err(refused)?,
            compiler: std::env::var_os("CXX").unwrap_or_else(|| "c++".into()),
        };
        write(builder.folder.path(), &sources::EMULATOR)?;
        builder.compile(builder.folder.path(), |command| {
            command.args(["-O3", "-c"]).args(machine_files())
        })?;
        Ok(builder)
    }

    /// The machine with these kernels: the files of [`sources::KERNELS`], changed.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the compiler refuses the source.
    pub fn build(&self, kernels: &[(&str, String)], schedule: Schedule) -> Result<Emulator, GpuError> {
        let folder = tempfile::tempdir().map_err(refused)?;
        let kernels: Vec<(&str, &str)> = kernels.iter().map(|(name, text)| (*name, text.as_str())).collect();
        write(folder.path(), &kernels)?;
        let machine = self.folder.path();
        self.compile(folder.path(), |command| {
            let objects = machine_files().map(|name| machine.join(name).with_extension("o"));
            command
                .args(["-O1", "-shared", "-o", "kernels.so", "-I.", "-I"])
                .arg(machine)
                .arg(machine.join(LAUNCH))
                .args(objects)
        })?;
        // SAFETY: the library was built just now from this crate's own machine, whose start runs no code but that of
        // the C++ runtime.
        let library = unsafe { Library::new(folder.path().join("kernels.so")) }.map_err(refused)?;
        // SAFETY: the library holds this crate's `launch.cpp`.
        let interface = unsafe { Interface::of(&library) }.map_err(refused)?;
        Ok(Emulator {
            schedule,
            tensor_cores: None,
            // SAFETY: the functions are those of the library, which goes along.
            instance: unsafe { Instance::new(interface, Some(library)) }?,
        })
    }

    /// Runs the compiler in a folder.
    fn compile(&self, folder: &Path, arguments: impl Fn(&mut Command) -> &mut Command) -> Result<(), GpuError> {
        let mut command = Command::new(&self.compiler);
        let output = arguments(command.current_dir(folder).args(FLAGS))
            .output()
            .map_err(|error| {
                refused(format!(
                    "could not run the C++ compiler {:?}: {error}; CXX names another",
                    self.compiler
                ))
            })?;
        if output.status.success() {
            return Ok(());
        }
        Err(refused(String::from_utf8_lossy(&output.stderr)))
    }
}

/// What is compiled without kernels.
fn machine_files() -> impl Iterator<Item = &'static str> {
    let names = sources::EMULATOR.iter().map(|(name, _)| *name);
    names.filter(|name| name.ends_with(".cpp") && *name != LAUNCH)
}

fn write(folder: &Path, files: &[(&str, &str)]) -> Result<(), GpuError> {
    files
        .iter()
        .try_for_each(|(name, text)| std::fs::write(folder.join(name), text))
        .map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> GpuError {
    unavailable(&error.to_string())
}
