//! A forward on tensors that are on the device already, and as a CUDA graph.
//!
//! Nothing is copied and nothing is waited for: the kernels read the caller's tensors and write into the caller's output,
//! on the stream of the pipeline's [`Cuda`]. Where the tensors belong to another stream, cudarc's events order the two.

use std::marker::PhantomData;
use std::sync::Arc;

use binned_experts_reference::Dims;
use bytemuck::Pod;
use cudarc::driver::{
    CudaGraph, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut, DeviceSlice, SyncOnDrop, sys,
};

use super::{Cuda, CudaBuffer, driver};
use crate::error::product;
use crate::layer::CallLayer;
use crate::memory::Memory;
use crate::path::buffers::{HIDDEN_STATES, OUTPUT, ROUTER_INDICES, ROUTING_WEIGHTS};
use crate::path::{Call, PathElement};
use crate::plan::BufferId;
use crate::{GpuError, Pipeline};

/// The inputs of a forward, on the device and in row-major order. T is the length of `hidden_states` over H.
pub struct DeviceInputs<'a, T> {
    /// The tokens, `[T,H]`.
    pub hidden_states: CudaView<'a, T>,
    /// The experts of each token, `[T,K]`. Any value is taken: an id of no local expert adds nothing.
    pub router_indices: CudaView<'a, i64>,
    /// The dense routing weights, `[T,E]`.
    pub routing_weights: CudaView<'a, T>,
    /// K.
    pub top_k: usize,
    /// C.
    pub capacity: usize,
    /// The layer.
    pub layer: CallLayer,
}

/// A forward as a CUDA graph, with the tensors that it reads and writes. Its launch costs the host less than those of the
/// kernels one by one. Between two launches the inputs may be written, from the host or the device: other tokens, another
/// routing.
///
/// It borrows the pipeline, whose workspace the graph uses.
pub struct Captured<'p, T: PathElement> {
    /// None where there is nothing to launch.
    graph: Option<CudaGraph>,
    pipeline: &'p mut Pipeline<Cuda, T>,
    hidden_states: Tensor<T>,
    router_indices: Tensor<i64>,
    routing_weights: Tensor<T>,
    output: Tensor<T>,
}

/// A tensor of its own, of an element type that cudarc need not know.
struct Tensor<T> {
    bytes: CudaSlice<u8>,
    elements: usize,
    element: PhantomData<T>,
}

