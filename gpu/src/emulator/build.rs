//! Builds the emulator at run time, with other kernels than the crate's own.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use libloading::Library;
use tempfile::TempDir;

use super::interface::{Instance, Interface};
use super::{Emulator, Schedule, unavailable};
use crate::{GpuError, sources};

/// How the files that hold kernels begin; the others are the machine.
const KERNELS: &str = "kernels_";

/// What every file of kernels includes. Most of the time to compile one goes into this header and those of the standard
/// library behind it, so it is compiled once.
const HEADER: &str = "table.h";

/// The folder of this crate's kernels and of the objects.
const OWN: &str = "own";

/// Kernels are run for a few cases, the machine for every access.
const KERNELS_LEVEL: &str = "-O1";

/// Libraries of several emulators live in one process. Of each only the C interface may be seen from outside, since the
/// dynamic linker would let them share the static variables of inline functions.
const FLAGS: [&str; 4] = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"];

/// The emulator without its kernels, compiled: [`build`](EmulatorBuilder::build) adds those of the caller's choice.
///
/// ```
/// use binned_experts_gpu::{EmulatorBuilder, GpuError, Schedule, sources};
///
/// let builder = match EmulatorBuilder::new() {
///     Err(GpuError::Unavailable { .. }) => return Ok(()), // no C++ compiler
///     builder => builder?,
/// };
/// let kernels = sources::KERNELS.map(|(name, text)| (name, text.replace("+ down_proj_bias[", "- down_proj_bias[")));
/// // SAFETY: this crate's kernels, with a minus for a plus.
/// let emulator = unsafe { builder.build(&kernels, Schedule::default()) }?;
/// # Ok::<(), GpuError>(())
/// ```
#[derive(Debug)]
pub struct EmulatorBuilder {
    /// The emulator's sources, and in a folder of its own ([`OWN`]) this crate's kernels with the objects of all. An
    /// include is looked for beside the file first, so no kernels may be beside the emulator.
    folder: TempDir,
    compiler: OsString,
}

impl EmulatorBuilder {
    /// Compiles the emulator with `CXX`, or `c++`, on all cores.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is no compiler of C++17.
    pub fn new() -> Result<EmulatorBuilder, GpuError> {
        let builder = EmulatorBuilder {
            folder: tempfile::tempdir().map_err(refused)?,
            compiler: std::env::var_os("CXX").unwrap_or_else(|| "c++".into()),
        };
        let own = builder.folder.path().join(OWN);
        std::fs::create_dir(&own).map_err(refused)?;
        write(builder.folder.path(), &sources::EMULATOR)?;
        write(&own, &sources::KERNELS)?;
        builder.precompile(HEADER)?;
        builder.compile_each(&own, &compiled().collect::<Vec<_>>())?;
        Ok(builder)
    }

    /// An emulator with these kernels: the files of [`sources::KERNELS`], changed.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the compiler refuses the source.
    ///
    /// # Safety
    /// The text is compiled and runs in this process: its static initialisers in this call, its kernels in any launch.
    /// The caller vouches for it as for code of their own. It must reach memory through the arrays that a kernel is
    /// given and those that it declares, whose bounds are checked, do nothing else that C++ leaves undefined, and keep
    /// nothing from one launch to the next.
    pub unsafe fn build(&self, kernels: &[(&str, String)], schedule: Schedule) -> Result<Emulator, GpuError> {
        let folder = tempfile::tempdir().map_err(refused)?;
        let kernels: Vec<(&str, &str)> = kernels.iter().map(|(name, text)| (*name, text.as_str())).collect();
        write(folder.path(), &kernels)?;
        let changed: Vec<&str> = compiled().filter(|file| includes_change(file, &kernels)).collect();
        self.compile_each(folder.path(), &changed)?;
        let unchanged = self.folder.path().join(OWN);
        let objects = compiled().map(|file| {
            let built = if changed.contains(&file) {
                folder.path()
            } else {
                &unchanged
            };
            built.join(file).with_extension("o")
        });
        self.run(folder.path(), |command| {
            command.args(["-shared", "-o", "kernels.so"]).args(objects)
        })?;
        // SAFETY: the library was built just now from this crate's emulator, which runs nothing at its start, and from
        // the kernels, for whose initialisers the caller vouches.
        let library = unsafe { Library::new(folder.path().join("kernels.so")) }.map_err(refused)?;
        // SAFETY: `launch.cpp` of this crate is part of the library.
        let interface = unsafe { Interface::of(&library) }.map_err(refused)?;
        Ok(Emulator {
            schedule,
            multiprocessors: Emulator::MULTIPROCESSORS,
            // SAFETY: the functions are those of the library, which goes along. The kernels that they run do what the
            // built-in ones do, as the caller vouches: they stay within their arrays and keep nothing.
            instance: unsafe { Instance::new(interface, Some(library)) }?,
        })
    }

    /// Compiles a header, with the flags of the files of kernels. The compiler takes the result for it where it is the
    /// first that a file includes.
    fn precompile(&self, header: &str) -> Result<(), GpuError> {
        self.run(self.folder.path(), |command| {
            let compiled = format!("{header}.gch");
            command
                .args([KERNELS_LEVEL, "-x", "c++-header", header, "-o"])
                .arg(compiled)
        })
    }

    /// Compiles files of the emulator, several at a time, with the kernels of a folder. The objects are written there.
    fn compile_each(&self, folder: &Path, files: &[&str]) -> Result<(), GpuError> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), GpuError> {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                let flags: &[&str] = if file.starts_with(KERNELS) {
                    &[KERNELS_LEVEL, "-include", HEADER]
                } else {
                    &["-O3"]
                };
                self.run(folder, |command| {
                    let machine = self.folder.path();
                    command
                        .args(flags)
                        .args(["-c", "-I.", "-I"])
                        .arg(machine)
                        .arg(machine.join(file))
                })?;
            }
            Ok(())
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(files.len());
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Runs the compiler in a folder.
    fn run<'a>(
        &self,
        folder: &Path,
        arguments: impl FnOnce(&mut Command) -> &mut Command + 'a,
    ) -> Result<(), GpuError> {
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

/// The files that are compiled, each on its own.
fn compiled() -> impl Iterator<Item = &'static str> {
    let names = sources::EMULATOR.iter().map(|(name, _)| *name);
    names.filter(|name| name.ends_with(".cpp"))
}

/// Whether a file of the emulator includes a kernel file that differs from this crate's own, through whatever others.
fn includes_change(file: &str, kernels: &[(&str, &str)]) -> bool {
    let text = |of: &[(&str, &'static str)], name: &str| of.iter().find(|(own, _)| *own == name).map(|(_, text)| *text);
    let given = |name: &str| kernels.iter().find(|(given, _)| *given == name).map(|(_, text)| *text);
    let own = text(&sources::KERNELS, file);
    if own.is_some() && own != given(file) {
        return true;
    }
    let included = own
        .or_else(|| text(&sources::EMULATOR, file))
        .unwrap_or_default()
        .lines();
    included
        .filter_map(|line| line.strip_prefix("#include \"")?.strip_suffix('"'))
        .any(|name| includes_change(name, kernels))
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
