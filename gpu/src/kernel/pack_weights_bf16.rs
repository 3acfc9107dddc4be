//! `kernels/pack_bf16.cu`: the matrices of all experts in bf16, as the tensor cores read them.

use super::tiles_bf16::k_blocks;
use super::{Planned, int, named, step};
use crate::plan::BufferId;

const PACK_THREADS: usize = 256;

/// The matrices of one product.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrices {
    pub(crate) matrices: BufferId,
    pub(crate) bias: BufferId,
    pub(crate) packed: BufferId,
    /// The bias of each line, in f32.
    pub(crate) biases: BufferId,
    pub(crate) experts: usize,
    pub(crate) depth: usize,
    pub(crate) width: usize,
    pub(crate) line_tiles: usize,
    /// Whether two columns that follow one another are the gate and the up of one activation.
    pub(crate) pairs: bool,
}

pub(crate) fn pack_weights_bf16(of: Matrices) -> Planned {
    let args = [
        named("matrices", of.matrices),
        named("bias", of.bias),
        named("packed", of.packed),
        named("biases", of.biases),
        int("depth", of.depth),
        int("width", of.width),
        int("line_tiles", of.line_tiles),
        int("pairs", usize::from(of.pairs)),
    ];
    let images = of
        .experts
        .saturating_mul(of.line_tiles)
        .saturating_mul(k_blocks(of.depth));
    step("pack_weights_bf16", images, PACK_THREADS, args)
}
