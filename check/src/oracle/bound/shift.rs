//! The shift towards 0 of a product whose operands are cut. The derivation is in the parent module.

use binned_experts_reference::Activation;
use ndarray::{Array1, Axis};

use super::activation::Gate;
use crate::oracle::{Definition, Inputs, Roundings};

/// The largest shift that the products of a sum have in common, in units of u.
pub(super) const COMMON: f64 = 2.0;

/// By how much an assignment's second product shrinks for each unit by which its first one does, `[H]`; none where
/// operands are not rounded.
pub(super) fn carried(inputs: &Inputs, definition: &Definition, roundings: Roundings, flat: usize) -> Option<Vec<f64>> {
    if roundings.operand.unit == 0.0 {
        return None;
    }
    let (_, _, expert) = inputs.assignment(flat);
    let (value, bias) = (definition.gate_up.row(flat), inputs.gate_up_proj_bias.row(expert));
    let activated = (0..inputs.dims.intermediate).map(|i| {
        let of = |column: usize| (value[column], value[column] - bias[column]);
        let shift = of_activation(of(2 * i), of(2 * i + 1), inputs.activation);
        if shift.is_finite() { shift } else { 0.0 }
    });
    let activated: Vec<f64> = activated.collect();
    let matrix = inputs.down_proj.index_axis(Axis(0), expert);
    let mut shifts = Array1::zeros(inputs.dims.hidden);
    for (shift, row) in activated.iter().zip(matrix.rows()) {
        shifts.scaled_add(*shift, &row);
    }
    // Where a factor is not finite neither is the value, which has no shift.
    Some(
        shifts
            .mapv_into(|shift: f64| if shift.is_finite() { shift } else { 0.0 })
            .to_vec(),
    )
}

/// The change of the activation, by its derivative, where gate and up have a sum each that shrinks by one unit.
fn of_activation((gate, gate_sum): (f64, f64), (up, up_sum): (f64, f64), activation: Activation) -> f64 {
    let limit = activation.limit;
    let gate_sum = if gate < limit { gate_sum } else { 0.0 };
    let up_sum = if up.abs() < limit { up_sum } else { 0.0 };
    let up = up.max(-limit).min(limit);
    let Gate { glu, slope, .. } = Gate::new(gate.min(limit), activation.alpha);
    (up + 1.0) * slope * gate_sum + glu * up_sum
}
