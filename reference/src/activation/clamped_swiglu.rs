//! (up + 1) · (gate · sigmoid(alpha · gate)).

use ndarray::NdFloat;

use super::rounded;
use crate::Element;

/// Of a gate and an up that are clamped already.
pub(super) fn value<T: Element>(gate: T, up: T, alpha: T::Wide) -> T {
    let (gate, up) = (gate.widen(), up.widen());
    let glu = rounded::<T>(gate * rounded::<T>(sigmoid(rounded::<T>(gate * alpha))));
    T::narrow(rounded::<T>(up + T::scalar(1.0)) * glu)
}

fn sigmoid<W: NdFloat>(x: W) -> W {
    W::one() / (W::one() + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::super::Clamps;
    use super::*;

    fn swiglu(alpha: f64, limit: f64, gate: f32, up: f32) -> f32 {
        let clamps = Clamps::<f32>::new(limit);
        value(clamps.gate(gate), clamps.up(up), alpha as f32)
    }

    #[test]
    fn the_gate_is_clamped_above_only_and_up_on_both_sides() {
        assert_eq!(swiglu(0.0, 0.25, 9.0, 0.0), 0.125);
        assert_eq!(swiglu(0.0, 0.25, -8.0, 0.0), -4.0);
        assert_eq!(swiglu(0.0, 0.25, -8.0, 9.0), -5.0);
        assert_eq!(swiglu(0.0, 0.25, -8.0, -9.0), -3.0);
    }

    #[test]
    fn bad_numbers_pass_as_in_pytorch() {
        assert!(swiglu(1.702, 7.0, f32::NAN, 0.0).is_nan());
        assert!(swiglu(1.702, 7.0, 0.0, f32::NAN).is_nan());
        assert!(swiglu(1.702, 7.0, f32::NEG_INFINITY, 0.0).is_nan());
        assert!(swiglu(1.702, f64::NAN, 1.0, 0.0).is_nan());
        assert!((swiglu(1.702, 7.0, f32::INFINITY, f32::NEG_INFINITY) + 6.0 * 7.0).abs() < 1e-3);
        assert_eq!(swiglu(1.702, 7.0, -1e30, 0.0), 0.0);
    }
}
