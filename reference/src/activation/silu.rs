//! silu(gate) · up.

use ndarray::NdFloat;

use super::rounded;
use crate::Element;

pub(super) fn value<T: Element>(gate: T, up: T) -> T {
    T::narrow(rounded::<T>(silu(gate.widen())) * up.widen())
}

/// One operation in PyTorch, rounded once.
fn silu<W: NdFloat>(x: W) -> W {
    x / (W::one() + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        assert_eq!(value(0.0f32, 5.0), 0.0);
        assert_eq!(value(40.0f64, -0.5), -20.0);
        // 1 / (1 + 1/e) = 0.7310585786300049
        assert!((value(1.0f64, 2.0) - 2.0 * 0.731_058_578_630_004_9).abs() < 1e-15);
        assert!((value(-1.0f64, 1.0) + 0.268_941_421_369_995_1).abs() < 1e-15);
        assert!(value(f32::NEG_INFINITY, 1.0).is_nan());
        assert_eq!(value(f32::INFINITY, 1.0), f32::INFINITY);
        assert_eq!(value(-1e30f32, 1.0), 0.0);
    }
}
