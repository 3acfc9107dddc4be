//! f32 in plain CUDA C++, on any device.

use super::{Call, Path, Rows, buffers};
use crate::GpuError;
use crate::kernel::{combine::combine, down::down, gate_up::gate_up, route};
use crate::plan::{Plan, Step};

/// f32 in plain CUDA C++, on any device; the weights as they are.
pub static PORTABLE_FP32: Path = Path {
    name: "portable_fp32",
    needs_hopper: false,
    least_depth: 0,
    fallback: None,
    weights: |dims| {
        Ok(Plan {
            buffers: buffers::weights(dims, size_of::<f32>())?,
            steps: Vec::new(),
        })
    },
    forward: |call| {
        let buffers = buffers::forward(call, size_of::<f32>())?;
        let steps = [route(call)?, products(call, Rows::All)?].concat();
        Ok(Plan { buffers, steps })
    },
};

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
