//! The kernels on a GPU.

use binned_experts_check::Engine;
use binned_experts_gpu::{Cuda, GpuError, POISONS};
use binned_experts_reference::Problem;

use super::PipelineEngine;
use super::pipeline::{number_of_case, poison_of};

impl PipelineEngine<Cuda> {
    /// A GPU of the caller's choice, such as one with a planted fault; each case decides the poison, if it has one.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn on_cuda(machine: Cuda) -> Result<PipelineEngine<Cuda>, GpuError> {
        PipelineEngine::new("cuda-hopper", machine, set_poison)
    }

    /// The kernels on the first GPU, whose workspace starts poisoned.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda_hopper() -> Result<PipelineEngine<Cuda>, GpuError> {
        PipelineEngine::on_cuda(Cuda::new()?.with_poison(POISONS[0]))
    }

    /// As [`cuda_hopper`](PipelineEngine::cuda_hopper), with the kernels that every GPU runs.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda_portable() -> Result<PipelineEngine<Cuda>, GpuError> {
        let machine = Cuda::new()?.without_tensor_cores();
        PipelineEngine::new("cuda-portable", machine.with_poison(POISONS[0]), set_poison)
    }
}

/// Each case decides the poison.
fn set_poison(cuda: &mut Cuda, problem: &Problem<f32>, order: u64) {
    cuda.set_poison(poison_of(number_of_case(problem, order)));
}

/// The engine `cuda-hopper` or `cuda-portable` with other machine code; none for any other name.
///
/// # Errors
/// An error of the machine.
pub fn with_image(name: &str, image: Vec<u8>) -> Result<Option<Box<dyn Engine>>, GpuError> {
    let machine = || -> Result<Cuda, GpuError> {
        Ok(Cuda::with_image(Cuda::new()?.stream().clone(), image)?.with_poison(POISONS[0]))
    };
    let machine = match name {
        "cuda-hopper" => machine()?,
        "cuda-portable" => machine()?.without_tensor_cores(),
        _ => return Ok(None),
    };
    Ok(Some(Box::new(PipelineEngine::on_cuda(machine)?)))
}
