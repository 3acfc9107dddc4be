//! `kernels/split.cuh`: the layout of operands that are split in two f16.

use super::tile::PANEL_ROWS;

pub(crate) const PANEL_COLUMNS: usize = 192;
const K_BLOCK: usize = 32;
const LINE_WORDS: usize = 16;
pub(crate) const LEFT_WORDS: usize = PANEL_ROWS * LINE_WORDS;
pub(crate) const RIGHT_WORDS: usize = PANEL_COLUMNS * LINE_WORDS;
pub(super) const DEPTH_UNIT: usize = 64;

/// K-blocks of a depth, padding included.
pub(crate) fn k_blocks(depth: usize) -> usize {
    depth.div_ceil(DEPTH_UNIT) * (DEPTH_UNIT / K_BLOCK)
}

/// Column tiles of the first product. They cover the padding of the activations as well.
pub(crate) fn gate_up_tiles(intermediate: usize) -> usize {
    (2 * DEPTH_UNIT)
        .saturating_mul(intermediate.div_ceil(DEPTH_UNIT))
        .div_ceil(PANEL_COLUMNS)
}

/// Column tiles of the second product.
pub(crate) fn down_tiles(hidden: usize) -> usize {
    hidden.div_ceil(PANEL_COLUMNS)
}
