//! The buffers by name, and the sizes of those that every path has. R is the number of rows that the capacity keeps.

use super::{Call, WeightDims};
use crate::GpuError;
use crate::error::product;
use crate::kernel::route;
use crate::plan::{Buffer, BufferId};

/// `[T,H]`.
pub(crate) const HIDDEN_STATES: BufferId = BufferId("hidden_states");
/// `[T,K]`, i64.
pub(crate) const ROUTER_INDICES: BufferId = BufferId("router_indices");
/// `[T,E]`.
pub(crate) const ROUTING_WEIGHTS: BufferId = BufferId("routing_weights");
/// Assignments of each expert by tile of the route kernels, `[tiles,E]`, i32.
pub(crate) const COUNTS: BufferId = BufferId("counts");
/// Inclusive cumulative counts, `[E]`, i32.
pub(crate) const BINS: BufferId = BufferId("bins");
/// First row of each expert and R, `[E+1]`, i32.
pub(crate) const ROW_STARTS: BufferId = BufferId("row_starts");
/// First tile of the portable products of each expert and their number, `[E+1]`, i32.
pub(crate) const TILE_STARTS: BufferId = BufferId("tile_starts");
/// First panel of each expert and their number, `[E+1]`, i32.
pub(crate) const PANEL_STARTS: BufferId = BufferId("panel_starts");
/// `[T·K]`, i32; of which the first are the assignments to local experts.
pub(crate) const SORTED_INDICES: BufferId = BufferId("sorted_indices");
/// The row of each assignment, `[T·K]`, i32; -1 for a dropped one, and for one to an expert that is not local.
pub(crate) const ROW_OF: BufferId = BufferId("row_of");
/// The assignment of each row, `[R]`, i32.
pub(crate) const ASSIGNMENT_OF: BufferId = BufferId("assignment_of");
/// `[R,2I]`, f32; only where stages are asked for.
pub(crate) const GATE_UP: BufferId = BufferId("gate_up");
/// `[R,I]`, f32.
pub(crate) const ACTIVATED: BufferId = BufferId("activated");
/// `[R,H]`, f32.
pub(crate) const EXPERT_OUTPUT: BufferId = BufferId("expert_output");
/// `[R,H]`, bf16.
pub(crate) const EXPERT_OUTPUT_BF16: BufferId = BufferId("expert_output_bf16");
/// `[T,H]`.
pub(crate) const OUTPUT: BufferId = BufferId("output");

/// `[E,H,2I]`.
pub(crate) const GATE_UP_PROJ: BufferId = BufferId("gate_up_proj");
/// `[E,2I]`.
pub(crate) const GATE_UP_PROJ_BIAS: BufferId = BufferId("gate_up_proj_bias");
/// `[E,I,H]`.
pub(crate) const DOWN_PROJ: BufferId = BufferId("down_proj");
/// `[E,H]`.
pub(crate) const DOWN_PROJ_BIAS: BufferId = BufferId("down_proj_bias");

/// Matrices as the tensor cores take them, and the inverse scale and bias of each column, `[E,columns,2]`, f32.
pub(crate) const GATE_UP_PACKED: BufferId = BufferId("gate_up_packed");
pub(crate) const GATE_UP_COLUMNS: BufferId = BufferId("gate_up_columns");
pub(crate) const DOWN_PACKED: BufferId = BufferId("down_packed");
pub(crate) const DOWN_COLUMNS: BufferId = BufferId("down_columns");
/// The bias of each line of the packed matrices, `[E,lines]`, f32.
pub(crate) const GATE_UP_PACKED_BIAS: BufferId = BufferId("gate_up_packed_bias");
pub(crate) const DOWN_PACKED_BIAS: BufferId = BufferId("down_packed_bias");
/// Bounds of the columns of the first product, `[E,2]`, f32.
pub(crate) const NORMS: BufferId = BufferId("norms");
/// Experts that are left to the portable kernels, `[E]`, i32.
pub(crate) const FALLBACK_EXPERTS: BufferId = BufferId("fallback_experts");

