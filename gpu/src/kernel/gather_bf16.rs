//! `kernels/gather_bf16.cu`: the rows of all experts in bf16, as the tensor cores read them, and the routing of few
//! assignments.

use super::experts_bf16::progress_words;
use super::tiles_bf16::EXPERTS_THREADS;
use super::{Planned, WARP, buffer, int, named, step};
use crate::path::Call;
use crate::path::buffers::*;

const MOST_ROUTED: usize = 2048;

/// Whether one launch can route and gather.
pub(crate) fn routes_at_once(call: &Call) -> bool {
    (1..=MOST_ROUTED).contains(&call.assignments()) && call.dims.top_k <= WARP && !call.has_order
}

/// How many panels are gathered before the products begin: those of the first tiles. Each multiprocessor has one tile, and
/// eight or more of them read the same panel where gathering takes long.
pub(crate) fn first_panels(call: &Call) -> usize {
    call.multiprocessors.div_ceil(8)
}

pub(crate) fn gather_bf16(call: &Call, gathered_panels: usize) -> Planned {
    let args = [
        buffer(HIDDEN_STATES),
        buffer(ROUTER_INDICES),
        buffer(ROW_OF),
        buffer(ROW_STARTS),
        named("packed", PACKED_TOKENS),
        buffer(PROGRESS),
        int("tokens", call.dims.tokens),
        int("hidden", call.dims.hidden),
        int("n_experts", call.dims.experts),
        int("top_k", call.dims.top_k),
        int("first_expert", call.first_expert),
        int("gathered_panels", gathered_panels),
        int("progress_words", progress_words(call)),
    ];
    let blocks = call.dims.tokens.div_ceil(EXPERTS_THREADS / WARP);
    // As many as run at once.
    let at_once = call.multiprocessors.saturating_mul(3);
    step("gather_bf16", blocks.min(at_once), EXPERTS_THREADS, args)
}

pub(crate) fn route_gather_bf16(call: &Call) -> Planned {
    let args = [
        buffer(HIDDEN_STATES),
        buffer(ROUTER_INDICES),
        buffer(ROW_STARTS),
        buffer(ROW_OF),
        named("packed", PACKED_TOKENS),
        buffer(PROGRESS),
        int("tokens", call.dims.tokens),
        int("hidden", call.dims.hidden),
        int("n_experts", call.dims.experts),
        int("top_k", call.dims.top_k),
        int("first_expert", call.first_expert),
        int("capacity", call.dims.capacity),
        int("progress_words", progress_words(call)),
    ];
    step("route_gather_bf16", call.dims.tokens, EXPERTS_THREADS, args)
}
