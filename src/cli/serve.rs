//! `serve`: an engine of this crate as a program for `--command`.

use std::path::Path;

use binned_experts::engines::PipelineEngine;
use binned_experts_check::Engine;
use binned_experts_check::program::serve;
use binned_experts_gpu::{Cuda, Schedule};

use super::engines::{named, opened};
use super::{Failure, Serve};

pub(super) fn run(arguments: &Serve) -> Result<bool, Failure> {
    let name = &arguments.engine;
    let mut engine = match &arguments.image {
        None => opened(named(name)?)?.engine,
        Some(image) => with_image(name, image)?,
    };
    serve(&mut *engine, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(true)
}

/// An engine on the first GPU with other machine code.
fn with_image(name: &str, path: &Path) -> Result<Box<dyn Engine>, Failure> {
    let image = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let machine = Cuda::with_image(Cuda::new()?.stream().clone(), image)?.with_poison(Schedule::POISONS[0]);
    let machine = match named(name)?.name {
        "cuda-hopper" => machine,
        "cuda-portable" => machine.without_tensor_cores(),
        _ => return Err(format!("--image: expected the engine cuda-hopper or cuda-portable, found {name}").into()),
    };
    Ok(Box::new(PipelineEngine::on_cuda(machine)?))
}
