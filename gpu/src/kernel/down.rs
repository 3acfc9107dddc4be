//! `kernels/down.cu`: the second product.

use super::tile::{TILE_THREADS, tiles};
use super::{Planned, buffer, buffer_if, int, step};
use crate::path::buffers::*;
use crate::path::{Call, Rows};

pub(crate) fn down(call: &Call, rows: Rows) -> Planned {
    let args = [
        buffer(ACTIVATED),
        buffer(DOWN_PROJ),
        buffer(DOWN_PROJ_BIAS),
        buffer(ROW_STARTS),
        buffer(TILE_STARTS),
        buffer_if(rows == Rows::Fallback, FALLBACK_ROWS),
        buffer(EXPERT_OUTPUT),
        int("hidden", call.dims.hidden),
        int("intermediate", call.dims.intermediate),
        int("experts", call.dims.experts),
    ];
    let tiles = tiles(call, call.dims.hidden);
    step("down", rows.blocks(call, tiles), TILE_THREADS, args)
}
