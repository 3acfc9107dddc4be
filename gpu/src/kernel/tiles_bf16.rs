//! `kernels/tiles_bf16.cuh`: how the rows of all experts are cut into panels, and the matrices into lines, in bf16.

use half::bf16;

use super::WARPGROUP;
use crate::path::Call;

pub(crate) const MATRIX_LINES: usize = 192;
const K_BLOCK: usize = 64;
const PANEL_ROWS: usize = 256;
const LINES_UNIT: usize = 16;
const MOST_PARTS: usize = 3;
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

/// The most tiles of both products, those that are cut in parts counted as often as they have parts.
pub(crate) fn most_tiles(call: &Call) -> usize {
    let line_tiles = line_tiles_of_gate_up(call.dims.intermediate).saturating_add(line_tiles_of_down(call.dims.hidden));
    most_panels(call).saturating_mul(line_tiles).saturating_mul(MOST_PARTS)
}

/// The most panels that the kept rows take: every expert can end in one that is not full, but none is empty.
pub(crate) fn most_panels(call: &Call) -> usize {
    let max_rows = call.max_rows();
    max_rows.min(max_rows.div_ceil(PANEL_ROWS) + call.dims.experts)
}

/// The most lines of all panels.
pub(crate) fn most_lines(call: &Call) -> usize {
    first_line(call.dims.experts, call.max_rows())
}

/// The first line of an expert's panels, after so many rows. The last panel of each expert before it may be padded.
fn first_line(expert: usize, first_row: usize) -> usize {
    (first_row + expert.min(first_row) * (LINES_UNIT - 1)).next_multiple_of(LINES_UNIT)
}

/// The part of a panel's image that has rows: lines of 128 bytes for a k-block.
pub(crate) struct Image {
    /// Its first line, among those of all images.
    first_line: usize,
    first_row: usize,
    rows: usize,
    k_block: usize,
}

/// The images of the rows of all experts; none if the first rows of the experts do not ascend.
pub(crate) fn images(row_starts: &[i32], width: usize) -> Option<Vec<Image>> {
    let mut images = Vec::new();
    for (expert, pair) in row_starts.windows(2).enumerate() {
        let (first, rows) = (usize::try_from(pair[0]).ok()?, pair[1].checked_sub(pair[0])?);
        let rows = usize::try_from(rows).ok()?;
        let panels = rows.div_ceil(PANEL_ROWS);
        let height = rows.div_ceil(panels.max(1)).next_multiple_of(LINES_UNIT);
        let mut first_line = first_line(expert, first);
        for panel in 0..panels {
            let of_panel = height.min(rows - panel * height);
            let lines = of_panel.next_multiple_of(LINES_UNIT);
            images.extend((0..k_blocks(width)).map(|k_block| Image {
                first_line: first_line * k_blocks(width) + k_block * lines,
                first_row: first + panel * height,
                rows: of_panel,
                k_block,
            }));
            first_line += lines;
        }
    }
    Some(images)
}

impl Image {
    /// Its first byte, among those of all images.
    pub(crate) fn first_byte(&self) -> usize {
        self.first_line * K_BLOCK * size_of::<bf16>()
    }

    /// The number of its elements.
    pub(crate) fn elements(&self) -> usize {
        self.rows * K_BLOCK
    }

    /// Row, column and value of each of its elements.
    pub(crate) fn values<'a>(&'a self, elements: &'a [bf16]) -> impl Iterator<Item = (usize, usize, f32)> + 'a {
        elements.iter().enumerate().map(|(place, value)| {
            let (line, chunk) = (place / K_BLOCK, place % K_BLOCK / CHUNK);
            let column = self.k_block * K_BLOCK + (chunk ^ (line % 8)) * CHUNK + place % CHUNK;
            (self.first_row + line, column, value.to_f32())
        })
    }
}
