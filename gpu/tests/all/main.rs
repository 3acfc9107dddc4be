//! The tests of the kernels, the machines and the pipeline, in one program.

#[cfg(feature = "emulator")]
mod emulated;
#[cfg(feature = "cuda")]
mod images;
#[cfg_attr(
    not(any(feature = "cuda", feature = "emulator")),
    expect(dead_code, reason = "without a machine there is nothing to test")
)]
#[path = "../../../tests/suite/trials.rs"]
mod trials;

use std::process::ExitCode;

fn main() -> ExitCode {
    let trials = [
        vec![],
        #[cfg(feature = "cuda")]
        images::trials(),
        #[cfg(feature = "emulator")]
        emulated::trials(),
    ];
    trials::run(trials.into_iter().flatten().collect())
}
