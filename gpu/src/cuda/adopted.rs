//! Weights that are on the device already.

use std::sync::Arc;

use binned_experts_reference::Error;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use super::{Cuda, CudaBuffer};
use crate::memory::Memory;
use crate::path::buffers::{DOWN_PROJ, DOWN_PROJ_BIAS, GATE_UP_PROJ, GATE_UP_PROJ_BIAS};
use crate::path::{Path, PathElement, WeightDims};
use crate::plan::BufferId;
use crate::{GpuError, Machine, Pipeline};

/// The weights of a layer on the device, in row-major order. E is the length of `down_proj_bias` over H, I that of
/// `gate_up_proj_bias` over 2·E.
pub struct DeviceWeights<T> {
    /// H.
    pub hidden: usize,
    /// `[E,H,2I]`; even columns gate, odd columns up.
    pub gate_up_proj: CudaSlice<T>,
    /// `[E,2I]`.
    pub gate_up_proj_bias: CudaSlice<T>,
    /// `[E,I,H]`.
    pub down_proj: CudaSlice<T>,
    /// `[E,H]`.
    pub down_proj_bias: CudaSlice<T>,
}

/// A tensor that was the caller's. It is given back to its own stream when the pipeline's has done with it.
struct Adopted<T> {
    tensor: CudaSlice<T>,
    stream: Arc<CudaStream>,
}

impl<T> Drop for Adopted<T> {
    fn drop(&mut self) {
        // The end of a use is an event for which the tensor's own stream waits before it frees the memory.
        drop(self.tensor.device_ptr(&self.stream));
    }
}

impl<T: PathElement> Pipeline<Cuda, T> {
    /// Takes weights that are on the device already; nothing goes through the host. Paths that keep tensors as they are
    /// read them in place. [`HOPPER_BF16`](crate::HOPPER_BF16) packs them, and gives them back.
    ///
    /// Such a pipeline is called by [`forward_on_device`](Pipeline::forward_on_device) and
    /// [`capture`](Pipeline::capture). No [`Problem`](binned_experts_reference::Problem) shares its weights.
    ///
    /// ```no_run
    /// use binned_experts_gpu::cuda::DeviceWeights;
    /// use binned_experts_gpu::{Cuda, Pipeline};
    ///
    /// let (hidden, intermediate, experts) = (64, 32, 4);
    /// let machine = Cuda::new()?;
    /// let stream = machine.stream().clone();
    /// let weights = DeviceWeights {
    ///     hidden,
    ///     gate_up_proj: stream.clone_htod(&vec![0.5f32; experts * hidden * 2 * intermediate])?,
    ///     gate_up_proj_bias: stream.alloc_zeros(experts * 2 * intermediate)?,
    ///     down_proj: stream.clone_htod(&vec![0.5f32; experts * intermediate * hidden])?,
    ///     down_proj_bias: stream.alloc_zeros(experts * hidden)?,
    /// };
    /// let pipeline = Pipeline::adopt(weights, machine, &binned_experts_gpu::HOPPER_FP32)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`GpuError::Length`] if the tensors do not fit one another, [`GpuError::OtherDevice`] if one is on another device,
    /// [`GpuError::HostOnly`] if the path that serves them keeps its tensors in another element type,
    /// [`GpuError::OutOfMemory`], or another error of the driver. The tensors are then freed.
    pub fn adopt(
        weights: DeviceWeights<T>,
        machine: Cuda,
        path: &'static Path<T>,
    ) -> Result<Pipeline<Cuda, T>, GpuError> {
        let dims = weights.dims()?;
        let serving = path.serving(machine.capabilities(), dims);
        if serving.widens {
            return Err(GpuError::HostOnly { path: serving.name() });
        }
        let tensors = weights.memory(&machine)?;
        Pipeline::on_machine(dims, tensors, machine, path)
    }
}

impl<T: PathElement> DeviceWeights<T> {
    /// The sizes that all four tensors have.
    fn dims(&self) -> Result<WeightDims, GpuError> {
        let hidden = self.hidden;
        let experts = self.down_proj_bias.len().checked_div(hidden).unwrap_or(0);
        let columns = self.gate_up_proj_bias.len().checked_div(experts).unwrap_or(0);
        if !columns.is_multiple_of(2) {
            return Err(Error::OddGateUp { found: columns }.into());
        }
        let intermediate = columns / 2;
        for (id, sizes, found) in [
            (GATE_UP_PROJ, vec![experts, hidden, columns], self.gate_up_proj.len()),
            (GATE_UP_PROJ_BIAS, vec![experts, columns], self.gate_up_proj_bias.len()),
            (DOWN_PROJ, vec![experts, intermediate, hidden], self.down_proj.len()),
            (DOWN_PROJ_BIAS, vec![experts, hidden], self.down_proj_bias.len()),
        ] {
            let product = sizes
                .iter()
                .try_fold(1usize, |product, size| product.checked_mul(*size));
            if product != Some(found) {
                return Err(GpuError::Length {
                    what: id.0,
                    sizes,
                    found,
                });
            }
        }
        Ok(WeightDims {
            hidden,
            intermediate,
            experts,
        })
    }

    /// The tensors as buffers of a machine's.
    fn memory(self, machine: &Cuda) -> Result<Memory<Cuda>, GpuError> {
        let own = machine.stream().context().cu_ctx();
        let tensors = [
            (GATE_UP_PROJ, self.gate_up_proj),
            (GATE_UP_PROJ_BIAS, self.gate_up_proj_bias),
            (DOWN_PROJ, self.down_proj),
            (DOWN_PROJ_BIAS, self.down_proj_bias),
        ];
        if tensors
            .iter()
            .any(|(_, tensor)| tensor.stream().context().cu_ctx() != own)
        {
            return Err(GpuError::OtherDevice);
        }
        Ok(Memory::of(tensors.map(|(id, tensor)| adopted(id, tensor, machine))))
    }
}

fn adopted<T: PathElement>(id: BufferId, tensor: CudaSlice<T>, machine: &Cuda) -> (BufferId, CudaBuffer, usize) {
    let stream = machine.stream().clone();
    let bytes = tensor.num_bytes();
    // The stream waits for what still writes the tensor.
    let pointer = tensor.device_ptr(&stream).0;
    (
        id,
        CudaBuffer::adopted(pointer, bytes, Box::new(Adopted { tensor, stream })),
        bytes,
    )
}
