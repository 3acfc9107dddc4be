//! The kernels on a GPU.

use binned_experts_check::Engine;
use binned_experts_gpu::{
    Cuda, GpuError, HOPPER_BF16, HOPPER_FP32, Machine, POISONS, PORTABLE_BF16, PORTABLE_FP32, Path,
};

use super::PipelineEngine;
use super::pipeline::{EngineElement, poison_of};

/// The engine whose rows have the same bits in any batch.
const BATCH_INVARIANT: &str = "cuda-hopper-batch-invariant";

impl PipelineEngine<Cuda> {
    /// A GPU and a path of the caller's choice, such as a GPU with a planted fault; each case decides the poison, if it
    /// has one. The engine takes the element type of the path.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if the GPU does not run the kernels of the path; an error of the machine.
    pub fn on_cuda<T: EngineElement>(machine: Cuda, path: &'static Path<T>) -> Result<PipelineEngine<Cuda>, GpuError> {
        let name = if path.needs_hopper() {
            "cuda-hopper"
        } else {
            "cuda-portable"
        };
        PipelineEngine::new(name, set_poison).with_path(machine, path)
    }

    /// The kernels for Hopper's tensor cores on the first GPU, whose workspace starts poisoned.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none, or it is of another architecture.
    pub fn cuda_hopper() -> Result<PipelineEngine<Cuda>, GpuError> {
        let [first, second] = poisoned()?;
        PipelineEngine::on_cuda(first, &HOPPER_FP32)?.with_path(second, &HOPPER_BF16)
    }

    /// As [`cuda_hopper`](PipelineEngine::cuda_hopper), where a token's row has the same bits in any batch.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none, or it is of another architecture.
    pub fn cuda_hopper_batch_invariant() -> Result<PipelineEngine<Cuda>, GpuError> {
        Ok(PipelineEngine::cuda_hopper()?.batch_invariant(BATCH_INVARIANT))
    }

    /// As [`cuda_hopper`](PipelineEngine::cuda_hopper), with the kernels that every GPU runs.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda_portable() -> Result<PipelineEngine<Cuda>, GpuError> {
        let [first, second] = poisoned()?;
        PipelineEngine::on_cuda(first, &PORTABLE_FP32)?.with_path(second, &PORTABLE_BF16)
    }

    fn with_path<T: EngineElement>(
        self,
        machine: Cuda,
        path: &'static Path<T>,
    ) -> Result<PipelineEngine<Cuda>, GpuError> {
        if path.needs_hopper() && !machine.capabilities().has_hopper {
            return Err(GpuError::Unavailable {
                machine: machine.name(),
                reason: "expected a device of compute capability 9.0; cuda-portable runs on any".to_owned(),
            });
        }
        self.with(machine, path)
    }
}

/// The first GPU for each of two element types, on one stream.
fn poisoned() -> Result<[Cuda; 2], GpuError> {
    let first = Cuda::new()?;
    let second = Cuda::on_stream(first.stream().clone())?;
    Ok([first, second].map(|machine| machine.with_poison(POISONS[0])))
}

/// Each case decides the poison.
fn set_poison(cuda: &mut Cuda, number: u64) {
    cuda.set_poison(poison_of(number));
}

/// An engine of a GPU with other machine code; none for any other name.
///
/// # Safety
/// As for [`Cuda::with_image`].
///
/// # Errors
/// An error of the machine.
#[expect(unsafe_code, reason = "machine code can only be trusted")]
pub unsafe fn with_image(name: &str, image: Vec<u8>) -> Result<Option<Box<dyn Engine>>, GpuError> {
    let is_hopper = match name {
        "cuda-hopper" | BATCH_INVARIANT => true,
        "cuda-portable" => false,
        _ => return Ok(None),
    };
    let stream = Cuda::new()?.stream().clone();
    let machine = || {
        // SAFETY: the caller vouches for the code.
        let machine = unsafe { Cuda::with_image(stream.clone(), image.clone()) }?;
        Ok::<Cuda, GpuError>(machine.with_poison(POISONS[0]))
    };
    let engine = if is_hopper {
        PipelineEngine::on_cuda(machine()?, &HOPPER_FP32)?.with_path(machine()?, &HOPPER_BF16)?
    } else {
        PipelineEngine::on_cuda(machine()?, &PORTABLE_FP32)?.with_path(machine()?, &PORTABLE_BF16)?
    };
    let engine = if name == BATCH_INVARIANT {
        engine.batch_invariant(BATCH_INVARIANT)
    } else {
        engine
    };
    Ok(Some(Box::new(engine)))
}
