//! `kernels/experts.cu`, with `queue.cuh` and `finish.cuh`: both products on Hopper's tensor cores.

use super::split::{LEFT_WORDS, RIGHT_WORDS, down_tiles, gate_up_tiles};
use super::tile::panels;
use super::{Planned, WARPGROUP, buffer, buffer_if, float, int, named, step};
use crate::error::INDEX_LIMIT;
use crate::path::Call;
use crate::path::buffers::*;
use crate::{GpuError, Launch};

const EXPERTS_THREADS: usize = 3 * WARPGROUP;
const CONSUMER_WARPS: usize = 8;
const RING_SLOTS: usize = 5;
const SLOT_WORDS: usize = LEFT_WORDS + RIGHT_WORDS;
pub(crate) const DOWN_PARTS: usize = 3;

pub(crate) fn experts(call: &Call) -> Planned {
    let args = [
        named("tokens", PACKED_TOKENS),
        buffer(GATE_UP_PACKED),
        buffer(GATE_UP_COLUMNS),
        buffer(DOWN_PACKED),
        buffer(DOWN_COLUMNS),
        buffer(ROW_STARTS),
        buffer(PANEL_STARTS),
        buffer(ROW_SCALES),
        buffer(PROGRESS),
        buffer(LARGE_COUNTS),
        buffer(PACKED_ACTIVATED),
        buffer(PART_SUMS),
        buffer_if(call.with_stages, GATE_UP),
        buffer_if(call.with_stages, ACTIVATED),
        buffer(EXPERT_OUTPUT),
        int("hidden", call.dims.hidden),
        int("intermediate", call.dims.intermediate),
        int("n_experts", call.dims.experts),
        int("gate_up_tiles", gate_up_tiles(call.dims.intermediate)),
        int("down_tiles", down_tiles(call.dims.hidden)),
        int("cuts_tiles", usize::from(call.cuts_tiles)),
        float("alpha", call.activation.alpha),
        float("limit", call.activation.limit),
        float("up_offset", call.activation.up_offset),
    ];
    // A block that draws the last piece draws once more, and finds nothing.
    let draws = tiles(call).saturating_add(DOWN_PARTS * (cut_tiles(call) + blocks(call)));
    if draws >= INDEX_LIMIT {
        return Err(GpuError::TooManyBlocks {
            kernel: "experts",
            blocks: draws,
        });
    }
    let mut step = step("experts", blocks(call), EXPERTS_THREADS, args)?;
    if let Some(step) = &mut step {
        step.launch = Launch {
            shared: (RING_SLOTS * SLOT_WORDS * size_of::<u64>()) as u32,
            ..step.launch
        };
    }
    Ok(step)
}

/// Words of `progress`.
pub(crate) fn progress_words(call: &Call) -> usize {
    1 + CONSUMER_WARPS * blocks(call) + panels(call)
}

/// The most tiles that are cut into parts.
pub(crate) fn cut_tiles(call: &Call) -> usize {
    if call.cuts_tiles {
        tiles_of_down(call).min(blocks(call).saturating_sub(1))
    } else {
        0
    }
}

fn blocks(call: &Call) -> usize {
    tiles(call).min(call.multiprocessors)
}

/// The most tiles of both products.
fn tiles(call: &Call) -> usize {
    panels(call)
        .saturating_mul(gate_up_tiles(call.dims.intermediate))
        .saturating_add(tiles_of_down(call))
}

fn tiles_of_down(call: &Call) -> usize {
    panels(call).saturating_mul(down_tiles(call.dims.hidden))
}
