//! The kernels on a GPU.

use binned_experts_check::Engine;
use binned_experts_gpu::{Cuda, GpuError, HOPPER_FP32, Machine, POISONS, PORTABLE_FP32, Path};
use binned_experts_reference::Problem;

use super::PipelineEngine;
use super::pipeline::{number_of_case, poison_of};

impl PipelineEngine<Cuda> {
    /// A GPU and a path of the caller's choice, such as a GPU with a planted fault; each case decides the poison, if it
    /// has one.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the GPU does not run the kernels of the path; an error of the machine.
    pub fn on_cuda(machine: Cuda, path: &'static Path) -> Result<PipelineEngine<Cuda>, GpuError> {
        if path.needs_hopper() && !machine.capabilities().has_hopper {
            return Err(GpuError::Unavailable {
                machine: machine.name(),
                reason: "expected a device of compute capability 9.0; cuda-portable runs on any".to_owned(),
            });
        }
        let name = if path.needs_hopper() {
            "cuda-hopper"
        } else {
            "cuda-portable"
        };
        PipelineEngine::new(name, machine, path, set_poison)
    }

    /// The kernels for Hopper's tensor cores on the first GPU, whose workspace starts poisoned.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none, or it is of another architecture.
    pub fn cuda_hopper() -> Result<PipelineEngine<Cuda>, GpuError> {
        PipelineEngine::on_cuda(Cuda::new()?.with_poison(POISONS[0]), &HOPPER_FP32)
    }

    /// As [`cuda_hopper`](PipelineEngine::cuda_hopper), with the kernels that every GPU runs.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda_portable() -> Result<PipelineEngine<Cuda>, GpuError> {
        PipelineEngine::on_cuda(Cuda::new()?.with_poison(POISONS[0]), &PORTABLE_FP32)
    }
}

/// Each case decides the poison.
fn set_poison(cuda: &mut Cuda, problem: &Problem<f32>, order: u64) {
    cuda.set_poison(poison_of(number_of_case(problem, order)));
}

/// The engine `cuda-hopper` or `cuda-portable` with other machine code; none for any other name.
///
/// # Safety
/// As for [`Cuda::with_image`].
///
/// # Errors
/// An error of the machine.
#[expect(unsafe_code, reason = "machine code can only be trusted")]
pub unsafe fn with_image(name: &str, image: Vec<u8>) -> Result<Option<Box<dyn Engine>>, GpuError> {
    let path = match name {
        "cuda-hopper" => &HOPPER_FP32,
        "cuda-portable" => &PORTABLE_FP32,
        _ => return Ok(None),
    };
    // SAFETY: the caller vouches for the code.
    let machine = unsafe { Cuda::with_image(Cuda::new()?.stream().clone(), image) }?;
    Ok(Some(Box::new(PipelineEngine::on_cuda(
        machine.with_poison(POISONS[0]),
        path,
    )?)))
}
