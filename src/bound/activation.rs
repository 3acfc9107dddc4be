//! The bound of the clamped SwiGLU; its derivation stands in the module above.

use binned_experts_reference::Activation;

use crate::precision::{Precision, Rounding};

/// Roundings of the activation's evaluation, in units of u.
pub(super) const EVALUATION: f64 = 8.0;
/// Rounding of alpha, of alpha · gate and of a fast exponential's argument, in units of u.
const ARGUMENT: f64 = 4.0;
/// The largest slope of g·σ(g), rounded up.
const SLOPE: f64 = 1.1;
/// An argument below which |x·σ(x)| falls towards −∞; its largest value is at −1.28.
const TAIL: f64 = -2.0;

/// The error of the clamped SwiGLU whose inputs are known up to an error each.
pub(super) fn swiglu_bound(
    (gate, gate_error): (f64, f64),
    (up, up_error): (f64, f64),
    value: f64,
    Activation { alpha, limit }: Activation,
    precision: Precision,
) -> f64 {
    if gate_error == f64::INFINITY || up_error == f64::INFINITY {
        return f64::INFINITY;
    }
    let store = Rounding {
        unit: precision.store.unit + Rounding::F64.unit,
        ..precision.store
    };
    // The limit itself is rounded to the element type; an infinite one is not.
    let rounding = if limit.is_finite() {
        store.unit * limit.abs()
    } else {
        0.0
    };
    let gate_error = what_clamp_leaves(gate, gate_error, limit).max(if gate >= limit { rounding } else { 0.0 });
    let up_error = what_clamp_leaves(up, up_error, limit)
        .min(what_clamp_leaves(-up, up_error, limit))
        .max(if up.abs() >= limit { rounding } else { 0.0 });
    let (gate, up) = (gate.min(limit), up.max(-limit).min(limit));

    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    let sigmoid = sigma(alpha * gate);
    let glu = gate * sigmoid;
    let slope = sigmoid * (1.0 + alpha * gate * (1.0 - sigmoid));
    let mut glu_error = gate_error * SLOPE.min(slope.abs() + 0.5 * alpha.abs() * gate_error);
    let evaluation = EVALUATION + ARGUMENT * (alpha * gate).abs() * (1.0 - sigmoid);
    let mut lost = precision.sigmoid_step + store.step;
    let (lower, upper) = (
        alpha * gate - alpha.abs() * gate_error,
        alpha * gate + alpha.abs() * gate_error,
    );
    if upper <= TAIL {
        let size = |x: f64| (x / alpha * sigma(x)).abs();
        let (least, most) = (size(lower), size(upper));
        let rounding = ARGUMENT * (upper.abs() + 1.0) * Rounding::F64.unit * most;
        glu_error = glu_error.min((most - glu.abs()).max(glu.abs() - least) + rounding);
        lost = lost.min(2.0 * sigma(upper));
    }
    let underflow = lost * gate.abs() + 4.0 * store.step;

    let up_size = (up + 1.0).abs();
    let bound = up_size * glu_error
        + glu.abs() * up_error
        + glu_error * up_error
        + evaluation * store.unit * (up_size + up_error) * (glu.abs() + glu_error)
        + (up_size + up_error + 1.0) * underflow;
    if value.is_finite() && value.abs() + bound <= 0.5 * precision.max {
        return bound;
    }
    // NaN, an infinity that no finite factor of uncertain sign makes, or overflow.
    let certain = up_error < up_size && (glu_error < glu.abs() || glu_error == 0.0);
    if value.is_nan() || (value.is_infinite() && certain) {
        0.0
    } else {
        f64::INFINITY
    }
}

/// The error of min(value, limit), given that of value.
fn what_clamp_leaves(value: f64, error: f64, limit: f64) -> f64 {
    if value > limit {
        error.min((limit - (value - error)).max(0.0))
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::clamped_swiglu;
    use crate::precision::Class;
    use crate::tensor::ElementType;

    fn bound(gate: (f64, f64), up: (f64, f64), activation: Activation) -> f64 {
        let precision = Precision::new(Class::Fp32, ElementType::F32);
        swiglu_bound(
            gate,
            up,
            clamped_swiglu(gate.0, up.0, activation),
            activation,
            precision,
        )
    }

    #[test]
    fn inputs_anywhere_within_their_errors_stay_within_the_bound() {
        let steps = || (-8..=8).map(|step| f64::from(step) / 8.0);
        let limits = [
            (1.702, 7.0),
            (0.5, 7.0),
            (-1.0, 7.0),
            (1.702, 1e4),
            (1.702, f64::INFINITY),
        ];
        for (alpha, limit) in limits {
            let activation = Activation { alpha, limit };
            for gate in (-400..=120).map(|gate| f64::from(gate) / 10.0) {
                for (error, up) in [(1e-3, 0.5), (0.25, -3.0), (4.0, 6.875), (30.0, -1.0)] {
                    let up_error = error / 8.0;
                    let allowed = bound((gate, error), (up, up_error), activation);
                    let value = clamped_swiglu(gate, up, activation);
                    for (a, b) in steps().flat_map(|a| steps().map(move |b| (a, b))) {
                        let moved = clamped_swiglu(gate + a * error, up + b * up_error, activation);
                        assert!(
                            (moved - value).abs() <= allowed,
                            "{gate} ± {error}, {up} ± {up_error}, {activation:?}"
                        );
                    }
                }
            }
        }
    }

    /// An infinite limit has no rounding, so that what it lets pass is met exactly; a finite one clamps it.
    #[test]
    fn infinities_are_met_exactly_whatever_the_limit() {
        let infinity = f64::INFINITY;
        for limit in [7.0, 1e20, f64::from(f32::MAX), infinity] {
            let activation = Activation { alpha: 1.702, limit };
            assert_eq!(bound((-infinity, 0.0), (2.0, 1e-6), activation), 0.0);
            let clamped = bound((infinity, 0.0), (2.0, 1e-6), activation);
            if limit < 1e30 {
                assert!(0.0 < clamped && clamped < 1e-5 * limit, "{clamped}");
            }
        }
        let unlimited = Activation {
            alpha: 1.702,
            limit: infinity,
        };
        assert_eq!(bound((infinity, 0.0), (2.0, 1e-6), unlimited), 0.0);
        assert_eq!(bound((2.0, 1e-6), (infinity, 0.0), unlimited), 0.0);
        assert_eq!(bound((1e30, 1e23), (1e30, 1e23), unlimited), infinity);
        assert!(bound((1e15, 1e8), (-1e15, 1e8), unlimited) < 1e24);
    }

    /// However large a gate far below zero and its error are, its sigmoid is 0 for every engine.
    #[test]
    fn a_gate_far_below_zero_leaves_nothing() {
        for gate in [-1e3f64, -1e12, -1e36] {
            let error = gate.abs() / 1e6;
            assert!(bound((gate, error), (2.0, 1.0), Activation::GPT_OSS) < 1e-42);
        }
        assert!(bound((-1.0, 1e-3), (2.0, 1e-3), Activation::GPT_OSS) > 1e-4);
    }
}
