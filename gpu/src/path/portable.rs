//! Plain CUDA C++ in f32, on any device, for tensors in f32 and in bf16.

use std::marker::PhantomData;

use half::bf16;

use super::{Call, Path, Rows, WeightDims, buffers};
use crate::GpuError;
use crate::kernel::{combine::combine, down::down, gate_up::gate_up, route};
use crate::plan::{Plan, Step};

/// f32 in plain CUDA C++, on any device; the weights as they are.
pub static PORTABLE_FP32: Path = Path {
    name: "portable_fp32",
    element: PhantomData,
    needs_hopper: false,
    is_batch_invariant: true,
    widens: false,
    takes: |_| true,
    fallback: None,
    weights,
    forward,
};

/// bf16 by the kernels of [`PORTABLE_FP32`]: the host widens tensors to f32, in which the machine keeps them, and rounds
/// the output.
pub static PORTABLE_BF16: Path<bf16> = Path {
    name: "portable_bf16",
    element: PhantomData,
    needs_hopper: false,
    is_batch_invariant: true,
    widens: true,
    takes: |_| true,
    fallback: None,
    weights,
    forward,
};

fn weights(dims: WeightDims) -> Result<Plan, GpuError> {
    Ok(Plan {
        buffers: buffers::weights(dims, size_of::<f32>())?,
        steps: Vec::new(),
    })
}

fn forward(call: &Call) -> Result<Plan, GpuError> {
    let buffers = buffers::all_in_f32(call)?;
    let steps = [route(call)?, products(call, Rows::All)?].concat();
    Ok(Plan { buffers, steps })
}

/// The order, the bins and the rows; an explicit order takes the place of the stable one.
pub(super) fn route(call: &Call) -> Result<Vec<Step>, GpuError> {
    let order = if call.has_order {
        route::place_order
    } else {
        route::rank_assignments
    };
    let steps = [route::count_assignments(call)?, route::scan_bins(call)?, order(call)?];
    Ok(steps.into_iter().flatten().collect())
}

/// The products of these rows, and the sum over the slots.
pub(super) fn products(call: &Call, rows: Rows) -> Result<Vec<Step>, GpuError> {
    let steps = [gate_up(call, rows)?, down(call, rows)?, combine(call)?];
    Ok(steps.into_iter().flatten().collect())
}
