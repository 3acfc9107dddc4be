//! The activations in f64, and what bounds need to know of each; a file for each function of the gate.
//!
//! Every activation is a function of the gate times a factor that follows from up.

mod gelu;
mod gelu_tanh;
mod relu_squared;
mod swish;

use binned_experts_reference::{Activation, ActivationKind};

use self::gelu::Gelu;
use self::gelu_tanh::GeluTanh;
use self::relu_squared::ReluSquared;
use self::swish::Swish;
use super::{Rounding, Roundings};

/// A function f of the gate, and how far an engine's may be from it. `gate` is clamped already.
pub(super) trait GateFunction {
    /// f at a gate.
    fn value(&self, gate: f64) -> f64;

    /// Whether f is the gate times a sigmoid, which may be Φ.
    fn has_sigmoid(&self) -> bool;

    /// f' at a gate.
    fn slope(&self, gate: f64) -> f64;

    /// How far f moves at most where the gate moves by `error`.
    fn moved(&self, gate: f64, error: f64) -> f64;

    /// The roundings of its evaluation and of the product with the factor, relative to f and in units of u.
    fn evaluation(&self, gate: f64) -> f64;

    /// An absolute error of its evaluation, at a gate that is known up to `error`.
    fn absolute(&self, gate: f64, error: f64, roundings: &Roundings) -> f64;
}

/// An activation with its parameters.
pub(crate) struct ActivationFunction {
    kind: ActivationKind,
    limit: f64,
    gate: Box<dyn GateFunction>,
}

impl ActivationFunction {
    pub(crate) fn new(kind: ActivationKind, Activation { alpha, limit }: Activation) -> ActivationFunction {
        ActivationFunction {
            kind,
            limit: if kind.has_limit() { limit } else { f64::INFINITY },
            gate: match kind {
                ActivationKind::ClampedSwiglu => Box::new(Swish { alpha }),
                ActivationKind::Silu | ActivationKind::ClampedSilu => Box::new(Swish { alpha: 1.0 }),
                ActivationKind::Gelu => Box::new(Gelu),
                ActivationKind::GeluTanh => Box::new(GeluTanh),
                ActivationKind::ReluSquared => Box::new(ReluSquared),
            },
        }
    }

    /// The activation of a gate and an up; NaN passes the clamps.
    pub(crate) fn value(&self, gate: f64, up: f64) -> f64 {
        if self.limit.is_nan() {
            return f64::NAN;
        }
        let gate = if gate > self.limit { self.limit } else { gate };
        let up = if up < -self.limit { -self.limit } else { up };
        let up = if up > self.limit { self.limit } else { up };
        self.factor(up) * self.gate.value(gate)
    }

    /// The factor of a clamped up.
    pub(super) fn factor(&self, up: f64) -> f64 {
        match self.kind {
            ActivationKind::ClampedSwiglu => up + 1.0,
            ActivationKind::ReluSquared => 1.0,
            ActivationKind::Silu | ActivationKind::ClampedSilu | ActivationKind::Gelu | ActivationKind::GeluTanh => up,
        }
    }

    /// The function of the gate.
    pub(super) fn gate(&self) -> &dyn GateFunction {
        &*self.gate
    }

    /// The clamp; +∞ where there is none.
    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// Whether there is a sigmoid, which an engine may have too large.
    pub(crate) fn has_sigmoid(&self) -> bool {
        self.gate.has_sigmoid()
    }

    /// Whether there are ups.
    pub(super) fn has_up(&self) -> bool {
        self.kind.has_up()
    }
}

/// The gates and ups of a row of the first product. An up is 0 where there are none.
pub(crate) fn pairs<'a>(
    kind: ActivationKind,
    row: impl IntoIterator<Item = &'a f64>,
) -> impl Iterator<Item = (f64, f64)> {
    let mut values = row.into_iter().copied();
    std::iter::from_fn(move || {
        let gate = values.next()?;
        Some((gate, if kind.has_up() { values.next()? } else { 0.0 }))
    })
}

/// Roundings of an evaluation by a few operations, in units of u.
const EVALUATION: f64 = 8.0;

/// Below this argument |x·σ(x)| and |x·Φ(x)| fall towards −∞. Their largest values are at −1.28 and −0.75.
const TAIL: f64 = -2.0;

/// How far a function moves whose slope is nowhere above `steepest` and changes by at most 2 · `bend` for each unit.
fn moved_by_slope(slope: f64, bend: f64, steepest: f64, error: f64) -> f64 {
    error * steepest.min(slope.abs() + bend * error)
}

