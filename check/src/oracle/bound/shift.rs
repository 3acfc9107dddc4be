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

#[cfg(test)]
mod tests {
    use binned_experts_reference::{Activation, ActivationKind, Layer};
    use ndarray::{Slice, array};

    use super::super::combination::{Slot, SumRoundings, scaled_bound};
    use super::super::tests::{COLUMN, EXACT, X, affine_beside, assert_close, inputs, unit};
    use super::*;
    use crate::case::power_of_two;
    use crate::oracle::Bounds;

    const CUT: Roundings = Roundings {
        operand: unit(1.0 / 1024.0),
        ..EXACT
    };

    /// Of errors of 6 and 3 units, 1½ for each unit of the shift are no others.
    #[test]
    fn the_shift_of_the_operands_counts_once_and_with_its_sign() {
        let shift = Shift {
            activated: array![2.0, -1.0, 0.0],
            expert_output: array![21.0],
        };
        let x = [(X[0].0, 6.0 / 1024.0), (X[1].0, 3.0 / 1024.0), X[2]];
        let (first, second): (f64, f64) = (3.0 / 1024.0 * 9.0, 1.5 / 1024.0 * -3.0);
        let operands = 3.0 * 2f64.sqrt() * 14f64.sqrt() + 2.0 * 2.0 + 1.5 * 21.0;
        assert_close(
            affine_beside(x, COLUMN, 0.0, 0.0, Some(&shift), CUT),
            first.hypot(second) + (first + second).abs() + operands / 1024.0,
        );
    }

    /// Of squares of gates above 0, without ups: an expert's row is exact where all its products are.
    #[test]
    fn a_row_shifts_by_its_products_unless_it_is_exact() {
        let mut inputs = inputs();
        inputs.layer = Layer {
            activation: ActivationKind::ReluSquared,
            ..Layer::GPT_OSS
        };
        inputs.gate_up_proj = inputs.gate_up_proj.slice_axis(Axis(2), Slice::from(..2)).to_owned();
        inputs.gate_up_proj_bias = inputs
            .gate_up_proj_bias
            .slice_axis(Axis(1), Slice::from(..2))
            .to_owned();
        // The rows of the first expert have thirds, those of the second few bits.
        inputs
            .down_proj
            .index_axis_mut(Axis(0), 0)
            .mapv_inplace(|weight| weight / 3.0);
        let definition = Definition::new(&inputs);
        let bounds = Bounds::new(&inputs, &definition, CUT);
        let (_, shifts) = Bounds::of_rows(&inputs, &definition, CUT);
        let sum = SumRoundings::new(CUT, &inputs.layer);
        let mut exact = 0;
        for token in 0..2 {
            for column in 0..2 {
                let mut slots = [2 * token, 2 * token + 1].map(|flat| {
                    let expert = inputs.assignment(flat).2;
                    let product = |i: usize| inputs.down_proj[[expert, i, column]] * definition.activated[[flat, i]];
                    let error = bounds.expert_output[[flat, column]];
                    exact += usize::from(error == 0.0 && product(0) + product(1) != 0.0);
                    let of_first = shifts[flat].as_ref().unwrap().expert_output[column];
                    Slot {
                        expert,
                        value: definition.expert_output[[flat, column]],
                        error,
                        weight: inputs.routing_weights[[token, expert]],
                        shifts: if error == 0.0 {
                            [0.0; 2]
                        } else {
                            [of_first, product(0) + product(1)]
                        },
                    }
                });
                slots.sort_by_key(|slot| slot.expert);
                let value = definition.output[[token, column]];
                assert_close(bounds.output[[token, column]], scaled_bound(&slots, value, 1.0, sum));
            }
        }
        assert!(exact >= 2, "{exact}");
    }

    /// What is beyond the limit does not move with its sum.
    #[test]
    fn the_shift_of_an_activation_is_its_change_where_gate_and_up_shrink() {
        let activation = Activation { alpha: 1.5, limit: 7.0 };
        let swiglu = ActivationFunction::new(ActivationKind::ClampedSwiglu, activation);
        let (gate_sum, up_sum) = (1.25, -0.75);
        for gate in [-9.0, -0.5, 2.0, 9.0] {
            for up in [-9.0, -0.5, 2.0, 9.0] {
                let step = power_of_two(-20);
                let shrunk = swiglu.value(gate - step * gate_sum, up - step * up_sum);
                let change = (swiglu.value(gate, up) - shrunk) / step;
                let found = of_activation((gate, gate_sum), (up, up_sum), &swiglu);
                assert!((found - change).abs() <= 1e-5, "{gate} {up}: {found}, {change}");
            }
        }
    }
}
