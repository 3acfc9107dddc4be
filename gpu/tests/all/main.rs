//! The tests of the kernels, the machines and the pipeline, in one program.
//!
//! A test that needs what is missing here (a C++ compiler, NVRTC) is ignored, with the reason; with CI set it fails.

#[cfg(feature = "emulator")]
mod emulated;
#[cfg(feature = "cuda")]
mod images;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let trials: Vec<Vec<Trial>> = vec![
        #[cfg(feature = "cuda")]
        images::trials(),
        #[cfg(feature = "emulator")]
        emulated::trials(),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials.into_iter().flatten().collect()).exit();
}

/// A test, which is ignored if what it needs is missing; with CI set it is run all the same.
#[cfg(any(feature = "cuda", feature = "emulator"))]
fn trial(
    name: &str,
    missing: Option<String>,
    run: impl FnOnce() -> Result<(), libtest_mimic::Failed> + Send + 'static,
) -> Trial {
    let missing = missing.filter(|_| std::env::var_os("CI").is_none());
    Trial::ignorable_test(name, move || match missing {
        Some(reason) => Ok(libtest_mimic::Completion::ignored_with(reason)),
        None => run().map(|()| libtest_mimic::Completion::Completed),
    })
}
