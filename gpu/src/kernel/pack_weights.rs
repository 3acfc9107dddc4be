//! `kernels/pack.cu`: the matrices of all experts, split for the tensor cores.

use super::split::{DEPTH_UNIT, PANEL_COLUMNS};
use super::{Planned, buffer, int, named, step};
use crate::path::buffers::*;
use crate::plan::{BufferId, Value};

const PACK_COLUMNS: usize = 64;
const PACK_PARTS: usize = 8;

/// The matrices of one product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrices {
    pub(crate) matrices: BufferId,
    pub(crate) bias: BufferId,
    pub(crate) packed: BufferId,
    /// Inverse scale and bias of each column.
    pub(crate) columns: BufferId,
    /// Bounds of the columns, where a later kernel asks for them.
    pub(crate) norms: Option<BufferId>,
    pub(crate) experts: usize,
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) column_tiles: usize,
    /// Whether the depth is permuted, as the activations are.
    pub(crate) permutes: bool,
}

pub(crate) fn pack_weights(of: Matrices) -> Planned {
    let args = [
        named("matrices", of.matrices),
        named("bias", of.bias),
        named("packed", of.packed),
        named("columns", of.columns),
        ("norms", of.norms.map_or(Value::Null, Value::Buffer)),
        buffer(FALLBACK_EXPERTS),
        int("depth", of.depth),
        int("width", of.width),
        int("column_tiles", of.column_tiles),
        int("permutes", usize::from(of.permutes)),
    ];
    let columns = of.experts.saturating_mul(of.column_tiles).saturating_mul(PANEL_COLUMNS);
    // A part takes a depth of DEPTH_UNIT at least.
    let parts = of.depth.div_ceil(DEPTH_UNIT).clamp(1, PACK_PARTS);
    step("pack_weights", columns / PACK_COLUMNS, PACK_COLUMNS * parts, args)
}
