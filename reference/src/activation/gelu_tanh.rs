//! gelu(gate) · up, by tanh.

use ndarray::NdFloat;

use super::rounded;
use crate::Element;

pub(super) fn value<T: Element>(gate: T, up: T) -> T {
    T::narrow(rounded::<T>(gelu::<T>(gate.widen())) * up.widen())
}

/// One operation in PyTorch, rounded once: ½ · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))).
fn gelu<T: Element>(x: T::Wide) -> T::Wide {
    let root = std::f64::consts::SQRT_2 * std::f64::consts::FRAC_2_SQRT_PI * 0.5;
    let [half, one, root, cubed] = [0.5, 1.0, root, 0.044715].map(T::scalar);
    let inner = root * (x + cubed * (x * x * x));
    half * x * (one + tanh(inner))
}

fn tanh<W: NdFloat>(x: W) -> W {
    x.tanh()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        assert_eq!(value(0.0f32, 5.0), 0.0);
        // By `math.tanh` of Python: √(2/π) · 1.044715 = 0.8335619…, its tanh 0.6823839….
        assert!((value(1.0f64, 2.0) - 2.0 * 0.841_191_990_608_276_8).abs() < 1e-14);
        assert!((value(-1.0f64, 1.0) + 0.158_808_009_391_723_24).abs() < 1e-14);
        assert_eq!(value(20.0f64, 0.5), 10.0);
        assert_eq!(value(-20.0f32, 0.5), 0.0);
        // The cube overflows, tanh does not.
        assert_eq!(value(1e30f32, 1.0), 1e30);
        assert_eq!(value(-1e30f32, 1.0), 0.0);
    }
}
