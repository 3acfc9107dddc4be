//! Tensors and streams of another library, such as torch, by their addresses.

use binned_experts_reference::Dims;
use cudarc::driver::{CudaContext, sys};

use super::{Cuda, CudaBuffer, probe, text, unavailable};
use crate::error::product;
use crate::memory::Memory;
use crate::path::buffers::{
    DOWN_PROJ, DOWN_PROJ_BIAS, GATE_UP_PROJ, GATE_UP_PROJ_BIAS, HIDDEN_STATES, OUTPUT, ROUTER_INDICES, ROUTING_WEIGHTS,
};
use crate::path::{Path, PathElement, WeightDims};
use crate::plan::BufferId;
use crate::{CallLayer, GpuError, Machine, Pipeline};

/// Where the weights of a layer are on the device, in row-major order.
#[derive(Debug, Clone, Copy)]
pub struct WeightAddresses {
    /// `[E,H,2I]`; even columns gate, odd columns up.
    pub gate_up_proj: u64,
    /// `[E,2I]`.
    pub gate_up_proj_bias: u64,
    /// `[E,I,H]`.
    pub down_proj: u64,
    /// `[E,H]`.
    pub down_proj_bias: u64,
}

/// Where the inputs and the output of a forward are on the device, in row-major order.
#[derive(Debug, Clone, Copy)]
pub struct CallAddresses {
    /// The tokens, `[T,H]`.
    pub hidden_states: u64,
    /// The experts of each token, `[T,K]`, of 64 bits each. Any value is taken.
    pub router_indices: u64,
    /// The dense routing weights, `[T,E]`.
    pub routing_weights: u64,
    /// The result, `[T,H]`.
    pub output: u64,
}

impl Cuda {
    /// A stream of another library's, by its handle, on a device by its number. 0 is the default stream.
    ///
    /// # Safety
    /// The stream is one of the device's primary context. It lives as long as the machine and all memory that the machine
    /// has given, which is freed on it: later than [`use_stream`](Cuda::use_stream), too.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] where there is no driver, no such device, or one that the kernels do not run on.
    pub unsafe fn on_stream_of(device: usize, stream: u64) -> Result<Cuda, GpuError> {
        probe()?;
        let context = CudaContext::new(device).map_err(|error| unavailable(&text(error)))?;
        // SAFETY: the caller vouches for the stream.
        let stream = unsafe { context.wrap_borrowed_stream(stream as sys::CUstream) };
        Cuda::on_stream(stream)
    }

    /// Takes another stream of the same device from now on.
    ///
    /// # Safety
    /// As for [`on_stream_of`](Cuda::on_stream_of); and the stream waits for what was launched on the one before.
    pub unsafe fn use_stream(&mut self, stream: u64) {
        // SAFETY: the caller vouches for the stream.
        self.stream = unsafe { self.stream.context().wrap_borrowed_stream(stream as sys::CUstream) };
    }
}

impl<T: PathElement> Pipeline<Cuda, T> {
    /// As [`adopt`](Pipeline::adopt), with weights that stay the caller's. `sizes` are H, I and E.
    /// [`HOPPER_BF16`](crate::HOPPER_BF16) packs them, and does not read them later.
    ///
    /// # Safety
    /// The tensors are on the machine's device and of these sizes, and were written before what the machine's stream does
    /// next. They live as long as the pipeline, and do not change; on [`HOPPER_BF16`](crate::HOPPER_BF16), until the stream
    /// has done what this launches.
    ///
    /// # Errors
    /// As [`adopt`](Pipeline::adopt), and [`GpuError::SizeOverflow`].
    pub unsafe fn borrow(
        weights: WeightAddresses,
        sizes: [usize; 3],
        machine: Cuda,
        path: &'static Path<T>,
    ) -> Result<Pipeline<Cuda, T>, GpuError> {
        let [hidden, intermediate, experts] = sizes;
        let dims = WeightDims {
            hidden,
            intermediate,
            experts,
        };
        let serving = path.serving(machine.capabilities(), dims);
        if serving.widens {
            return Err(GpuError::HostOnly { path: serving.name() });
        }
        let wide = product(GATE_UP_PROJ_BIAS.0, &[2, intermediate])?;
        let tensors = [
            lent::<T>(GATE_UP_PROJ, weights.gate_up_proj, &[experts, hidden, wide])?,
            lent::<T>(GATE_UP_PROJ_BIAS, weights.gate_up_proj_bias, &[experts, wide])?,
            lent::<T>(DOWN_PROJ, weights.down_proj, &[experts, intermediate, hidden])?,
            lent::<T>(DOWN_PROJ_BIAS, weights.down_proj_bias, &[experts, hidden])?,
        ];
        Pipeline::on_machine(dims, Memory::of(tensors), machine, path)
    }

    /// As [`forward_on_device`](Pipeline::forward_on_device), on T tokens of K experts each.
    ///
    /// # Safety
    /// The tensors are on the machine's device and of the sizes of the call. The inputs were written before what the
    /// machine's stream does next, and are not written again until it has done what this launches: kernels trust the ids
    /// that an earlier one has looked at.
    ///
    /// # Errors
    /// As [`forward_on_device`](Pipeline::forward_on_device), but for lengths.
    pub unsafe fn forward_at(
        &mut self,
        at: CallAddresses,
        tokens: usize,
        top_k: usize,
        capacity: usize,
        layer: &CallLayer,
    ) -> Result<(), GpuError> {
        let [hidden, intermediate, experts] = self.weight_sizes();
        let dims = Dims {
            tokens,
            hidden,
            intermediate,
            experts,
            top_k,
            capacity,
        };
        let call = self.call(dims, layer)?;
        let tensors = [
            lent::<T>(HIDDEN_STATES, at.hidden_states, &[tokens, hidden])?,
            lent::<i64>(ROUTER_INDICES, at.router_indices, &[tokens, top_k])?,
            lent::<T>(ROUTING_WEIGHTS, at.routing_weights, &[tokens, experts])?,
            lent::<T>(OUTPUT, at.output, &[tokens, hidden])?,
        ];
        let lent = Memory::of(tensors);
        let plan = self.plan(&call, &lent)?;
        self.run_on(&plan, &lent)
    }
}

/// A tensor as a buffer of a plan.
fn lent<T>(id: BufferId, address: u64, sizes: &[usize]) -> Result<(BufferId, CudaBuffer, usize), GpuError> {
    let bytes = product(id.0, &[sizes, &[size_of::<T>()]].concat())?;
    Ok((id, CudaBuffer::lent(address, bytes), bytes))
}
