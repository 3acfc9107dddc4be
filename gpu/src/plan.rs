//! What runs on a machine: buffers, and kernels one after another. No machine is involved.

use crate::error::product;
use crate::{GpuError, Launch};

/// The buffers that a path needs, and its steps in their order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) steps: Vec<Step>,
}

/// A buffer by its name, which is that of the kernels' parameters for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BufferId(pub(crate) &'static str);

/// A buffer and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buffer {
    pub(crate) id: BufferId,
    pub(crate) bytes: usize,
    /// Whether it starts as zeros. The contents of others are undefined.
    pub(crate) zeroed: bool,
    /// Whether it is given back after the steps of its plan.
    pub(crate) temporary: bool,
}

/// A kernel, and its arguments with the names that its head gives them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) launch: Launch,
    pub(crate) args: Vec<(&'static str, Value)>,
}

/// What a step passes to its kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// All of a buffer.
    Buffer(BufferId),
    /// No array, where the kernel can do without.
    Null,
    I64(i64),
    F32(f32),
}

impl Plan {
    /// Whether a buffer is among those of the plan.
    pub(crate) fn has(&self, id: BufferId) -> bool {
        self.buffers.iter().any(|buffer| buffer.id == id)
    }
}

impl Buffer {
    /// A buffer of so many elements of so many bytes.
    pub(crate) fn new(id: BufferId, element_bytes: usize, shape: &[usize]) -> Result<Buffer, GpuError> {
        let bytes = product(id.0, &[shape, &[element_bytes]].concat())?;
        Ok(Buffer {
            id,
            bytes,
            zeroed: false,
            temporary: false,
        })
    }

    /// A buffer of 32-bit integers.
    pub(crate) fn i32(id: BufferId, shape: &[usize]) -> Result<Buffer, GpuError> {
        Buffer::new(id, size_of::<i32>(), shape)
    }

    /// A buffer of 32-bit floats.
    pub(crate) fn f32(id: BufferId, shape: &[usize]) -> Result<Buffer, GpuError> {
        Buffer::new(id, size_of::<f32>(), shape)
    }

    /// The same buffer, starting as zeros.
    pub(crate) fn zeroed(self) -> Buffer {
        Buffer { zeroed: true, ..self }
    }

    /// The same buffer, given back after the steps of its plan.
    pub(crate) fn temporary(self) -> Buffer {
        Buffer {
            temporary: true,
            ..self
        }
    }
}
