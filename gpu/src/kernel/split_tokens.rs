//! `kernels/split_tokens.cu`: the rows, split for the tensor cores, and those that are left to the portable kernels.

use super::experts::progress_words;
use super::{Planned, buffer, float, int, named, step};
use crate::path::Call;
use crate::path::buffers::*;

const SPLIT_THREADS: usize = 128;

pub(crate) fn split_tokens(call: &Call) -> Planned {
    let args = [
        buffer(HIDDEN_STATES),
        buffer(ROUTER_INDICES),
        buffer(ROW_OF),
        buffer(ROW_STARTS),
        buffer(PANEL_STARTS),
        buffer(NORMS),
        buffer(FALLBACK_EXPERTS),
        named("packed", PACKED_TOKENS),
        buffer(ROW_SCALES),
        buffer(FALLBACK_ROWS),
        buffer(LARGE_COUNTS),
        buffer(PROGRESS),
        int("hidden", call.dims.hidden),
        int("top_k", call.dims.top_k),
        int("first_expert", call.first_expert),
        int("progress_words", progress_words(call)),
        float("alpha", call.activation.alpha),
        float("limit", call.activation.limit),
        float("up_offset", call.activation.up_offset),
    ];
    let tokens = if call.max_rows() > 0 { call.dims.tokens } else { 0 };
    step("split_tokens", tokens, SPLIT_THREADS, args)
}

pub(crate) fn mark_fallback_rows(call: &Call) -> Planned {
    let args = [
        buffer(ROW_STARTS),
        buffer(LARGE_COUNTS),
        buffer(FALLBACK_ROWS),
        int("intermediate", call.dims.intermediate),
        int("experts", call.dims.experts),
    ];
    step(
        "mark_fallback_rows",
        call.max_rows().div_ceil(SPLIT_THREADS),
        SPLIT_THREADS,
        args,
    )
}
