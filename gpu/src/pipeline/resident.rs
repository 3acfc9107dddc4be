//! The weights of a layer on the machine.

use bytemuck::Pod;
use ndarray::{ArrayBase, Data, Dimension};

use binned_experts_reference::ExpertWeights;

use crate::packed::{Packed, are_taken};
use crate::{GpuError, Machine};

/// The weights on the machine, and their sizes in bytes.
#[derive(Debug)]
pub(super) struct Resident<B> {
    pub(super) gate_up_proj: (B, usize),
    pub(super) gate_up_proj_bias: (B, usize),
    pub(super) down_proj: (B, usize),
    pub(super) down_proj_bias: (B, usize),
    /// For the tensor cores.
    pub(super) packed: Option<Packed<B>>,
}

impl<B> Resident<B> {
    pub(super) fn new<M: Machine<Buffer = B>>(
        weights: &ExpertWeights<f32>,
        machine: &mut M,
    ) -> Result<Resident<B>, GpuError> {
        let gate_up_proj = uploaded(machine, weights.gate_up_proj())?;
        let gate_up_proj_bias = uploaded(machine, weights.gate_up_proj_bias())?;
        let down_proj = uploaded(machine, weights.down_proj())?;
        let down_proj_bias = uploaded(machine, weights.down_proj_bias())?;
        let (experts, intermediate, hidden) = weights.down_proj().dim();
        let packs = machine.tensor_cores().is_some() && are_taken(hidden, intermediate) && experts > 0;
        let packed = packs.then(|| {
            let [gate_up, down] = [[&gate_up_proj, &gate_up_proj_bias], [&down_proj, &down_proj_bias]];
            Packed::new(machine, [hidden, intermediate, experts], gate_up, down)
        });
        Ok(Resident {
            packed: packed.transpose()?,
            gate_up_proj,
            gate_up_proj_bias,
            down_proj,
            down_proj_bias,
        })
    }

    /// The packed weights, which are there where a plan uses them.
    pub(super) fn packed(&self) -> Result<&Packed<B>, GpuError> {
        self.packed.as_ref().ok_or(GpuError::OtherWeights)
    }
}

fn uploaded<M: Machine, D: Dimension>(
    machine: &mut M,
    tensor: &ndarray::Array<f32, D>,
) -> Result<(M::Buffer, usize), GpuError> {
    with_bytes(tensor, |bytes| {
        let mut buffer = machine.alloc(bytes.len())?;
        machine.upload(&mut buffer, bytes)?;
        Ok((buffer, bytes.len()))
    })
}

/// Calls `use_bytes` with a tensor's elements in row-major order, copied only where its layout asks for it.
pub(super) fn with_bytes<T: Pod, S: Data<Elem = T>, D: Dimension, R>(
    tensor: &ArrayBase<S, D>,
    use_bytes: impl FnOnce(&[u8]) -> Result<R, GpuError>,
) -> Result<R, GpuError> {
    match tensor.as_slice() {
        Some(elements) => use_bytes(bytemuck::cast_slice(elements)),
        None => {
            let elements: Vec<T> = tensor.iter().copied().collect();
            use_bytes(bytemuck::cast_slice(&elements))
        }
    }
}