/// Rows as the tensor cores take them, by panel.
pub(crate) const PACKED_TOKENS: BufferId = BufferId("packed_tokens");
/// Activations, likewise.
pub(crate) const PACKED_ACTIVATED: BufferId = BufferId("packed_activated");
/// Inverse scale of each row, and the scale of its activations, `[R,2]`, f32.
pub(crate) const ROW_SCALES: BufferId = BufferId("row_scales");
/// The number of rows left to the portable kernels, and whether each row is one, `[1+R]`, i32.
pub(crate) const FALLBACK_ROWS: BufferId = BufferId("fallback_rows");
/// Activations of each row that are large enough, `[R]`, i32.
pub(crate) const LARGE_COUNTS: BufferId = BufferId("large_counts");
/// What has been drawn and finished of the tiles, i32.
pub(crate) const PROGRESS: BufferId = BufferId("progress");
/// Sums of the parts of tiles that are cut, f32.
pub(crate) const PART_SUMS: BufferId = BufferId("part_sums");

/// The weights as the caller gives them, of elements of so many bytes.
pub(super) fn weights(dims: WeightDims, element_bytes: usize) -> Result<Vec<Buffer>, GpuError> {
    let WeightDims {
        hidden,
        intermediate,
        experts,
    } = dims;
    let buffer = |id, shape: &[usize]| Buffer::new(id, element_bytes, shape);
    Ok(vec![
        buffer(GATE_UP_PROJ, &[experts, hidden, 2, intermediate])?,
        buffer(GATE_UP_PROJ_BIAS, &[experts, 2, intermediate])?,
        buffer(DOWN_PROJ, &[experts, intermediate, hidden])?,
        buffer(DOWN_PROJ_BIAS, &[experts, hidden])?,
    ])
}

/// Inputs, output, and the rows of the experts; inputs and output have elements of so many bytes.
pub(super) fn ends(call: &Call, element_bytes: usize) -> Result<Vec<Buffer>, GpuError> {
    let (dims, assignments) = (call.dims, call.assignments());
    let buffer = |id, shape: &[usize]| Buffer::new(id, element_bytes, shape);
    Ok(vec![
        buffer(HIDDEN_STATES, &[dims.tokens, dims.hidden])?,
        Buffer::new(ROUTER_INDICES, size_of::<i64>(), &[assignments])?,
        buffer(ROUTING_WEIGHTS, &[dims.tokens, dims.experts])?,
        Buffer::i32(ROW_STARTS, &[dims.experts + 1])?,
        Buffer::i32(ROW_OF, &[assignments])?,
        buffer(OUTPUT, &[dims.tokens, dims.hidden])?,
    ])
}

/// What the kernels of `route.cu` write besides.
pub(super) fn routing(call: &Call) -> Result<Vec<Buffer>, GpuError> {
    let experts = call.dims.experts;
    Ok(vec![
        Buffer::i32(COUNTS, &[route::tiles(call), experts])?,
        Buffer::i32(BINS, &[experts])?,
        Buffer::i32(TILE_STARTS, &[experts + 1])?,
        Buffer::i32(PANEL_STARTS, &[experts + 1])?,
        Buffer::i32(SORTED_INDICES, &[call.assignments()])?,
        Buffer::i32(ASSIGNMENT_OF, &[call.max_rows()])?,
    ])
}

/// The stages in f32.
pub(super) fn stages(call: &Call) -> Result<Vec<Buffer>, GpuError> {
    let (dims, max_rows) = (call.dims, call.max_rows());
    let gate_up_width = product(GATE_UP.0, &[2, dims.intermediate])?;
    let gate_up_rows = if call.with_stages { max_rows } else { 0 };
    Ok(vec![
        Buffer::f32(GATE_UP, &[gate_up_rows, gate_up_width])?,
        Buffer::f32(ACTIVATED, &[max_rows, dims.intermediate])?,
        Buffer::f32(EXPERT_OUTPUT, &[max_rows, dims.hidden])?,
    ])
}

/// All of the above, with inputs and output in f32.
pub(super) fn all_in_f32(call: &Call) -> Result<Vec<Buffer>, GpuError> {
    Ok([ends(call, size_of::<f32>())?, routing(call)?, stages(call)?].concat())
}