/// How far a value whose magnitude rises with its argument is from those at both ends. The difference is rounded to f64;
/// that error is smaller than the evaluation's own rounding.
fn between_ends(lower: f64, value: f64, upper: f64) -> f64 {
    (upper.abs() - value.abs()).max(value.abs() - lower.abs())
}

/// What is lost below the smallest values of what is stored.
fn underflow(between: Rounding) -> f64 {
    4.0 * between.step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ActivationKind, gate: f64, up: f64) -> f64 {
        ActivationFunction::new(kind, Activation { alpha: 2.0, limit: 3.0 }).value(gate, up)
    }

    #[test]
    fn values_by_hand() {
        // σ(1) and Φ(1), and the approximation of Φ(1) by tanh; the last two by `math.erf` and `math.tanh` of Python.
        let (sigma, phi, tanh) = (
            0.731_058_578_630_004_9,
            0.841_344_746_068_542_9,
            0.841_191_990_608_276_8,
        );
        let near = |found: f64, expected: f64| (found - expected).abs() <= 4.0 * f64::EPSILON * expected.abs();
        assert!(near(of(ActivationKind::ClampedSwiglu, 0.5, 4.0), 4.0 * 0.5 * sigma));
        assert!(near(of(ActivationKind::Silu, 1.0, 4.0), 4.0 * sigma));
        assert!(near(of(ActivationKind::ClampedSilu, 1.0, 4.0), 3.0 * sigma));
        assert!(near(of(ActivationKind::ClampedSilu, -1.0, -4.0), 3.0 * (1.0 - sigma)));
        assert!(near(of(ActivationKind::Gelu, 1.0, 4.0), 4.0 * phi));
        assert!(near(
            of(ActivationKind::Gelu, -1.0, 4.0),
            -4.0 * 0.158_655_253_931_457_05
        ));
        assert!(near(of(ActivationKind::GeluTanh, 1.0, 4.0), 4.0 * tanh));
        assert_eq!(of(ActivationKind::ReluSquared, 5.0, 0.0), 25.0);
        assert_eq!(of(ActivationKind::ReluSquared, -5.0, 0.0), 0.0);
    }

    #[test]
    fn bad_numbers_are_those_of_pytorch() {
        for &kind in ActivationKind::ALL {
            assert!(of(kind, f64::NAN, 1.0).is_nan(), "{kind}");
            // −∞ times a sigmoid of 0.
            let has_sigmoid = ActivationFunction::new(kind, Activation::GPT_OSS).has_sigmoid();
            assert_eq!(of(kind, f64::NEG_INFINITY, 1.0).is_nan(), has_sigmoid, "{kind}");
            assert!(of(kind, f64::INFINITY, 1.0) > 2.0, "{kind}");
            assert_eq!(of(kind, 1.0, f64::NAN).is_nan(), kind.has_up(), "{kind}");
        }
    }

    #[test]
    fn a_sigmoid_lets_a_part_of_the_gate_pass() {
        for &kind in ActivationKind::ALL {
            let function = ActivationFunction::new(kind, Activation::GPT_OSS);
            assert_eq!(function.has_sigmoid(), function.gate().value(1.0) < 1.0, "{kind}");
        }
    }

    /// Near an argument, and far from it; not at 0, where a function may have a bend.
    #[test]
    fn slopes_and_moves_hold_everywhere() {
        for &kind in ActivationKind::ALL {
            let function = ActivationFunction::new(
                kind,
                Activation {
                    alpha: 1.702,
                    limit: 7.0,
                },
            );
            let gate = function.gate();
            for at in (-1200..=1200).map(|at| (f64::from(at) + 0.5) / 50.0) {
                let step = 1e-6;
                let quotient = (gate.value(at + step) - gate.value(at - step)) / (2.0 * step);
                assert!(
                    (quotient - gate.slope(at)).abs() <= 1e-6 * (1.0 + at.abs()),
                    "{kind} at {at}"
                );
                for error in [1e-3, 0.1, 0.5, 2.0, 9.0] {
                    let allowed = gate.moved(at, error);
                    for part in (-16..=16).map(|part| f64::from(part) / 16.0) {
                        let moved = (gate.value(at + part * error) - gate.value(at)).abs();
                        assert!(
                            moved <= allowed * (1.0 + 1e-12) + 1e-15,
                            "{kind}: {at} ± {error}: {moved} > {allowed}"
                        );
                    }
                }
            }
        }
    }
}
