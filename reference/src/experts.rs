//! The experts themselves: gate_up, activation, down.

use ndarray::{ArrayView2, ArrayView3, Axis, NdFloat};

use crate::problem::expect_shape;
use crate::{Activation, Binned, Element, Error, ExpertWeights};

/// x `[·,H]` · `gate_up_proj` `[E,H,2I]` + `gate_up_proj_bias` `[E,2I]`, expert by expert.
///
/// # Errors
/// [`Error::Shape`] if `x` does not fit the weights; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn gate_up<T: Element>(x: &Binned<T>, weights: &ExpertWeights<T>) -> Result<Binned<T>, Error> {
    affine(
        "gate_up",
        x,
        weights.gate_up_proj().view(),
        weights.gate_up_proj_bias().view(),
    )
}

/// x `[·,I]` · `down_proj` `[E,I,H]` + `down_proj_bias` `[E,H]`, expert by expert.
///
/// # Errors
/// [`Error::Shape`] if `x` does not fit the weights; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn down<T: Element>(x: &Binned<T>, weights: &ExpertWeights<T>) -> Result<Binned<T>, Error> {
    affine("down", x, weights.down_proj().view(), weights.down_proj_bias().view())
}

/// The clamped SwiGLU: `[·,2I]` to `[·,I]`.
///
/// gate is the even and up the odd columns; gate ≤ limit, −limit ≤ up ≤ limit;
/// result = (up + 1) · (gate · sigmoid(alpha · gate)), rounded after every operation. NaN passes the clamps.
///
/// # Errors
/// [`Error::OddGateUp`] if the width is odd; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn activate<T: Element>(gate_up: &Binned<T>, activation: Activation) -> Result<Binned<T>, Error> {
    let width = gate_up.rows().ncols();
    if !width.is_multiple_of(2) {
        return Err(Error::OddGateUp { found: width });
    }
    let swiglu = ClampedSwiglu::new(activation);
    let mut activated = gate_up.zeros_like("activated", width / 2)?;
    for expert in 0..gate_up.experts() {
        let mut target = activated.expert_mut(expert);
        for (mut target, source) in target.rows_mut().into_iter().zip(gate_up.expert(expert).rows()) {
            for (column, target) in target.iter_mut().enumerate() {
                *target = swiglu.apply(source[2 * column], source[2 * column + 1]);
            }
        }
    }
    Ok(activated)
}

fn affine<T: Element>(
    what: &'static str,
    x: &Binned<T>,
    matrices: ArrayView3<T>,
    biases: ArrayView2<T>,
) -> Result<Binned<T>, Error> {
    let (experts, _, width) = matrices.dim();
    expect_shape("experts", &[experts], &[x.experts()])?;
    expect_shape(what, &[x.rows().nrows(), matrices.dim().1], x.rows().shape())?;
    let mut out = x.zeros_like(what, width)?;
    for (expert, (matrix, bias)) in matrices.outer_iter().zip(biases.outer_iter()).enumerate() {
        let rows = x.expert(expert);
        if rows.nrows() == 0 {
            continue;
        }
        let mut target = out.expert_mut(expert);
        T::matmul(rows, matrix, target.view_mut())?;
        for mut row in target.axis_iter_mut(Axis(0)) {
            row.zip_mut_with(&bias, |value, bias| *value = T::narrow(value.widen() + bias.widen()));
        }
    }
    Ok(out)
}

/// The activation with its parameters in the type that an operation computes in.
struct ClampedSwiglu<T: Element> {
    alpha: T::Wide,
    limit: T,
    negative_limit: T,
}

impl<T: Element> ClampedSwiglu<T> {
    fn new(activation: Activation) -> ClampedSwiglu<T> {
        ClampedSwiglu {
            alpha: T::scalar(activation.alpha),
            limit: T::narrow(T::scalar(activation.limit)),
            negative_limit: T::narrow(T::scalar(-activation.limit)),
        }
    }

    fn apply(&self, gate: T, up: T) -> T {
        let one = T::scalar(1.0);
        let rounded = |wide: T::Wide| T::narrow(wide).widen();
        let gate = at_most(gate, self.limit).widen();
        let up = at_most(at_least(up, self.negative_limit), self.limit).widen();
        let glu = rounded(gate * rounded(sigmoid(rounded(gate * self.alpha))));
        T::narrow(rounded(up + one) * glu)
    }
}

fn sigmoid<W: NdFloat>(x: W) -> W {
    W::one() / (W::one() + (-x).exp())
}

/// The smaller of two values; NaN if either is NaN.
fn at_most<T: Element>(value: T, upper: T) -> T {
    if value.widen() <= upper.widen() || is_nan(value) {
        value
    } else {
        upper
    }
}

/// The larger of two values; NaN if either is NaN.
fn at_least<T: Element>(value: T, lower: T) -> T {
    if value.widen() >= lower.widen() || is_nan(value) {
        value
    } else {
        lower
    }
}

fn is_nan<T: Element>(value: T) -> bool {
    value.widen() != value.widen()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swiglu(alpha: f64, limit: f64, gate: f32, up: f32) -> f32 {
        ClampedSwiglu::<f32>::new(Activation { alpha, limit }).apply(gate, up)
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