impl<T: PathElement> Pipeline<Cuda, T> {
    /// Launches a forward on tensors of the caller's, without waiting for it. `output` is `[T,H]`.
    ///
    /// ```no_run
    /// use binned_experts_gpu::{CallLayer, Cuda, Pipeline, cuda::DeviceInputs};
    /// use binned_experts_reference::ExpertWeights;
    /// use ndarray::{Array2, Array3};
    ///
    /// let (tokens, hidden, intermediate, experts, top_k) = (8, 64, 32, 4, 2);
    /// let weights = ExpertWeights::new(
    ///     Array3::<f32>::ones((experts, hidden, 2 * intermediate)),
    ///     Array2::zeros((experts, 2 * intermediate)),
    ///     Array3::ones((experts, intermediate, hidden)),
    ///     Array2::zeros((experts, hidden)),
    /// )?;
    /// let mut pipeline = Pipeline::new(weights, Cuda::new()?)?;
    /// let stream = pipeline.machine().stream().clone();
    /// let hidden_states = stream.clone_htod(&vec![0.5f32; tokens * hidden])?;
    /// let router_indices = stream.clone_htod(&[0i64, 3].repeat(tokens))?;
    /// let routing_weights = stream.clone_htod(&vec![0.25f32; tokens * experts])?;
    /// let mut output = stream.alloc_zeros::<f32>(tokens * hidden)?;
    /// let inputs = DeviceInputs {
    ///     hidden_states: hidden_states.as_view(),
    ///     router_indices: router_indices.as_view(),
    ///     routing_weights: routing_weights.as_view(),
    ///     top_k,
    ///     capacity: tokens,
    ///     layer: CallLayer::GPT_OSS,
    /// };
    /// pipeline.forward_on_device(&inputs, &mut output.as_view_mut())?;
    /// let output: Vec<f32> = stream.clone_dtoh(&output)?; // waits
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`GpuError::Length`] if a tensor has another length than the sizes ask for, [`GpuError::OtherDevice`] if one is
    /// on another device, [`GpuError::HostOnly`] if the path keeps its tensors in another element type,
    /// [`GpuError::Layer`] if the kernels do not compute the activation, a limit of the kernels, or an error of the driver.
    /// The pipeline can be used again.
    pub fn forward_on_device(
        &mut self,
        inputs: &DeviceInputs<'_, T>,
        output: &mut CudaViewMut<'_, T>,
    ) -> Result<(), GpuError> {
        let call = self.call_of(inputs, output)?;
        let stream = self.machine().stream().clone();
        let (lent, _guards) = lend(&stream, inputs, output);
        let plan = self.plan(&call, &lent)?;
        self.run_on(&plan, &lent)
    }

    /// What a forward on these tensors is planned for.
    fn call_of(&self, inputs: &DeviceInputs<'_, T>, output: &CudaViewMut<'_, T>) -> Result<Call, GpuError> {
        let [hidden, intermediate, experts] = self.weight_sizes();
        if self.path().widens {
            return Err(GpuError::HostOnly {
                path: self.path().name(),
            });
        }
        let tokens = inputs.hidden_states.len().checked_div(hidden).unwrap_or(0);
        let own = self.machine().stream().context();
        let streams = [
            inputs.hidden_states.stream(),
            inputs.router_indices.stream(),
            inputs.routing_weights.stream(),
            output.stream(),
        ];
        if streams.iter().any(|stream| stream.context().cu_ctx() != own.cu_ctx()) {
            return Err(GpuError::OtherDevice);
        }
        for (id, sizes, found) in [
            (HIDDEN_STATES, [tokens, hidden], inputs.hidden_states.len()),
            (ROUTER_INDICES, [tokens, inputs.top_k], inputs.router_indices.len()),
            (ROUTING_WEIGHTS, [tokens, experts], inputs.routing_weights.len()),
            (OUTPUT, [tokens, hidden], output.len()),
        ] {
            if sizes[0].checked_mul(sizes[1]) != Some(found) {
                return Err(GpuError::Length {
                    what: id.0,
                    sizes: sizes.to_vec(),
                    found,
                });
            }
        }
        let dims = Dims {
            tokens,
            hidden,
            intermediate,
            experts,
            top_k: inputs.top_k,
            capacity: inputs.capacity,
        };
        self.call(dims, &inputs.layer)
    }

    /// Captures the forward of T tokens with K experts each and capacity C as a graph. Its inputs are zeros until they are
    /// written. The stream of the pipeline's [`Cuda`] must be one that can be captured, which the default stream cannot:
    /// [`Cuda::on_stream`].
    ///
    /// # Errors
    /// As [`forward_on_device`](Pipeline::forward_on_device); [`GpuError::Driver`] if the stream cannot be captured.
    pub fn capture(
        &mut self,
        tokens: usize,
        top_k: usize,
        capacity: usize,
        layer: CallLayer,
    ) -> Result<Captured<'_, T>, GpuError> {
        let [hidden, _, experts] = self.weight_sizes();
        let stream = self.machine().stream().clone();
        let hidden_states = Tensor::zeros(&stream, HIDDEN_STATES, [tokens, hidden])?;
        let router_indices = Tensor::zeros(&stream, ROUTER_INDICES, [tokens, top_k])?;
        let routing_weights = Tensor::zeros(&stream, ROUTING_WEIGHTS, [tokens, experts])?;
        let mut output = Tensor::zeros(&stream, OUTPUT, [tokens, hidden])?;
        let inputs = DeviceInputs {
            hidden_states: hidden_states.view(),
            router_indices: router_indices.view(),
            routing_weights: routing_weights.view(),
            top_k,
            capacity,
            layer,
        };
        let graph = self.graph_of(&inputs, &mut output.view_mut())?;
        Ok(Captured {
            graph,
            pipeline: self,
            hidden_states,
            router_indices,
            routing_weights,
            output,
        })
    }

    /// The graph of a forward whose expert ids are zeros; none where there is nothing to launch.
    fn graph_of(
        &mut self,
        inputs: &DeviceInputs<'_, T>,
        output: &mut CudaViewMut<'_, T>,
    ) -> Result<Option<CudaGraph>, GpuError> {
        let call = self.call_of(inputs, output)?;
        let stream = self.machine().stream().clone();
        let (lent, _guards) = lend(&stream, inputs, output);
        let plan = self.plan(&call, &lent)?;
        // What a first launch has to set up is not for the graph.
        self.run_on(&plan, &lent)?;
        if plan.steps.is_empty() {
            return Ok(None);
        }
        stream
            .begin_capture(sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            .map_err(driver)?;
        let launched = self.run_on(&plan, &lent);
        let graph = stream.end_capture(sys::CUgraphInstantiate_flags(0)).map_err(driver);
        launched.and(graph)
    }
}

