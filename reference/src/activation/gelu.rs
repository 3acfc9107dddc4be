//! gelu(gate) · up, by the error function.

use super::erf::erf;
use super::rounded;
use crate::Element;

pub(super) fn value<T: Element>(gate: T, up: T) -> T {
    T::narrow(rounded::<T>(gelu::<T>(gate.widen())) * up.widen())
}

/// One operation in PyTorch, rounded once: x · ½ · (1 + erf(x / √2)).
fn gelu<T: Element>(x: T::Wide) -> T::Wide {
    let [half, one, root] = [0.5, 1.0, std::f64::consts::FRAC_1_SQRT_2].map(T::scalar);
    x * half * (one + erf::<T>(x * root))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `math.erf` of Python, which is that of the C library.
    #[test]
    fn values_by_hand() {
        assert_eq!(value(0.0f32, 5.0), 0.0);
        assert!((value(1.0f64, 2.0) - 2.0 * 0.841_344_746_068_542_9).abs() < 1e-15);
        assert!((value(-1.0f64, 1.0) + 0.158_655_253_931_457_05).abs() < 1e-16);
        assert_eq!(value(20.0f64, 0.5), 10.0);
        assert_eq!(value(-20.0f32, 0.5), 0.0);
        assert!(value(f32::NEG_INFINITY, 1.0).is_nan());
        assert_eq!(value(f32::INFINITY, 1.0), f32::INFINITY);
    }
}
