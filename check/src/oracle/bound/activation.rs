//! The bound of an activation. The derivation is in the parent module.

use crate::oracle::activation::ActivationFunction;
use crate::oracle::{Rounding, Roundings};

/// The error that the evaluation of all activations of a row may have in common, in units of u.
pub(super) const EVALUATION: f64 = 8.0;

/// The error of an activation whose inputs are known up to an error each.
pub(super) fn activation_bound(
    (gate, gate_error): (f64, f64),
    (up, up_error): (f64, f64),
    value: f64,
    activation: &ActivationFunction,
    roundings: Roundings,
) -> f64 {
    if gate_error == f64::INFINITY || up_error == f64::INFINITY {
        return f64::INFINITY;
    }
    let limit = activation.limit();
    let is_up_zero = activation.has_up() && activation.factor(up) == 0.0 && up.abs() <= limit;
    let is_factor_zero = (gate == 0.0 && gate_error == 0.0) || (is_up_zero && up_error == 0.0);
    if is_factor_zero && value == 0.0 {
        return 0.0;
    }
    let is_stored = roundings.between.represents(value) && roundings.activated.represents(value);
    if !activation.has_up() && gate_error == 0.0 && is_stored && value.is_finite() {
        return 0.0;
    }
    let store = Rounding {
        unit: roundings.between.unit + Rounding::F64.unit,
        ..roundings.between
    };
    // The limit itself is rounded to the element type, unless it is infinite.
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

    let function = activation.gate();
    let size = function.value(gate).abs();
    let error = function.moved(gate, gate_error);
    let underflow = function.absolute(gate, gate_error, &roundings);
    let up_size = activation.factor(up).abs();
    let bound = up_size * error
        + size * up_error
        + error * up_error
        + function.evaluation(gate) * store.unit * (up_size + up_error) * (size + error)
        + (up_size + up_error + 1.0) * underflow;
    let bound = bound + roundings.activated.error(value.abs() + bound);
    if value.is_finite() && value.abs() + bound <= 0.5 * roundings.max {
        return bound;
    }
    // NaN, overflow, or an infinity whose factors have certain signs.
    let is_nonzero = size == f64::INFINITY || error + underflow < size;
    let certain = up_error < up_size && error < size && is_nonzero;
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
    use super::super::tests::{EXACT, swiglu_bound};
    use super::*;
    use crate::case::ElementType;
    use crate::oracle::Precision;
    use binned_experts_reference::{Activation, ActivationKind};

    fn swiglu(activation: Activation) -> ActivationFunction {
        ActivationFunction::new(ActivationKind::ClampedSwiglu, activation)
    }

    fn clamped_swiglu(gate: f64, up: f64, activation: Activation) -> f64 {
        swiglu(activation).value(gate, up)
    }

    fn bound(gate: (f64, f64), up: (f64, f64), activation: Activation) -> f64 {
        let roundings = Roundings::new(Precision::FP32, ElementType::F32);
        swiglu_bound(
            gate,
            up,
            clamped_swiglu(gate.0, up.0, activation),
            activation,
            roundings,
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

    #[test]
    fn a_factor_of_exactly_zero_leaves_zero() {
        assert_eq!(bound((0.0, 0.0), (3.0, 0.5), Activation::GPT_OSS), 0.0);
        assert_eq!(bound((-2.0, 0.5), (-1.0, 0.0), Activation::GPT_OSS), 0.0);
        assert!(bound((0.0, 1e-9), (3.0, 0.5), Activation::GPT_OSS) > 0.0);
        assert!(bound((-2.0, 0.5), (-1.0, 1e-9), Activation::GPT_OSS) > 0.0);
        // A clamp moves what was −1.
        let low = Activation {
            alpha: 1.702,
            limit: 0.5,
        };
        assert!(bound((-2.0, 0.5), (-1.0, 0.0), low) > 0.0);
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

    const fn stored(unit: f64, step: f64) -> Roundings {
        Roundings {
            between: Rounding { unit, step },
            ..EXACT
        }
    }

    /// Equal but for the rounding of f64.
    #[track_caller]
    fn assert_close(found: f64, expected: f64) {
        let near = (found - expected).abs() <= 1e-11 * expected.abs() + 1e-13;
        assert!(near, "found {found}, expected {expected}");
    }

    const TWO: Activation = Activation { alpha: 2.0, limit: 7.0 };
    /// σ(1), and with alpha 2 the value and the slope of f at gate ½.
    const SIGMA: f64 = 0.731_058_578_630_004_9;
    const GLU: f64 = 0.5 * SIGMA;
    const SLOPE_AT: f64 = SIGMA * (2.0 - SIGMA);

    #[test]
    fn errors_of_gate_and_up_propagate_by_the_slope_of_each() {
        let of = |gate, up, alpha| swiglu_bound(gate, up, 0.0, Activation { alpha, limit: 7.0 }, EXACT);
        // |up + 1| is 2 throughout. A small error meets the slope at the gate, a large one the largest slope.
        let small = 0.125 * (SLOPE_AT + 0.125);
        assert_close(
            of((0.5, 0.125), (-3.0, 0.25), 2.0),
            2.0 * small + GLU * 0.25 + small * 0.25,
        );
        assert_close(
            of((-0.5, 0.125), (-3.0, 0.25), -2.0),
            2.0 * small + GLU * 0.25 + small * 0.25,
        );
        let large = 4.0 * 1.1;
        assert_close(
            of((0.5, 4.0), (1.0, 0.25), 2.0),
            2.0 * large + GLU * 0.25 + large * 0.25,
        );
    }

    #[test]
    fn what_an_undecided_input_gives_is_undecided() {
        let infinity = f64::INFINITY;
        for value in [0.0, infinity, f64::NAN] {
            assert_eq!(swiglu_bound((0.5, infinity), (1.0, 0.0), value, TWO, EXACT), infinity);
            assert_eq!(swiglu_bound((0.5, 0.0), (1.0, infinity), value, TWO, EXACT), infinity);
        }
    }

    #[test]
    fn a_clamp_leaves_what_reaches_below_it_and_the_rounding_of_the_limit() {
        let of = |gate, up| swiglu_bound(gate, up, 0.0, Activation { alpha: 0.0, limit: 7.0 }, EXACT);
        // With alpha 0 f is gate / 2, its slope ½.
        assert_close(of((7.5, 2.0), (1.0, 0.0)), 2.0 * 0.5 * 1.5);
        assert_close(of((7.5, 0.25), (1.0, 0.0)), 0.0);
        assert_close(of((2.0, 0.0), (7.5, 2.0)), 1.5);
        assert_close(of((2.0, 0.0), (-7.5, 2.0)), 1.5);
        assert_close(of((2.0, 0.0), (9.0, 0.5)), 0.0);
        assert_close(of((2.0, 0.0), (-6.5, 2.0)), 2.0);
        let of = |gate: f64, up: f64| {
            let activation = Activation { alpha: 0.0, limit: 7.0 };
            let evaluation = 8.0 * (up.clamp(-7.0, 7.0) + 1.0).abs() * gate.min(7.0).abs() / 2.0 / 1024.0;
            swiglu_bound((gate, 0.0), (up, 0.0), 0.0, activation, stored(1.0 / 1024.0, 0.0)) - evaluation
        };
        // Where a clamp is reached, the limit's rounding counts as an error of what it clamps.
        let rounding = 7.0 / 1024.0;
        assert_close(of(6.0, -3.0), 0.0);
        for gate in [7.0, 9.0] {
            let expected = 2.0 * 0.5 * rounding + 8.0 * 2.0 * 0.5 * rounding / 1024.0;
            assert_close(of(gate, -3.0), expected);
        }
        for up in [7.0, 9.0, -7.0, -9.0] {
            assert_close(of(2.0, up), rounding + 8.0 * rounding / 1024.0);
        }
    }

    #[test]
    fn the_evaluation_rounds_and_the_exponential_magnifies() {
        let of = |gate, up, roundings| swiglu_bound(gate, up, 0.0, TWO, roundings);
        let evaluation = 8.0 + 4.0 * (1.0 - SIGMA);
        let u = 1.0 / 1024.0;
        assert_close(of((0.5, 0.0), (-3.0, 0.0), stored(u, 0.0)), evaluation * u * 2.0 * GLU);
        let small = 0.125 * (SLOPE_AT + 0.125);
        let propagated = 2.0 * small + GLU * 0.25 + small * 0.25;
        let expected = propagated + evaluation * u * 2.25 * (GLU + small);
        assert_close(of((0.5, 0.125), (-3.0, 0.25), stored(u, 0.0)), expected);
        // The oracle rounds as an engine in f64 does.
        let oracle = of((0.5, 0.0), (-3.0, 0.0), EXACT);
        assert_close(oracle / Rounding::F64.unit, evaluation * 2.0 * GLU);
        let engine = of((0.5, 0.0), (-3.0, 0.0), stored(Rounding::F64.unit, 0.0));
        assert_close(engine / oracle, 2.0);
    }

    #[test]
    fn results_below_the_smallest_value_are_lost() {
        let of = |gate, up, roundings| swiglu_bound(gate, up, 0.0, TWO, roundings);
        let small = 0.125 * (SLOPE_AT + 0.125);
        let propagated = 2.0 * small + GLU * 0.25 + small * 0.25;
        let sigmoid_step = 1.0 / 1024.0;
        let lost = Roundings { sigmoid_step, ..EXACT };
        let found = of((0.5, 0.125), (-3.0, 0.25), lost);
        assert_close(found, propagated + 3.25 * sigmoid_step * 0.5);
        let found = of((0.5, 0.125), (-3.0, 0.25), stored(0.0, 1.0 / 1024.0));
        assert_close(found, propagated + 3.25 * (0.5 + 4.0) / 1024.0);
    }

    #[test]
    fn far_below_zero_both_factors_fall_with_the_gate() {
        // alpha · gate is in −20 ± 12, so f is between 10 · σ(−20) and 4 · σ(−8).
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let upper = 4.0 * sigma(-8.0) - 10.0 * sigma(-20.0);
        let propagated = 2.0 * upper + 10.0 * sigma(-20.0) * 0.25 + upper * 0.25;
        let of = |alpha: f64, roundings| {
            let activation = Activation { alpha, limit: 50.0 };
            swiglu_bound((-20.0 / alpha, 6.0), (-3.0, 0.25), 0.0, activation, roundings)
        };
        assert_close(of(2.0, EXACT), propagated);
        assert_close(of(-2.0, EXACT), propagated);
        let lost = Roundings {
            sigmoid_step: 1.0,
            ..EXACT
        };
        assert_close(of(2.0, lost), propagated + 3.25 * 2.0 * sigma(-8.0) * 10.0);
        // Just below −2 |f| rises less towards the upper end than it falls towards the lower.
        let one = Activation { alpha: 1.0, limit: 7.0 };
        let near = swiglu_bound((-2.2, 0.2), (0.0, 0.0), 0.0, one, EXACT);
        assert_close(near, 2.2 * sigma(-2.2) - 2.4 * sigma(-2.4));
        // Around −2 the slope still counts: f has its least value near −1.28.
        let near = swiglu_bound((-10.0, 9.5), (0.0, 0.0), 0.0, TWO, EXACT);
        assert_close(near, 9.5 * 1.1);
    }

    #[test]
    fn near_overflow_anything_is_right() {
        let of = |value: f64, up_error: f64, max: f64| {
            let roundings = Roundings { max, ..EXACT };
            swiglu_bound((0.5, 0.0), (1.0, up_error), value, TWO, roundings)
        };
        assert_close(of(400.0, 90.0 / GLU, 1000.0), 90.0);
        assert_eq!(of(400.0, 120.0 / GLU, 1000.0), f64::INFINITY);
        assert_eq!(of(501.0, 0.0, 1000.0), f64::INFINITY);
        assert_close(of(400.0, 2.0 / GLU, 1000.0), 2.0);
        assert_close(of(-400.0, 2.0 / GLU, 1000.0), 2.0);
    }

    #[test]
    fn an_infinity_must_be_met_where_the_signs_of_its_factors_are_certain() {
        let of = |gate, up, value| swiglu_bound(gate, up, value, Activation { alpha: 0.0, limit: 7.0 }, EXACT);
        let infinity = f64::INFINITY;
        assert_eq!(of((2.0, 0.0), (1.0, 0.0), infinity), 0.0);
        assert_eq!(of((2.0, 1.0), (1.0, 1.0), infinity), 0.0);
        // up + 1 can be 0 or negative, or the gate can.
        assert_eq!(of((2.0, 0.0), (1.0, 2.0), infinity), infinity);
        assert_eq!(of((2.0, 0.0), (1.0, 3.0), infinity), infinity);
        assert_eq!(of((2.0, 2.0), (1.0, 0.0), infinity), infinity);
        assert_eq!(of((2.0, 3.0), (1.0, 0.0), infinity), infinity);
        assert_eq!(of((2.0, 3.0), (1.0, 3.0), f64::NAN), 0.0);
    }

    /// Of every kind: what is right anywhere within the errors of gate and up.
    #[test]
    fn every_activation_moves_within_its_bound() {
        let roundings = Roundings::new(Precision::FP32, ElementType::F32);
        for &kind in ActivationKind::ALL {
            let activation = ActivationFunction::new(kind, Activation::GPT_OSS);
            for gate in (-400..=200).map(|gate| f64::from(gate) / 10.0) {
                for (error, up) in [(1e-3, 0.5), (0.25, -3.0), (4.0, 6.875), (30.0, -1.0)] {
                    let up_error = if kind.has_up() { error / 8.0 } else { 0.0 };
                    let value = activation.value(gate, up);
                    let allowed = activation_bound((gate, error), (up, up_error), value, &activation, roundings);
                    for (a, b) in (-8..=8).flat_map(|a| (-8..=8).map(move |b| (f64::from(a) / 8.0, f64::from(b) / 8.0)))
                    {
                        let moved = activation.value(gate + a * error, up + b * up_error);
                        assert!(
                            (moved - value).abs() <= allowed,
                            "{kind}: {gate} ± {error}, {up} ± {up_error}"
                        );
                    }
                }
            }
        }
    }

    /// Silu's bound by hand: (|f'| + δ/2)·δ·|up| + |f|·δu + the product of both; no 1 is added to up.
    #[test]
    fn without_an_offset_up_is_the_factor() {
        let silu = ActivationFunction::new(ActivationKind::Silu, Activation::GPT_OSS);
        let found = activation_bound((1.0, 0.125), (-3.0, 0.25), 0.0, &silu, EXACT);
        let small = 0.125 * (SIGMA * (2.0 - SIGMA) + 0.0625);
        assert_close(found, 3.0 * small + SIGMA * 0.25 + small * 0.25);
        assert_eq!(activation_bound((2.0, 0.5), (0.0, 0.0), 0.0, &silu, EXACT), 0.0);
        assert!(activation_bound((2.0, 0.5), (-1.0, 0.0), -1.0, &silu, EXACT) > 0.0);
    }

    /// 1 + erf cancels: far below zero an absolute error of a few roundings is right, and further nothing is left.
    #[test]
    fn what_cancels_has_an_absolute_error() {
        for kind in [ActivationKind::Gelu, ActivationKind::GeluTanh] {
            let gelu = ActivationFunction::new(kind, Activation::GPT_OSS);
            let roundings = Roundings::new(Precision::FP32, ElementType::F32);
            let at = |gate: f64| activation_bound((gate, 0.0), (1.0, 0.0), gelu.value(gate, 1.0), &gelu, roundings);
            assert!(
                at(-6.0) > gelu.value(-6.0, 1.0).abs() && at(-6.0) < 1e-5,
                "{}",
                at(-6.0)
            );
            // An infinite up meets what may be 0.
            let infinite =
                |gate: f64| activation_bound((gate, 0.0), (f64::INFINITY, 0.0), f64::NEG_INFINITY, &gelu, roundings);
            assert_eq!((infinite(-12.0), infinite(-1.0)), (f64::INFINITY, 0.0));
            assert!(at(-1e6) < 1e-30, "{}", at(-1e6));
            assert!(at(3.0) < 1e-5);
        }
    }

    #[test]
    fn a_square_of_few_bits_is_exact() {
        let square = ActivationFunction::new(ActivationKind::ReluSquared, Activation::GPT_OSS);
        let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
        let at =
            |gate: f64, error: f64| activation_bound((gate, error), (0.0, 0.0), square.value(gate, 0.0), &square, bf16);
        assert_eq!((at(1.5, 0.0), at(-3.0, 0.5), at(-3.0, 0.0)), (0.0, 0.0, 0.0));
        // 17² = 289 has nine bits.
        assert!(at(17.0, 0.0) > 0.0 && at(1.5, 1e-3) > 2.9e-3);
    }
}
