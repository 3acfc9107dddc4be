//! `kernels/combine_bf16.cu`: the weighted sum over the slots, in bf16.

use super::tiles_bf16::CHUNK;
use super::{Planned, buffer, float, int, named, step};
use crate::path::Call;
use crate::path::buffers::*;

const COMBINE_THREADS: usize = 256;

pub(crate) fn combine_bf16(call: &Call) -> Planned {
    let args = [
        named("expert_output", EXPERT_OUTPUT_BF16),
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
    let threads = call.dims.tokens.saturating_mul(call.dims.hidden / CHUNK);
    step("combine_bf16", threads.div_ceil(COMBINE_THREADS), COMBINE_THREADS, args)
}
