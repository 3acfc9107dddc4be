//! The activation between the two products; a file for each.
//!
//! Each is a function of a gate and an up, rounded to the element type where PyTorch's operations round.

mod clamped_swiglu;
mod erf;
mod gelu;
mod gelu_tanh;
mod relu_squared;
mod silu;

use crate::element::is_nan;
use crate::named::named;
use crate::{Binned, Element, Error};

named! {
    /// An activation by name. alpha and limit are those of [`Activation`].
    pub enum ActivationKind, "activation" {
        /// (up + 1) · gate · sigmoid(alpha · gate), gate ≤ limit and up in ±limit.
        #[default]
        ClampedSwiglu = "clamped-swiglu",
        /// silu(gate) · up, silu(x) = x · sigmoid(x).
        Silu = "silu",
        /// silu(gate) · up, gate ≤ limit and up in ±limit.
        ClampedSilu = "clamped-silu",
        /// gelu(gate) · up, gelu(x) = x · Φ(x) by the error function.
        Gelu = "gelu",
        /// gelu(gate) · up, gelu by its approximation with tanh.
        GeluTanh = "gelu-tanh",
        /// relu(gate)². There is no up.
        ReluSquared = "relu-squared",
    }
}

impl ActivationKind {
    /// Whether each gate has an up beside it.
    pub const fn has_up(self) -> bool {
        !matches!(self, ActivationKind::ReluSquared)
    }

    /// Columns of the first product for each column of the activation: 2, or 1 where there are no ups. Column
    /// `columns · i` is gate i, and the next one up i.
    pub const fn columns(self) -> usize {
        if self.has_up() { 2 } else { 1 }
    }

    /// Whether alpha is a parameter of it.
    pub const fn has_alpha(self) -> bool {
        matches!(self, ActivationKind::ClampedSwiglu)
    }

    /// Whether the limit is a parameter of it.
    pub const fn has_limit(self) -> bool {
        matches!(self, ActivationKind::ClampedSwiglu | ActivationKind::ClampedSilu)
    }
}

/// Parameters of the activations that [have](ActivationKind::has_alpha) [them](ActivationKind::has_limit).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Factor inside the sigmoid.
    pub alpha: f64,
    /// Upper clamp of the gate, and clamp of up on both sides.
    pub limit: f64,
}

impl Activation {
    /// The constants of gpt-oss: alpha 1.702, limit 7.
    pub const GPT_OSS: Activation = Activation {
        alpha: 1.702,
        limit: 7.0,
    };
}

/// The activation of each row: `[·,2I]` to `[·,I]`, or `[·,I]` to `[·,I]` where there are no ups.
///
/// gate is the even and up the odd columns. Every operation is rounded; NaN passes the clamps.
///
/// # Errors
/// [`Error::OddGateUp`] if there are ups and the width is odd; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn activate<T: Element>(
    gate_up: &Binned<T>,
    kind: ActivationKind,
    activation: Activation,
) -> Result<Binned<T>, Error> {
    let clamps = Clamps::new(activation.limit);
    match kind {
        ActivationKind::ClampedSwiglu => {
            let alpha = T::scalar(activation.alpha);
            each(gate_up, kind, |gate, up| {
                clamped_swiglu::value(clamps.gate(gate), clamps.up(up), alpha)
            })
        }
        ActivationKind::Silu => each(gate_up, kind, silu::value),
        ActivationKind::ClampedSilu => each(gate_up, kind, |gate, up| silu::value(clamps.gate(gate), clamps.up(up))),
        ActivationKind::Gelu => each(gate_up, kind, gelu::value),
        ActivationKind::GeluTanh => each(gate_up, kind, gelu_tanh::value),
        ActivationKind::ReluSquared => each(gate_up, kind, |gate, _| relu_squared::value(gate)),
    }
}

/// Applies a function of gate and up to each pair; up is the gate itself where there are no ups.
fn each<T: Element>(gate_up: &Binned<T>, kind: ActivationKind, value: impl Fn(T, T) -> T) -> Result<Binned<T>, Error> {
    let (width, columns) = (gate_up.rows().ncols(), kind.columns());
    if !width.is_multiple_of(columns) {
        return Err(Error::OddGateUp { found: width });
    }
    let mut activated = gate_up.zeros_like("activated", width / columns)?;
    for expert in 0..gate_up.experts() {
        let mut target = activated.expert_mut(expert);
        for (mut target, source) in target.rows_mut().into_iter().zip(gate_up.expert(expert).rows()) {
            for (i, target) in target.iter_mut().enumerate() {
                *target = value(source[columns * i], source[columns * i + columns - 1]);
            }
        }
    }
    Ok(activated)
}

/// The limit in the element type, on both sides.
struct Clamps<T> {
    limit: T,
    negative_limit: T,
}

impl<T: Element> Clamps<T> {
    fn new(limit: f64) -> Clamps<T> {
        Clamps {
            limit: T::narrow(T::scalar(limit)),
            negative_limit: T::narrow(T::scalar(-limit)),
        }
    }

    fn gate(&self, gate: T) -> T {
        at_most(gate, self.limit)
    }

    fn up(&self, up: T) -> T {
        at_most(at_least(up, self.negative_limit), self.limit)
    }
}

/// A result in the wide type, rounded to the element type.
fn rounded<T: Element>(wide: T::Wide) -> T::Wide {
    T::narrow(wide).widen()
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
