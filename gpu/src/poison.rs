//! What memory holds before anything writes it.

/// Words to fill memory with, so that a read of undefined memory shows: NaN and -1; 3e38 and 1e-19, which are indices
/// far out of bounds. What one of them hides, another shows.
pub const POISONS: [u32; 3] = [u32::MAX, 0x7f7f_7f7f, 0x2020_2020];
