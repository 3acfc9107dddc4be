//! `kernels/tile.cuh`: how the rows of all experts are cut into tiles of the portable products and panels of the tensor
//! cores.

use crate::path::Call;

pub(crate) const PANEL_ROWS: usize = 128;
pub(super) const TILE_ROWS: usize = 64;
pub(super) const TILE_COLUMNS: usize = 64;
pub(super) const TILE_THREADS: usize = 128;

/// The most panels that the kept rows take.
pub(crate) fn panels(call: &Call) -> usize {
    groups(call, PANEL_ROWS)
}

/// The most tiles of a product of this width.
pub(super) fn tiles(call: &Call, width: usize) -> usize {
    groups(call, TILE_ROWS).saturating_mul(width.div_ceil(TILE_COLUMNS))
}

/// Every expert can end in a group that is not full, but none is empty.
fn groups(call: &Call, rows: usize) -> usize {
    let max_rows = call.max_rows();
    max_rows.min(max_rows.div_ceil(rows) + call.dims.experts)
}
