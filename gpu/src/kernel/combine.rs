//! `kernels/combine.cu`: the weighted sum over the slots.

use super::{Planned, buffer, float, int, step};
use crate::path::Call;
use crate::path::buffers::*;

const COMBINE_THREADS: usize = 256;

pub(crate) fn combine(call: &Call) -> Planned {
    let args = [
        buffer(EXPERT_OUTPUT),
        buffer(ROUTER_INDICES),
        buffer(ROUTING_WEIGHTS),
        buffer(ROW_OF),
        buffer(OUTPUT),
        int("tokens", call.dims.tokens),
        int("hidden", call.dims.hidden),
        int("experts", call.dims.experts),
        int("top_k", call.dims.top_k),
        int("first_expert", call.first_expert),
        float("scale", call.scale),
    ];
    // Four columns a thread.
    let threads = call.dims.tokens.saturating_mul(call.dims.hidden.div_ceil(4));
    step("combine", threads.div_ceil(COMBINE_THREADS), COMBINE_THREADS, args)
}
