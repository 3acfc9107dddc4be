//! The weights as the tensor cores take them, and the sizes of that layout. As in `kernels/split.cuh`.

use crate::{Arg, GpuError, Launch, Machine};

/// Rows of a panel of tokens.
pub(crate) const PANEL_ROWS: usize = 128;
/// Columns of a tile of the products.
pub(crate) const PANEL_COLUMNS: usize = 192;
/// The depth of an image.
const STEP: usize = 32;
/// Depths are padded to its multiples.
const DEPTH_UNIT: usize = 64;
/// Bytes of a line of an image.
const LINE_BYTES: usize = 128;
/// The least depth of a product: below it the products left out and the truncated sums weigh more than the roundings
/// of f32.
const LEAST_DEPTH: usize = 32;
/// Columns of a block of `pack_weights`.
const PACK_COLUMNS: usize = 64;
/// The most parts in which such a block takes the depth, and the least depth of one but for the last.
const PACK_PARTS: usize = 8;
const PACK_DEPTH: usize = 64;

/// Whether the tensor cores take products of these sizes.
pub(crate) fn are_taken(hidden: usize, intermediate: usize) -> bool {
    hidden >= LEAST_DEPTH && intermediate >= LEAST_DEPTH
}

/// The images of a depth.
fn steps(depth: usize) -> usize {
    depth.div_ceil(DEPTH_UNIT) * (DEPTH_UNIT / STEP)
}

/// Column tiles of the first product. They cover the padding of the activations as well.
pub(crate) fn gate_up_tiles(intermediate: usize) -> usize {
    (2 * DEPTH_UNIT * intermediate.div_ceil(DEPTH_UNIT)).div_ceil(PANEL_COLUMNS)
}

/// Column tiles of the second product.
pub(crate) fn down_tiles(hidden: usize) -> usize {
    hidden.div_ceil(PANEL_COLUMNS)
}

/// The factors of the size in bytes of the rows of a left operand.
pub(crate) fn panel_sizes(panels: usize, depth: usize) -> [usize; 4] {
    [panels, steps(depth), PANEL_ROWS, LINE_BYTES]
}

/// The packed weights of one layer, and their sizes in bytes.
#[derive(Debug)]
pub(crate) struct Packed<B> {
    pub(crate) gate_up: Matrices<B>,
    pub(crate) down: Matrices<B>,
    /// Bounds of the columns of the first product, `[E,2]`, f32.
    pub(crate) norms: (B, usize),
    /// Experts that are left to the exact kernels, `[E]`, i32.
    pub(crate) exact_experts: (B, usize),
}

/// The matrices of one product.
#[derive(Debug)]
pub(crate) struct Matrices<B> {
    /// Images.
    pub(crate) packed: (B, usize),
    /// Inverse scales and biases, `[E,columns,2]`, f32.
    pub(crate) columns: (B, usize),
}

impl<B> Packed<B> {
    /// Packs matrices that are on the machine already; each is given with its bias.
    pub(crate) fn new<M: Machine<Buffer = B>>(
        machine: &mut M,
        [hidden, intermediate, experts]: [usize; 3],
        [gate_up_proj, gate_up_proj_bias]: [&(B, usize); 2],
        [down_proj, down_proj_bias]: [&(B, usize); 2],
    ) -> Result<Packed<B>, GpuError> {
        let norms = zeros(machine, 2 * experts)?;
        let exact_experts = zeros(machine, experts)?;
        // The bounds of the second product's columns are of no use.
        let unused = zeros(machine, 2 * experts)?;
        let gate_up = Matrices::new(
            machine,
            [gate_up_proj, gate_up_proj_bias, &norms, &exact_experts],
            [experts, hidden, 2 * intermediate, gate_up_tiles(intermediate)],
            false,
        )?;
        let down = Matrices::new(
            machine,
            [down_proj, down_proj_bias, &unused, &exact_experts],
            [experts, intermediate, hidden, down_tiles(hidden)],
            true,
        )?;
        Ok(Packed {
            gate_up,
            down,
            norms,
            exact_experts,
        })
    }
}

impl<B> Packed<B> {
    /// The size of everything.
    pub(crate) fn bytes(&self) -> usize {
        let matrices = [&self.gate_up, &self.down];
        let of_matrices = matrices.iter().map(|of| of.packed.1 + of.columns.1);
        of_matrices.sum::<usize>() + self.norms.1 + self.exact_experts.1
    }
}

impl<B> Matrices<B> {
    fn new<M: Machine<Buffer = B>>(
        machine: &mut M,
        [matrices, bias, norms, exact_experts]: [&(B, usize); 4],
        [experts, depth, width, tiles]: [usize; 4],
        weaves: bool,
    ) -> Result<Matrices<B>, GpuError> {
        let packed = allocated(machine, &[experts, tiles, steps(depth), PANEL_COLUMNS, LINE_BYTES])?;
        let columns = allocated(machine, &[experts, tiles, PANEL_COLUMNS, 8])?;
        let blocks = experts.saturating_mul(tiles * (PANEL_COLUMNS / PACK_COLUMNS));
        let grid = u32::try_from(blocks)
            .ok()
            .filter(|&grid| grid < 1 << 31)
            .ok_or(GpuError::TooManyBlocks {
                kernel: "pack_weights",
                blocks,
            })?;
        let args = [
            whole(matrices),
            whole(bias),
            whole(&packed),
            whole(&columns),
            whole(norms),
            whole(exact_experts),
            Arg::I64(depth as i64),
            Arg::I64(width as i64),
            Arg::I64(tiles as i64),
            Arg::I64(i64::from(weaves)),
        ];
        let launch = Launch {
            kernel: "pack_weights",
            grid,
            block: (PACK_COLUMNS * depth.div_ceil(PACK_DEPTH).clamp(1, PACK_PARTS)) as u32,
            shared: 0,
        };
        machine.launch(launch, &args)?;
        Ok(Matrices { packed, columns })
    }
}

/// A whole buffer as an argument.
pub(crate) fn whole<B>((buffer, bytes): &(B, usize)) -> Arg<'_, B> {
    Arg::Buffer(buffer, *bytes)
}

fn allocated<M: Machine>(machine: &mut M, sizes: &[usize]) -> Result<(M::Buffer, usize), GpuError> {
    let bytes = crate::plan::product("packed weights", sizes)?;
    Ok((machine.alloc(bytes)?, bytes))
}

/// So many 32-bit zeros.
fn zeros<M: Machine>(machine: &mut M, count: usize) -> Result<(M::Buffer, usize), GpuError> {
    let (mut buffer, bytes) = allocated(machine, &[count, 4])?;
    machine.upload(&mut buffer, &vec![0; bytes])?;
    Ok((buffer, bytes))
}
