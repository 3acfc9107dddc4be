//! `kernels/tiles_bf16.cuh`: how the rows of all experts are cut into panels, and the matrices into lines, in bf16.

use half::bf16;

use super::WARPGROUP;
use crate::path::Call;

pub(crate) const MATRIX_LINES: usize = 192;
const K_BLOCK: usize = 64;
const PANEL_ROWS: usize = 256;
const LINES_UNIT: usize = 16;
pub(crate) const CHUNK: usize = 8;
pub(crate) const LINE_WORDS: usize = 16;
pub(crate) const MATRIX_WORDS: usize = MATRIX_LINES * LINE_WORDS;
pub(crate) const LARGEST_EXPERTS: usize = 512;
pub(super) const EXPERTS_THREADS: usize = 4 * WARPGROUP;

/// K-blocks of a depth, padding included.
pub(crate) fn k_blocks(depth: usize) -> usize {
    depth.div_ceil(K_BLOCK)
}

/// Tiles across the lines of the first product's matrix. They cover the padding of the activations as well.
pub(crate) fn line_tiles_of_gate_up(intermediate: usize) -> usize {
    (2 * K_BLOCK)
        .saturating_mul(k_blocks(intermediate))
        .div_ceil(MATRIX_LINES)
}

/// Tiles across the lines of the second product's matrix.
pub(crate) fn line_tiles_of_down(hidden: usize) -> usize {
    hidden.div_ceil(MATRIX_LINES)
}

/// The most panels that the kept rows take: every expert can end in one that is not full, but none is empty.
pub(crate) fn most_panels(call: &Call) -> usize {
    let max_rows = call.max_rows();
    max_rows.min(max_rows.div_ceil(PANEL_ROWS) + call.dims.experts)
}

/// The most lines of all panels: the last panel of an expert is padded.
pub(crate) fn most_lines(call: &Call) -> usize {
    let max_rows = call.max_rows();
    max_rows + max_rows.min(call.dims.experts) * (LINES_UNIT - 1)
}

/// The rows of all experts, one after the other, from their images; none if these do not fit the first rows of the experts.
pub(crate) fn rows_of_images(images: &[bf16], row_starts: &[i32], width: usize) -> Option<Vec<f32>> {
    let rows = row_starts
        .windows(2)
        .map(|pair| usize::try_from(pair[1].checked_sub(pair[0])?).ok());
    let rows = rows.collect::<Option<Vec<usize>>>()?;
    let mut values = Vec::new();
    for panels in Panels::of_experts(rows) {
        for (row, column) in (0..panels.rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let chunk = panels.chunk(row, column / CHUNK, k_blocks(width));
            values.push(images.get(chunk * CHUNK + column % CHUNK)?.to_f32());
        }
    }
    Some(values)
}

/// The images of an expert's rows.
struct Panels {
    /// The first line of the expert, among those of all experts.
    first_line: usize,
    rows: usize,
    /// Rows of each panel but the last one.
    height: usize,
}

impl Panels {
    /// The panels of each expert, with these numbers of rows.
    fn of_experts(rows: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Panels> {
        let mut first_line = 0;
        rows.into_iter().map(move |rows| {
            let panels = rows.div_ceil(PANEL_ROWS);
            let height = rows.div_ceil(panels.max(1)).next_multiple_of(LINES_UNIT);
            let own = first_line;
            first_line += rows.next_multiple_of(LINES_UNIT);
            Panels {
                first_line: own,
                rows,
                height,
            }
        })
    }

    /// Where a chunk of a row stands in the images of so many k-blocks, in chunks.
    fn chunk(&self, row: usize, chunk: usize, k_blocks: usize) -> usize {
        let (panel, line) = (row / self.height, row % self.height);
        let first_row = panel * self.height;
        let lines = self.height.min((self.rows - first_row).next_multiple_of(LINES_UNIT));
        let image = (self.first_line + first_row) * k_blocks + chunk / 8 * lines;
        (image + line) * 8 + (chunk % 8 ^ line % 8)
    }
}
