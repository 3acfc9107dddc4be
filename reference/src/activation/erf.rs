//! The error function, which the standard library does not have.

use std::f64::consts::{FRAC_2_SQRT_PI, PI};

use crate::Element;
use crate::element::widened;

/// Below this the series, from here on the continued fraction.
const SMALL: f64 = 2.0;
/// From here on 1 − erf is less than half a unit roundoff of f64.
const LARGE: f64 = 6.0;
/// The last term of the series at `SMALL` and the last fraction there are below a unit roundoff.
const TERMS: u32 = 60;
const FRACTIONS: u32 = 120;

/// erf(x), to within 4 units in the last place of f64, and rounded from there.
pub(super) fn erf<T: Element>(x: T::Wide) -> T::Wide {
    T::scalar(in_f64(widened(x)))
}

fn in_f64(x: f64) -> f64 {
    let size = x.abs();
    let value = if size < SMALL {
        series(size)
    } else if size < LARGE {
        1.0 - complement(size)
    } else {
        // NaN is neither.
        if size.is_nan() { size } else { 1.0 }
    };
    value.copysign(x)
}

/// 2/√π · exp(−x²) · Σ 2^n · x^(2n+1) / (1·3·5…(2n+1)), whose terms all have one sign.
fn series(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..TERMS {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// 1 − erf(x) = exp(−x²)/√π · 1/(x + (1/2)/(x + (2/2)/(x + (3/2)/(x + …)))).
fn complement(x: f64) -> f64 {
    let fraction = (1..FRACTIONS).rev().fold(x, |rest, n| x + 0.5 * f64::from(n) / rest);
    (-x * x).exp() / (PI.sqrt() * fraction)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    /// `math.erf` of Python 3.11, which is that of the C library.
    const KNOWN: [(f64, f64); 14] = [
        (1e-300, 1.1283791670955126e-300),
        (1e-09, 1.1283791670955127e-09),
        (0.001, 0.0011283787909692365),
        (0.1, 0.1124629160182849),
        (0.5, 0.5204998778130465),
        (0.75, 0.7111556336535151),
        (1.0, 0.8427007929497149),
        (1.5, 0.9661051464753108),
        (1.9999, 0.9953201979070294),
        (2.0, 0.9953222650189527),
        (2.5, 0.999593047982555),
        (3.5, 0.9999992569016276),
        (5.0, 0.9999999999984626),
        (5.9, 0.9999999999999999),
    ];

    #[test]
    fn values_are_those_of_the_c_library() {
        for (x, known) in KNOWN {
            for (x, known) in [(x, known), (-x, -known)] {
                let found = in_f64(x);
                assert!(
                    (found - known).abs() <= 4.0 * f64::EPSILON * known.abs(),
                    "{x}: {found}, {known}"
                );
            }
        }
    }

    #[test]
    fn series_and_fraction_meet() {
        let below = SMALL.next_down();
        assert!((series(below) - (1.0 - complement(below))).abs() <= 4.0 * f64::EPSILON);
    }

    #[test]
    fn bad_numbers_and_narrow_types() {
        assert!(in_f64(f64::NAN).is_nan());
        assert_eq!(
            (in_f64(f64::INFINITY), in_f64(-0.0).to_bits()),
            (1.0, (-0.0f64).to_bits())
        );
        assert_eq!(erf::<f32>(0.5), 0.520_499_9);
        assert_eq!(erf::<bf16>(0.5), 0.520_499_9);
    }
}
