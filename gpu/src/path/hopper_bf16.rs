//! bf16 on Hopper's tensor cores.

use std::marker::PhantomData;

use half::bf16;

use super::buffers::{self, *};
use super::portable::{PORTABLE_BF16, route};
use super::{Call, Path, WeightDims};
use crate::GpuError;
use crate::kernel::combine_bf16::combine_bf16;
use crate::kernel::experts_bf16::{experts_bf16, progress_words};
use crate::kernel::gather_bf16::{first_panels, gather_bf16, route_gather_bf16, routes_at_once};
use crate::kernel::pack_weights_bf16::{Matrices, pack_weights_bf16};
use crate::kernel::tiles_bf16::{
    CHUNK, LARGEST_EXPERTS, LINE_WORDS, MATRIX_LINES, MATRIX_WORDS, k_blocks, line_tiles_of_down,
    line_tiles_of_gate_up, most_lines, most_panels,
};
use crate::plan::{Buffer, Plan};

/// bf16 on Hopper's tensor cores, for H and I that are multiples of 8, and up to 512 experts. Sums are f32; activations
/// and the results of the experts are rounded to bf16. The weights are kept packed, and not as they are.
pub static HOPPER_BF16: Path<bf16> = Path {
    name: "hopper_bf16",
    element: PhantomData,
    needs_hopper: true,
    is_batch_invariant: true,
    widens: false,
    takes,
    fallback: Some(&PORTABLE_BF16),
    weights,
    forward,
};

/// Bytes of a word of the packed operands.
const WORD: usize = size_of::<u64>();

fn takes(dims: WeightDims) -> bool {
    let fits = |size: usize| size > 0 && size.is_multiple_of(CHUNK);
    fits(dims.hidden) && fits(dims.intermediate) && dims.experts <= LARGEST_EXPERTS
}

fn weights(dims: WeightDims) -> Result<Plan, GpuError> {
    let WeightDims {
        hidden,
        intermediate,
        experts,
    } = dims;
    let gate_up = Matrices {
        matrices: GATE_UP_PROJ,
        bias: GATE_UP_PROJ_BIAS,
        packed: GATE_UP_PACKED,
        biases: GATE_UP_PACKED_BIAS,
        experts,
        depth: hidden,
        width: 2 * intermediate,
        line_tiles: line_tiles_of_gate_up(intermediate),
        pairs: true,
    };
    let down = Matrices {
        matrices: DOWN_PROJ,
        bias: DOWN_PROJ_BIAS,
        packed: DOWN_PACKED,
        biases: DOWN_PACKED_BIAS,
        experts,
        depth: intermediate,
        width: hidden,
        line_tiles: line_tiles_of_down(hidden),
        pairs: false,
    };
    let as_given = buffers::weights(dims, size_of::<bf16>())?;
    let mut buffers: Vec<Buffer> = as_given.into_iter().map(Buffer::temporary).collect();
    for of in [gate_up, down] {
        let images = [experts, of.line_tiles, k_blocks(of.depth), MATRIX_WORDS];
        buffers.push(Buffer::new(of.packed, WORD, &images)?);
        buffers.push(Buffer::f32(of.biases, &[experts, of.line_tiles, MATRIX_LINES])?);
    }
    let steps = [pack_weights_bf16(gate_up)?, pack_weights_bf16(down)?];
    Ok(Plan {
        buffers,
        steps: steps.into_iter().flatten().collect(),
    })
}

fn forward(call: &Call) -> Result<Plan, GpuError> {
    let lines = most_lines(call);
    let packed = |id, depth| Buffer::new(id, WORD, &[lines, k_blocks(depth), LINE_WORDS]);
    let mut buffers = buffers::ends(call, size_of::<bf16>())?;
    buffers.extend([
        packed(PACKED_TOKENS, call.dims.hidden)?,
        packed(PACKED_ACTIVATED, call.dims.intermediate)?,
        Buffer::i32(PROGRESS, &[progress_words(call)])?,
        Buffer::new(
            EXPERT_OUTPUT_BF16,
            size_of::<bf16>(),
            &[call.max_rows(), call.dims.hidden],
        )?,
    ]);
    let mut steps = Vec::new();
    let gathered_panels = if routes_at_once(call) {
        steps.extend(route_gather_bf16(call)?);
        most_panels(call)
    } else {
        let first_panels = first_panels(call);
        buffers.extend(buffers::routing(call)?);
        steps.extend(route(call)?);
        steps.extend(gather_bf16(call, first_panels)?);
        first_panels
    };
    steps.extend(experts_bf16(call, gathered_panels)?);
    steps.extend(combine_bf16(call)?);
    Ok(Plan { buffers, steps })
}
