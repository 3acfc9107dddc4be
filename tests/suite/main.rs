//! The tests of the package but for those on a GPU, in one program, so that it is linked once.

#[cfg(feature = "emulator")]
mod batches;
#[cfg(feature = "emulator")]
mod bf16;
mod cases;
mod command;
mod dependencies;
mod domains;
#[cfg(feature = "emulator")]
mod emulated;
mod fuzz_bodies;
mod inside;
#[cfg(feature = "emulator")]
mod layers;
mod needs;
mod planted;
mod python;
mod runner;
#[cfg(feature = "emulator")]
mod tensor_cores;
mod trials;
mod wrong_engines;
#[cfg(feature = "emulator")]
mod zoo;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == planted::PLANTED) {
        return planted::main(&arguments[at + 1..]);
    }
    let trials = [
        #[cfg(feature = "emulator")]
        batches::trials(),
        #[cfg(feature = "emulator")]
        bf16::trials(),
        cases::trials(),
        command::trials(),
        dependencies::trials(),
        domains::trials(),
        fuzz_bodies::trials(),
        inside::trials(),
        #[cfg(feature = "emulator")]
        layers::trials(),
        python::trials(),
        #[cfg(feature = "emulator")]
        tensor_cores::trials(),
        wrong_engines::trials(),
        #[cfg(feature = "emulator")]
        zoo::trials(),
    ];
    trials::run(trials.into_iter().flatten().collect())
}
