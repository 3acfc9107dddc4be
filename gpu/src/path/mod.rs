//! Paths: the ways in which a forward can be computed. A path is an element type, a layout of the weights, buffers and
//! steps; which one serves depends on the machine, the sizes, and the caller's wish.

pub(crate) mod buffers;
mod hopper_bf16;
mod hopper_fp32;
mod portable;

use std::marker::PhantomData;

use binned_experts_reference::{Dims, Element, Error};
use bytemuck::Pod;
use half::bf16;

use crate::GpuError;
use crate::error::INDEX_LIMIT;
use crate::layer::{CallLayer, Swiglu};
use crate::machine::Capabilities;
use crate::plan::Plan;

pub use hopper_bf16::HOPPER_BF16;
pub use hopper_fp32::HOPPER_FP32;
pub use portable::{PORTABLE_BF16, PORTABLE_FP32};

/// A way to compute a forward whose tensors have elements of type `T`.
pub struct Path<T: 'static = f32> {
    name: &'static str,
    element: PhantomData<T>,
    needs_hopper: bool,
    /// Whether a token's row has the same bits in any batch, even where tiles are cut.
    is_batch_invariant: bool,
    /// Whether the machine keeps tensors in f32, whatever `T` is.
    pub(crate) widens: bool,
    /// Whether it takes weights of these sizes.
    takes: fn(WeightDims) -> bool,
    /// The path in place of this one where the machine or the sizes rule it out.
    fallback: Option<&'static Path<T>>,
    /// Buffers and steps that bring the weights into the path's layout.
    pub(crate) weights: fn(WeightDims) -> Result<Plan, GpuError>,
    /// Buffers and steps of a forward.
    pub(crate) forward: fn(&Call) -> Result<Plan, GpuError>,
}

/// An element type that the pipeline computes with.
pub trait PathElement: Element<Wide = f32> + Pod {
    /// The fastest path.
    fn fastest() -> &'static Path<Self>;
}

impl PathElement for f32 {
    fn fastest() -> &'static Path {
        &HOPPER_FP32
    }
}

impl PathElement for bf16 {
    fn fastest() -> &'static Path<bf16> {
        &HOPPER_BF16
    }
}

/// The sizes of a layer's weights.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightDims {
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) experts: usize,
}

/// What a forward is planned for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    /// The sizes; the capacity is at most T·K.
    pub(crate) dims: Dims,
    pub(crate) activation: Swiglu,
    /// The factor on the sum over the slots.
    pub(crate) scale: f64,
    /// The id of the first expert. Those of all experts are below 2^63.
    pub(crate) first_expert: usize,
    /// Whether the caller gives the order of the assignments.
    pub(crate) has_order: bool,
    /// Whether the caller asks for what each stage computed.
    pub(crate) with_stages: bool,
    /// Whether a tile of the second product may be cut along the depth, depending on the batch.
    pub(crate) cuts_tiles: bool,
    pub(crate) multiprocessors: usize,
}

/// The rows that the portable products compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    All,
    /// Those that the tensor cores leave.
    Fallback,
}

impl<T> Path<T> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether only devices with Hopper's tensor cores run it.
    pub fn needs_hopper(&self) -> bool {
        self.needs_hopper
    }

    /// Whether a token's row has the same bits in any batch in which nothing of the token is dropped, in a pipeline that
    /// is not [asked for it](crate::Pipeline::batch_invariant).
    pub fn is_batch_invariant(&self) -> bool {
        self.is_batch_invariant
    }

    /// Whether it takes weights of these sizes: H, I and E.
    pub fn takes(&self, hidden: usize, intermediate: usize, experts: usize) -> bool {
        (self.takes)(WeightDims {
            hidden,
            intermediate,
            experts,
        })
    }

    /// This path, or the one in its place.
    pub(crate) fn serving(&'static self, capabilities: Capabilities, weights: WeightDims) -> &'static Path<T> {
        let serves = (capabilities.has_hopper || !self.needs_hopper) && (self.takes)(weights);
        match self.fallback {
            Some(fallback) if !serves => fallback.serving(capabilities, weights),
            _ => self,
        }
    }
}

impl<T> std::fmt::Debug for Path<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Call {
    /// A call in the stable order, of which only the output is asked for. Checks the limits that all paths share.
    pub(crate) fn new(dims: Dims, layer: &CallLayer, capabilities: Capabilities) -> Result<Call, GpuError> {
        let Dims {
            tokens, experts, top_k, ..
        } = dims;
        let assignments = tokens
            .checked_mul(top_k)
            .filter(|&assignments| assignments < INDEX_LIMIT)
            .ok_or(GpuError::TooManyAssignments { tokens, top_k })?;
        if experts >= INDEX_LIMIT - 1 {
            return Err(GpuError::TooManyExperts { experts });
        }
        if !layer.scale.is_finite() {
            return Err(Error::Scale {
                found: layer.scale.to_string(),
            }
            .into());
        }
        if i64::try_from(layer.first_expert.saturating_add(experts)).is_err() {
            return Err(GpuError::Layer {
                expected: "ids of experts below 2^63",
                found: format!("{experts} of them from {} on", layer.first_expert),
            });
        }
        // No expert has more assignments than there are, so a larger capacity means the same.
        let capacity = dims.capacity.min(assignments);
        Ok(Call {
            dims: Dims { capacity, ..dims },
            activation: layer.swiglu()?,
            scale: layer.scale,
            first_expert: layer.first_expert,
            has_order: false,
            with_stages: false,
            cuts_tiles: true,
            multiprocessors: capabilities.multiprocessors as usize,
        })
    }

    /// T·K.
    pub(crate) fn assignments(&self) -> usize {
        self.dims.tokens * self.dims.top_k
    }

    /// The largest R that the sizes allow.
    pub(crate) fn max_rows(&self) -> usize {
        self.assignments()
            .min(self.dims.experts.saturating_mul(self.dims.capacity))
    }
}

impl Rows {
    /// Blocks a multiprocessor for the rows that are left, where most blocks find nothing to do.
    const FALLBACK_BLOCKS: usize = 4;

    /// Blocks for so many tiles.
    pub(crate) fn blocks(self, call: &Call, tiles: usize) -> usize {
        match self {
            Rows::All => tiles,
            Rows::Fallback => tiles.min(call.multiprocessors * Rows::FALLBACK_BLOCKS),
        }
    }
}

#[cfg(test)]
mod large;
#[cfg(test)]
pub(crate) mod tests;
