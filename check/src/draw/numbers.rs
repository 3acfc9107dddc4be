//! Numbers that depend on nothing but a seed and a position.
//!
//! Each value is a hash of (seed, stream, position), so it stays the same when a size changes: a case that shrinks
//! keeps the values of the rows and columns that remain. Only integer operations and IEEE divisions are used, so
//! every machine draws the same.

use crate::case::CaseSpec;

/// Tells apart the tensors and choices that are drawn for one case.
#[derive(Clone, Copy)]
pub(super) enum Stream {
    Routing = 1,
    Hidden,
    GateUp,
    GateUpBias,
    Down,
    DownBias,
    Weights,
    Scale,
    Special,
    GateUpScale,
    DownScale,
    Order,
    Foreign,
    GateUpBlock,
    DownBlock,
}

/// A source of numbers for one tensor.
#[derive(Debug, Clone, Copy)]
pub(super) struct Draw {
    key: u64,
}

impl CaseSpec {
    pub(super) fn draw(&self, stream: Stream) -> Draw {
        Draw {
            key: mix(u64::from(self.seed) << 32 | stream as u64),
        }
    }
}

impl Draw {
    /// 64 random bits for a position of up to three coordinates, each below 2^21.
    pub(super) fn bits(self, at: [usize; 3]) -> u64 {
        mix(self.key ^ (at[0] as u64) << 42 ^ (at[1] as u64) << 21 ^ at[2] as u64)
    }

    /// An integer in `0..n`.
    ///
    /// # Panics
    /// If n = 0.
    pub(super) fn below(self, n: usize, at: [usize; 3]) -> usize {
        (self.bits(at) % n as u64) as usize
    }

    /// Uniform in [0, 1), a multiple of 2^-24.
    pub(super) fn unit(self, at: [usize; 3]) -> f64 {
        (self.bits(at) >> 40) as f64 / f64::from(1 << 24)
    }

    /// Close to the standard normal distribution: the sum of four uniform numbers, scaled; within ±3.47.
    pub(super) fn normal(self, at: [usize; 3]) -> f64 {
        let bits = self.bits(at);
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f64 - 2.0 * 65535.0) / 37837.0
    }
}

/// The entries in a random order.
pub(super) fn shuffled(mut ids: Vec<usize>, draw: Draw) -> Vec<usize> {
    for last in (1..ids.len()).rev() {
        ids.swap(last, draw.below(last + 1, [last, 0, 5]));
    }
    ids
}

/// The finaliser of splitmix64: 64 bits that look random for each number.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
