//! `serve`: an engine of this crate as a program for `--command`.

use std::path::Path;

use binned_experts::engine::{Engine, GpuEngine, built_in, serve};
use binned_experts_gpu::{Cuda, HOPPER_FP32, POISONS, PORTABLE_FP32};

use super::engines::unknown;
use super::{Failure, Serve};

pub(super) fn run(arguments: &Serve) -> Result<bool, Failure> {
    let name = &arguments.engine;
    let mut engine = match &arguments.image {
        None => built_in(name).ok_or_else(|| unknown(name))??,
        Some(image) => with_image(name, image)?,
    };
    serve(&mut *engine, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(true)
}

/// An engine on the first GPU with other machine code.
#[allow(unsafe_code, reason = "machine code can only be trusted")]
fn with_image(name: &str, path: &Path) -> Result<Box<dyn Engine>, Failure> {
    let image = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // SAFETY: the user names the file, as that of any program to run.
    let machine = unsafe { Cuda::with_image(Cuda::new()?.stream().clone(), image)? };
    let machine = machine.with_poison(POISONS[0]);
    let path = match name {
        "cuda" => &HOPPER_FP32,
        "cuda-portable" => &PORTABLE_FP32,
        _ => return Err(format!("--image: expected the engine cuda or cuda-portable, found {name}").into()),
    };
    Ok(Box::new(GpuEngine::on_cuda(machine, path)?))
}
