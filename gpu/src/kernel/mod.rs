//! The kernels as the host sees them, one file for each file of `kernels/` that holds some: constants, the number of
//! blocks, and the arguments by name.
//!
//! Each function returns the step that launches its kernel, or none where there is nothing to compute. The tests below
//! compare every constant and every argument with the source. A constant here is written as it is there.

pub(crate) mod combine;
pub(crate) mod combine_bf16;
pub(crate) mod down;
pub(crate) mod experts;
pub(crate) mod experts_bf16;
pub(crate) mod gate_up;
pub(crate) mod gather_bf16;
pub(crate) mod pack_weights;
pub(crate) mod pack_weights_bf16;
pub(crate) mod route;
pub(crate) mod split;
pub(crate) mod split_tokens;
#[cfg(test)]
mod tests;
pub(crate) mod tile;
pub(crate) mod tiles_bf16;

use crate::error::INDEX_LIMIT;
use crate::plan::{BufferId, Step, Value};
use crate::{GpuError, Launch};

/// Lanes of a warp; from `common.cuh`.
const WARP: usize = 32;
/// Threads of a warpgroup; from `ptx.cuh`.
const WARPGROUP: usize = 128;

/// A step of a plan, or none.
type Planned = Result<Option<Step>, GpuError>;
type NamedValue = (&'static str, Value);

/// The launch of a kernel on so many blocks; none on no block.
fn step(kernel: &'static str, blocks: usize, threads: usize, args: impl Into<Vec<NamedValue>>) -> Planned {
    if blocks >= INDEX_LIMIT {
        return Err(GpuError::TooManyBlocks { kernel, blocks });
    }
    let launch = Launch {
        kernel,
        grid: blocks as u32,
        block: threads as u32,
        shared: 0,
    };
    Ok((blocks > 0).then(|| Step {
        launch,
        args: args.into(),
    }))
}

/// A buffer for the parameter of its name.
fn buffer(id: BufferId) -> NamedValue {
    named(id.0, id)
}

/// A buffer for a parameter of another name.
fn named(name: &'static str, id: BufferId) -> NamedValue {
    (name, Value::Buffer(id))
}

/// A buffer for the parameter of its name, or null.
fn buffer_if(condition: bool, id: BufferId) -> NamedValue {
    if condition { buffer(id) } else { (id.0, Value::Null) }
}

/// A size, which is below 2^63.
fn int(name: &'static str, value: usize) -> NamedValue {
    (name, Value::I64(value as i64))
}

fn float(name: &'static str, value: f64) -> NamedValue {
    (name, Value::F32(value as f32))
}
