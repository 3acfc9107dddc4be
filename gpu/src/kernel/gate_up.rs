//! `kernels/gate_up.cu`: the first product, the gather and the activation.

use super::tile::{TILE_THREADS, tiles};
use super::{Planned, buffer, buffer_if, float, int, step};
use crate::path::buffers::*;
use crate::path::{Call, Rows};

pub(crate) fn gate_up(call: &Call, rows: Rows) -> Planned {
    let args = [
        buffer(HIDDEN_STATES),
        buffer(GATE_UP_PROJ),
        buffer(GATE_UP_PROJ_BIAS),
        buffer(ASSIGNMENT_OF),
        buffer(ROW_STARTS),
        buffer(TILE_STARTS),
        buffer_if(rows == Rows::Fallback, FALLBACK_ROWS),
        buffer_if(call.with_stages, GATE_UP),
        buffer(ACTIVATED),
        int("hidden", call.dims.hidden),
        int("intermediate", call.dims.intermediate),
        int("experts", call.dims.experts),
        int("top_k", call.dims.top_k),
        float("alpha", call.activation.alpha),
        float("limit", call.activation.limit),
        float("up_offset", call.activation.up_offset),
    ];
    let tiles = tiles(call, call.dims.intermediate.saturating_mul(2));
    step("gate_up", rows.blocks(call, tiles), TILE_THREADS, args)
}
