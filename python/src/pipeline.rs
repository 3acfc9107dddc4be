//! Our kernels on tensors of another library.

use binned_experts_gpu::cuda::{CallAddresses, WeightAddresses};
use binned_experts_gpu::{Cuda, GpuError, PathElement, Pipeline};
use binned_experts_reference::Activation;
use half::bf16;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// A pipeline, and the type of its elements.
enum Any {
    F32(Pipeline<Cuda>),
    Bf16(Pipeline<Cuda, bf16>),
}

/// The kernels with the weights of one layer, on a device and a stream of torch's.
///
/// `_pipeline.py` holds the tensors whose addresses come in here, has checked their sizes, and orders the streams.
#[pyclass(module = "binned_experts._native")]
pub(crate) struct Kernels(Any);

#[pymethods]
impl Kernels {
    /// Of the addresses of both projections and biases in the order of the parameters, sizes H, I and E, and the number of
    /// a device with a stream of it.
    #[new]
    fn new(dtype: &str, weights: [u64; 4], sizes: [usize; 3], device: usize, stream: u64) -> PyResult<Kernels> {
        let found = match dtype {
            "f32" => pipeline(weights, sizes, device, stream).map(Any::F32),
            "bf16" => pipeline(weights, sizes, device, stream).map(Any::Bf16),
            _ => {
                return Err(PyValueError::new_err(format!(
                    "dtype: expected f32 or bf16, found {dtype}"
                )));
            }
        };
        found.map(Kernels).map_err(raised)
    }

    /// The path that serves the weights.
    #[getter]
    fn path(&self) -> &'static str {
        match &self.0 {
            Any::F32(pipeline) => pipeline.path().name(),
            Any::Bf16(pipeline) => pipeline.path().name(),
        }
    }

    /// Launches a forward of sizes T, K and C on a stream, on the addresses of hidden states, router indices, routing
    /// weights and output.
    fn forward(&mut self, at: [u64; 4], sizes: [usize; 3], activation: (f64, f64), stream: u64) -> PyResult<()> {
        let (alpha, limit) = activation;
        let activation = Activation { alpha, limit };
        match &mut self.0 {
            Any::F32(pipeline) => launch(pipeline, at, sizes, activation, stream),
            Any::Bf16(pipeline) => launch(pipeline, at, sizes, activation, stream),
        }
        .map_err(raised)
    }
}

#[expect(unsafe_code, reason = "addresses can only be trusted")]
fn pipeline<T: PathElement>(
    weights: [u64; 4],
    sizes: [usize; 3],
    device: usize,
    stream: u64,
) -> Result<Pipeline<Cuda, T>, GpuError> {
    let [gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias] = weights;
    let weights = WeightAddresses {
        gate_up_proj,
        gate_up_proj_bias,
        down_proj,
        down_proj_bias,
    };
    // SAFETY: it is the current stream of torch, whose streams live as long as the process.
    let machine = unsafe { Cuda::on_stream_of(device, stream) }?;
    // SAFETY: `_pipeline.py` keeps the tensors, of these sizes, and says that they are not to be changed.
    unsafe { Pipeline::borrow(weights, sizes, machine, T::fastest()) }
}

#[expect(unsafe_code, reason = "addresses can only be trusted")]
fn launch<T: PathElement>(
    pipeline: &mut Pipeline<Cuda, T>,
    at: [u64; 4],
    sizes: [usize; 3],
    activation: Activation,
    stream: u64,
) -> Result<(), GpuError> {
    let [hidden_states, router_indices, routing_weights, output] = at;
    let [tokens, top_k, capacity] = sizes;
    let at = CallAddresses {
        hidden_states,
        router_indices,
        routing_weights,
        output,
    };
    // SAFETY: `_pipeline.py` lets the current stream wait for the one before.
    unsafe { pipeline.machine_mut().use_stream(stream) };
    // SAFETY: `_pipeline.py` has checked the sizes of the tensors, which are torch's and used on its current stream.
    unsafe { pipeline.forward_at(at, tokens, top_k, capacity, activation) }
}

fn raised(error: GpuError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
