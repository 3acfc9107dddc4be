//! f32 on Hopper's tensor cores: each operand is split in two f16. What cannot be split is left to the portable kernels.

use std::marker::PhantomData;

use super::buffers::{self, *};
use super::portable::{PORTABLE_FP32, products, route};
use super::{Call, Path, Rows, WeightDims};
use crate::GpuError;
use crate::kernel::experts::{DOWN_PARTS, cut_tiles, experts, progress_words};
use crate::kernel::pack_weights::{Matrices, pack_weights};
use crate::kernel::split::{LEFT_WORDS, PANEL_COLUMNS, RIGHT_WORDS, down_tiles, gate_up_tiles, k_blocks};
use crate::kernel::split_tokens::{mark_fallback_rows, split_tokens};
use crate::kernel::tile::{PANEL_ROWS, panels};
use crate::plan::{Buffer, Plan, Step};

/// f32 on Hopper's tensor cores, for H and I of 32 or more; the weights as they are and packed beside.
pub static HOPPER_FP32: Path = Path {
    name: "hopper_fp32",
    element: PhantomData,
    needs_hopper: true,
    // Tiles of the last round are cut along the depth.
    is_batch_invariant: false,
    widens: false,
    // Below it the products left out and the truncated sums weigh more than the roundings of f32.
    takes: |dims| dims.hidden.min(dims.intermediate) >= 32,
    fallback: Some(&PORTABLE_FP32),
    weights,
    forward,
};

/// Bytes of a word of the packed operands.
const WORD: usize = size_of::<u64>();

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
        columns: GATE_UP_COLUMNS,
        norms: Some(NORMS),
        experts,
        depth: hidden,
        width: 2 * intermediate,
        column_tiles: gate_up_tiles(intermediate),
        permutes: false,
    };
    let down = Matrices {
        matrices: DOWN_PROJ,
        bias: DOWN_PROJ_BIAS,
        packed: DOWN_PACKED,
        columns: DOWN_COLUMNS,
        // Nothing needs a bound of the results.
        norms: None,
        experts,
        depth: intermediate,
        width: hidden,
        column_tiles: down_tiles(hidden),
        permutes: true,
    };
    let mut buffers = buffers::weights(dims, size_of::<f32>())?;
    for of in [gate_up, down] {
        let tiles = [experts, of.column_tiles];
        buffers.push(Buffer::new(
            of.packed,
            WORD,
            &[tiles[0], tiles[1], k_blocks(of.depth), RIGHT_WORDS],
        )?);
        buffers.push(Buffer::f32(of.columns, &[tiles[0], tiles[1], PANEL_COLUMNS, 2])?);
    }
    buffers.push(Buffer::f32(NORMS, &[experts, 2])?.zeroed());
    buffers.push(Buffer::i32(FALLBACK_EXPERTS, &[experts])?.zeroed());
    let steps = [pack_weights(gate_up)?, pack_weights(down)?];
    Ok(Plan {
        buffers,
        steps: steps.into_iter().flatten().collect(),
    })
}

fn forward(call: &Call) -> Result<Plan, GpuError> {
    let (panels, max_rows) = (panels(call), call.max_rows());
    let packed = |id, depth| Buffer::new(id, WORD, &[panels, k_blocks(depth), LEFT_WORDS]);
    let mut buffers = buffers::all_in_f32(call)?;
    buffers.extend([
        packed(PACKED_TOKENS, call.dims.hidden)?,
        packed(PACKED_ACTIVATED, call.dims.intermediate)?,
        Buffer::f32(ROW_SCALES, &[max_rows, 2])?,
        Buffer::i32(FALLBACK_ROWS, &[1 + max_rows])?,
        Buffer::i32(LARGE_COUNTS, &[max_rows])?,
        Buffer::i32(PROGRESS, &[progress_words(call)])?,
        Buffer::f32(PART_SUMS, &[cut_tiles(call), DOWN_PARTS, PANEL_ROWS, PANEL_COLUMNS])?,
    ]);
    let on_tensor_cores = [split_tokens(call)?, experts(call)?, mark_fallback_rows(call)?];
    let on_tensor_cores: Vec<Step> = on_tensor_cores.into_iter().flatten().collect();
    let steps = [route(call)?, on_tensor_cores, products(call, Rows::Fallback)?].concat();
    Ok(Plan { buffers, steps })
}