impl<T: PathElement> Captured<'_, T> {
    /// The tokens, `[T,H]`.
    pub fn hidden_states(&mut self) -> CudaViewMut<'_, T> {
        self.hidden_states.view_mut()
    }

    /// The experts of each token, `[T,K]`.
    pub fn router_indices(&mut self) -> CudaViewMut<'_, i64> {
        self.router_indices.view_mut()
    }

    /// The dense routing weights, `[T,E]`.
    pub fn routing_weights(&mut self) -> CudaViewMut<'_, T> {
        self.routing_weights.view_mut()
    }

    /// The output of the last launch, `[T,H]`.
    pub fn output(&self) -> CudaView<'_, T> {
        self.output.view()
    }

    /// Launches the forward, without waiting for it.
    ///
    /// # Errors
    /// [`GpuError::Driver`].
    pub fn launch(&mut self) -> Result<(), GpuError> {
        let stream = self.pipeline.machine().stream();
        let _guards = (
            self.hidden_states.bytes.device_ptr(stream).1,
            self.router_indices.bytes.device_ptr(stream).1,
            self.routing_weights.bytes.device_ptr(stream).1,
            self.output.bytes.device_ptr_mut(stream).1,
        );
        match &self.graph {
            Some(graph) => graph.launch().map_err(driver),
            None => Ok(()),
        }
    }
}

impl<T: Pod> Tensor<T> {
    fn zeros(stream: &Arc<CudaStream>, id: BufferId, sizes: [usize; 2]) -> Result<Tensor<T>, GpuError> {
        let bytes = product(id.0, &[sizes[0], sizes[1], size_of::<T>()])?;
        // The driver has no memory of no bytes.
        let zeros = stream.alloc_zeros(bytes.max(1)).map_err(driver)?;
        Ok(Tensor {
            bytes: zeros,
            elements: sizes[0] * sizes[1],
            element: PhantomData,
        })
    }

    fn view(&self) -> CudaView<'_, T> {
        // SAFETY: bytes of any value make such an element, and memory of a device is aligned for all.
        let view = unsafe { self.bytes.transmute(self.elements) };
        view.expect("as many bytes as the elements have")
    }

    fn view_mut(&mut self) -> CudaViewMut<'_, T> {
        // SAFETY: as for `view`, and such elements have no other bytes.
        let view = unsafe { self.bytes.transmute_mut(self.elements) };
        view.expect("as many bytes as the elements have")
    }
}

/// The caller's tensors as buffers of a plan. While the guards live, the caller's other streams are not told of the use:
/// they are to be dropped after the launches.
fn lend<'a, T>(
    stream: &'a CudaStream,
    inputs: &'a DeviceInputs<'_, T>,
    output: &'a mut CudaViewMut<'_, T>,
) -> (Memory<Cuda>, [SyncOnDrop<'a>; 4]) {
    let output_bytes = output.num_bytes();
    let lent = [
        (
            HIDDEN_STATES,
            inputs.hidden_states.num_bytes(),
            inputs.hidden_states.device_ptr(stream),
        ),
        (
            ROUTER_INDICES,
            inputs.router_indices.num_bytes(),
            inputs.router_indices.device_ptr(stream),
        ),
        (
            ROUTING_WEIGHTS,
            inputs.routing_weights.num_bytes(),
            inputs.routing_weights.device_ptr(stream),
        ),
        (OUTPUT, output_bytes, output.device_ptr_mut(stream)),
    ];
    let buffers = lent
        .each_ref()
        .map(|(id, bytes, (pointer, _))| (*id, CudaBuffer::lent(*pointer, *bytes), *bytes));
    (Memory::of(buffers), lent.map(|(_, _, (_, guard))| guard))
}
