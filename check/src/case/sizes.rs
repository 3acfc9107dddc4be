//! Sizes that profiles, domains, the generator and the judge share.

use std::ops::RangeInclusive;

/// The least H and I that kernels for tensor cores take.
pub(crate) const DEEP: usize = 32;
/// The rows that kernels for tensor cores take together.
pub(crate) const PANEL: usize = 128;
/// The long one of H and I in long cases.
pub(crate) const LONG: RangeInclusive<usize> = 639..=8193;
/// H and I in medium cases.
pub(crate) const MEDIUM: RangeInclusive<usize> = 258..=1024;
/// Tile sizes that expert counts are put around.
pub(crate) const TILES: [usize; 5] = [16, 32, 64, 128, 256];
