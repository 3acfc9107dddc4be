//! `kernels/route.cu`: the order of the assignments and the rows that the capacity keeps.

use super::{Planned, WARP, buffer, int, step};
use crate::path::Call;
use crate::path::buffers::*;

const ROUTE_TILE: usize = 256;
const ROUTE_WARPS: usize = 4;
const ROUTE_THREADS: usize = ROUTE_WARPS * WARP;
const SCAN_THREADS: usize = 128;

/// Tiles of assignments.
pub(crate) fn tiles(call: &Call) -> usize {
    call.assignments().div_ceil(ROUTE_TILE)
}

pub(crate) fn count_assignments(call: &Call) -> Planned {
    let args = [
        buffer(ROUTER_INDICES),
        buffer(COUNTS),
        int("assignments", call.assignments()),
        int("experts", call.dims.experts),
        int("first_expert", call.first_expert),
    ];
    step(
        "count_assignments",
        tiles(call).div_ceil(ROUTE_WARPS),
        ROUTE_THREADS,
        args,
    )
}

pub(crate) fn scan_bins(call: &Call) -> Planned {
    let args = [
        buffer(COUNTS),
        buffer(BINS),
        buffer(ROW_STARTS),
        buffer(TILE_STARTS),
        buffer(PANEL_STARTS),
        int("tiles", tiles(call)),
        int("experts", call.dims.experts),
        int("capacity", call.dims.capacity),
    ];
    step("scan_bins", 1, SCAN_THREADS, args)
}

pub(crate) fn rank_assignments(call: &Call) -> Planned {
    let args = [
        buffer(ROUTER_INDICES),
        buffer(COUNTS),
        buffer(BINS),
        buffer(ROW_STARTS),
        buffer(SORTED_INDICES),
        buffer(ROW_OF),
        buffer(ASSIGNMENT_OF),
        int("assignments", call.assignments()),
        int("experts", call.dims.experts),
        int("first_expert", call.first_expert),
        int("capacity", call.dims.capacity),
    ];
    step(
        "rank_assignments",
        tiles(call).div_ceil(ROUTE_WARPS),
        ROUTE_THREADS,
        args,
    )
}

pub(crate) fn place_order(call: &Call) -> Planned {
    let args = [
        buffer(ROUTER_INDICES),
        buffer(BINS),
        buffer(ROW_STARTS),
        buffer(SORTED_INDICES),
        buffer(ROW_OF),
        buffer(ASSIGNMENT_OF),
        int("assignments", call.assignments()),
        int("experts", call.dims.experts),
        int("first_expert", call.first_expert),
        int("capacity", call.dims.capacity),
    ];
    step(
        "place_order",
        call.assignments().div_ceil(ROUTE_THREADS),
        ROUTE_THREADS,
        args,
    )
}
