//! The shift towards 0 of a product whose operands are cut. The derivation is in the parent module.

use ndarray::{Array1, ArrayView1, Axis};

use crate::oracle::{ActivationFunction, Definition, Inputs, Roundings, pairs};

/// The shift that the products of a sum have in common, in units of u, where it is carried on: two operands whose
/// significands are spread evenly lose 2·ln 2, or 1.44 if their logarithms are.
pub(super) const COMMON: f64 = 1.5;

/// By how much the results of an assignment shrink for each unit by which its first product does.
#[derive(Debug)]
pub(in crate::oracle) struct Shift {
    /// The activations, `[I]`.
    pub(super) activated: Array1<f64>,
    /// The second product, `[H]`.
    pub(super) expert_output: Array1<f64>,
}

impl Shift {
    /// None where operands are not rounded. `error` is that of the activations, of which their shift is a part.
    pub(super) fn new(
        inputs: &Inputs,
        definition: &Definition,
        activation: &ActivationFunction,
        roundings: Roundings,
        error: ArrayView1<f64>,
        flat: usize,
    ) -> Option<Shift> {
        let unit = COMMON * roundings.operand.unit;
        if unit == 0.0 {
            return None;
        }
        let (_, _, expert) = inputs.assignment(flat);
        let value = definition.gate_up.row(flat);
        let sums = &value - &inputs.gate_up_proj_bias.row(expert);
        let kind = inputs.layer.activation;
        let of_each = pairs(kind, value).zip(pairs(kind, &sums)).zip(error);
        let activated = of_each.map(|(((gate, up), (gate_sum, up_sum)), error)| {
            let shift = of_activation((gate, gate_sum), (up, up_sum), activation);
            let most = error / unit;
            if shift.is_finite() && most.is_finite() {
                shift.max(-most).min(most)
            } else {
                0.0
            }
        });
        let activated: Array1<f64> = activated.collect();
        let mut expert_output = Array1::zeros(inputs.dims.hidden);
        for (shift, row) in activated
            .iter()
            .zip(inputs.down_proj.index_axis(Axis(0), expert).rows())
        {
            expert_output.scaled_add(*shift, &row);
        }
        // Where a factor is not finite neither is the value, which has no shift.
        expert_output.mapv_inplace(|shift: f64| if shift.is_finite() { shift } else { 0.0 });
        Some(Shift {
            activated,
            expert_output,
        })
    }
}

/// The change of the activation, by its derivative, where gate and up have a sum each that shrinks by one unit.
fn of_activation((gate, gate_sum): (f64, f64), (up, up_sum): (f64, f64), activation: &ActivationFunction) -> f64 {
    let limit = activation.limit();
    let gate_sum = if gate < limit { gate_sum } else { 0.0 };
    let up_sum = if up.abs() < limit { up_sum } else { 0.0 };
    let up = up.max(-limit).min(limit);
    let (function, gate) = (activation.gate(), gate.min(limit));
    activation.factor(up) * function.slope(gate) * gate_sum + function.value(gate) * up_sum
}
