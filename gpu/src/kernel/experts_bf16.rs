//! `kernels/experts_bf16.cu`: both products in bf16 on Hopper's tensor cores.

use super::gather_bf16::routes_at_once;
use super::tiles_bf16::{EXPERTS_THREADS, most_panels, most_tiles};
use super::{Planned, buffer, buffer_if, float, int, named, step};
use crate::error::INDEX_LIMIT;
use crate::path::Call;
use crate::path::buffers::*;
use crate::{GpuError, Launch};

const RING_BYTES: usize = 209 * 1024;

/// `gathered_panels` are gathered before; this kernel gathers the rows of the others. It counts few assignments itself.
pub(crate) fn experts_bf16(call: &Call, gathered_panels: usize) -> Planned {
    let counts = routes_at_once(call);
    let args = [
        buffer(HIDDEN_STATES),
        buffer_if(gathered_panels < most_panels(call), ASSIGNMENT_OF),
        named("packed_rows", PACKED_TOKENS),
        buffer_if(!counts, ROW_STARTS),
        buffer_if(counts, ROUTER_INDICES),
        buffer(GATE_UP_PACKED),
        named("gate_up_bias", GATE_UP_PACKED_BIAS),
        buffer(DOWN_PACKED),
        named("down_bias", DOWN_PACKED_BIAS),
        buffer(PROGRESS),
        named("activated", PACKED_ACTIVATED),
        named("expert_output", EXPERT_OUTPUT_BF16),
        int("hidden", call.dims.hidden),
        int("intermediate", call.dims.intermediate),
        int("n_experts", call.dims.experts),
        int("top_k", call.dims.top_k),
        int("assignments", call.assignments()),
        int("first_expert", call.first_expert),
        int("capacity", call.dims.capacity),
        int("gathered_panels", gathered_panels),
        float("alpha", call.activation.alpha),
        float("limit", call.activation.limit),
        float("up_offset", call.activation.up_offset),
    ];
    let tiles = most_tiles(call);
    let blocks = tiles.min(call.multiprocessors);
    // A block that draws the last tile draws once more, and finds nothing; so does each of two warps that draw rows.
    let draws = tiles
        .saturating_add(blocks)
        .max(call.max_rows().saturating_add(2 * blocks));
    if draws >= INDEX_LIMIT {
        return Err(GpuError::TooManyBlocks {
            kernel: "experts_bf16",
            blocks: draws,
        });
    }
    let mut step = step("experts_bf16", blocks, EXPERTS_THREADS, args)?;
    if let Some(step) = &mut step {
        step.launch = Launch {
            shared: RING_BYTES as u32,
            ..step.launch
        };
    }
    Ok(step)
}

/// Words of `progress`.
pub(crate) fn progress_words(call: &Call) -> usize {
    2 + 2 * most_panels(call)
}
