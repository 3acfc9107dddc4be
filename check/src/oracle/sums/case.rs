//! What the slopes of a case are found from.

use crate::oracle::{Definition, Inputs, Rounding, Roundings};

/// A case whose output is to be changed.
pub(super) struct Case<'a> {
    pub(super) inputs: &'a Inputs,
    pub(super) definition: &'a Definition,
    pub(super) roundings: Roundings,
    pub(super) rounds_operands: bool,
}

impl Case<'_> {
    /// Its shared experts.
    pub(super) fn shared(&self) -> Option<Case<'_>> {
        Some(Case {
            inputs: self.inputs.shared.as_deref()?,
            definition: self.definition.shared.as_deref()?,
            ..*self
        })
    }
}

/// Rounded to nearest, ties to even.
pub(super) fn rounded(value: f64, rounding: Rounding) -> f64 {
    let step = step_at(value, rounding);
    if step > 0.0 && step.is_finite() {
        (value / step).round_ties_even() * step
    } else {
        value
    }
}

/// The distance between the values next to a value.
pub(super) fn step_at(value: f64, rounding: Rounding) -> f64 {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    let power = f64::from_bits(value.to_bits() & EXPONENT);
    (2.0 * rounding.unit * power).max(rounding.step)
}
