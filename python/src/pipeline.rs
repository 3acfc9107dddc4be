//! Our kernels on tensors of another library.

use binned_experts_gpu::cuda::{CallAddresses, WeightAddresses};
use binned_experts_gpu::{CallLayer, Cuda, GpuError, PathElement, Pipeline};
use binned_experts_reference::{Activation, ActivationKind};
use half::bf16;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::domain::refused;

/// A pipeline, and the type of its elements.
enum Any {
    F32(Pipeline<Cuda>),
    Bf16(Pipeline<Cuda, bf16>),
}

/// The kernels with the weights of one layer, on a device and a stream of torch's.
///
/// `pipeline.py` holds the tensors whose addresses come in here, has checked their sizes, and orders the streams.
#[pyclass(module = "binned_experts._native")]
pub(crate) struct Kernels {
    pipeline: Any,
    layer: CallLayer,
}

#[pymethods]
impl Kernels {
    /// Of the addresses of both projections and biases in the order of the parameters, sizes H, I and E, and the number of
    /// a device with a stream of it. `activation` is its name, alpha and limit.
    #[new]
    #[pyo3(signature = (dtype, weights, sizes, place, activation, scale, first_expert, batch_invariant))]
    #[expect(clippy::too_many_arguments, reason = "the parameters of the class in Python")]
    fn new(
        dtype: &str,
        weights: [u64; 4],
        sizes: [usize; 3],
        place: (usize, u64),
        activation: (&str, f64, f64),
        scale: f64,
        first_expert: usize,
        batch_invariant: bool,
    ) -> PyResult<Kernels> {
        let (kind, alpha, limit) = activation;
        let layer = CallLayer {
            kind: kind.parse::<ActivationKind>().map_err(refused)?,
            activation: Activation { alpha, limit },
            scale,
            first_expert,
        };
        let found = match dtype {
            "f32" => pipeline(weights, sizes, place, batch_invariant).map(Any::F32),
            "bf16" => pipeline(weights, sizes, place, batch_invariant).map(Any::Bf16),
            _ => return Err(refused(format!("dtype: expected f32 or bf16, found {dtype}"))),
        };
        let pipeline = found.map_err(raised)?;
        Ok(Kernels { pipeline, layer })
    }

    /// The path that serves the weights.
    #[getter]
    fn path(&self) -> &'static str {
        match &self.pipeline {
            Any::F32(pipeline) => pipeline.path().name(),
            Any::Bf16(pipeline) => pipeline.path().name(),
        }
    }

    /// Launches a forward of sizes T, K and C on a stream, on the addresses of hidden states, router indices, routing
    /// weights and output.
    fn forward(&mut self, at: [u64; 4], sizes: [usize; 3], stream: u64) -> PyResult<()> {
        match &mut self.pipeline {
            Any::F32(pipeline) => launch(pipeline, at, sizes, &self.layer, stream),
            Any::Bf16(pipeline) => launch(pipeline, at, sizes, &self.layer, stream),
        }
        .map_err(raised)
    }
}

#[expect(unsafe_code, reason = "addresses can only be trusted")]
fn pipeline<T: PathElement>(
    weights: [u64; 4],
    sizes: [usize; 3],
    (device, stream): (usize, u64),
    batch_invariant: bool,
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
    // SAFETY: `pipeline.py` has checked their sizes, keeps the tensors unless the path is done with them, and says that they
    // are not to be changed. What torch puts in their place later is behind this in its stream.
    let pipeline = unsafe { Pipeline::borrow(weights, sizes, machine, T::fastest()) }?;
    Ok(if batch_invariant {
        pipeline.batch_invariant()
    } else {
        pipeline
    })
}

#[expect(unsafe_code, reason = "addresses can only be trusted")]
fn launch<T: PathElement>(
    pipeline: &mut Pipeline<Cuda, T>,
    at: [u64; 4],
    sizes: [usize; 3],
    layer: &CallLayer,
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
    // SAFETY: `pipeline.py` lets the current stream wait for the one before.
    unsafe { pipeline.machine_mut().use_stream(stream) };
    // SAFETY: `pipeline.py` has checked the sizes of the tensors, which are torch's and used on its current stream.
    unsafe { pipeline.forward_at(at, tokens, top_k, capacity, layer) }
}

fn raised(error: GpuError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}
