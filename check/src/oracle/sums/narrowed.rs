//! What the output of a case changes by where what is wide is rounded to the element type.
//!
//! An honest engine rounds results to the element type. Where a result is its bias alone, or little more, that is the rounding
//! of the bias. Such results say nothing of the direction.
//!
//! An output that is rounded has no direction: what an engine rounds is its own sum, whose errors are larger than that.

use ndarray::{Array1, Array2, ArrayView1, Axis};

use binned_experts_reference::WeightOn;

use super::Direction;
use super::case::{Case, rounded, step_at};
use crate::oracle::{ActivationFunction, Rounding, pairs};

/// The least that a result has besides its bias, in steps of the element type.
const LEAST_STEPS: f64 = 8.0;

/// Adds the slopes of a token to those of all directions, `[directions,H]`.
pub(super) fn add_narrowed(slopes: &mut Array2<f64>, case: &Case, token: usize) {
    let (inputs, element) = (case.inputs, case.roundings.store);
    let (layer, top_k) = (&inputs.layer, inputs.dims.top_k);
    let kept = || (token * top_k..(token + 1) * top_k).filter(|flat| case.definition.kept[*flat]);
    let is_wide = |tensor_type| case.roundings.wide_of(tensor_type).is_some();
    if is_wide(layer.bias_type) {
        let mut change = slopes.row_mut(Direction::BiasesNarrowed as usize);
        kept().for_each(|flat| change.scaled_add(inputs.output_weight(flat) * layer.scale, &of_biases(case, flat)));
        if let Some(shared) = case.shared() {
            change += &of_biases(&shared, token);
        }
    }
    if is_wide(layer.routing_weight_type) && layer.weight_on == WeightOn::Output {
        let mut change = slopes.row_mut(Direction::WeightsNarrowed as usize);
        for flat in kept() {
            let weight = inputs.output_weight(flat);
            let lost = (rounded(weight, element) - weight) * layer.scale;
            change.scaled_add(lost, &case.definition.expert_output.row(flat));
        }
    }
}

/// What rounding both biases changes the row of an assignment by, `[H]`.
fn of_biases(case: &Case, flat: usize) -> Array1<f64> {
    let (inputs, definition, element) = (case.inputs, case.definition, case.roundings.store);
    let (_, _, expert) = inputs.assignment(flat);
    let of = |values: ArrayView1<f64>, biases: ArrayView1<f64>| -> Array1<f64> {
        let each = values.into_iter().zip(biases);
        each.map(|(value, bias)| lost(*bias, *value, element)).collect()
    };
    let gate_up = definition.gate_up.row(flat);
    let changes = of(gate_up, inputs.gate_up_proj_bias.row(expert));
    let kind = inputs.layer.activation;
    let function = ActivationFunction::new(kind, inputs.activation);
    let of_each = pairs(kind, gate_up).zip(pairs(kind, &changes));
    let activated =
        of_each.map(|((gate, up), (gates, ups))| function.value(gate + gates, up + ups) - function.value(gate, up));
    let activated: Array1<f64> = activated.collect();
    let second = of(definition.expert_output.row(flat), inputs.down_proj_bias.row(expert));
    activated.dot(&inputs.down_proj.index_axis(Axis(0), expert)) + second
}

/// What rounding a bias changes it by; 0 where it is nearly all of its result.
fn lost(bias: f64, result: f64, element: Rounding) -> f64 {
    if (result - bias).abs() < LEAST_STEPS * step_at(result.abs().max(bias.abs()), element) {
        0.0
    } else {
        rounded(bias, element) - bias
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CaseSpec;
    use crate::case::ElementType;
    use crate::generate::Selection;
    use crate::oracle::{Definition, Inputs, Precision, Roundings};

    const LAYERS: &str = "layers = [{ bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide' },
        { bias_type = 'wide', routing_weight_type = 'wide', output_type = 'wide', shared_experts = 1 }]";

    /// What the definition of rounded inputs differs by is what the slopes say, and beside f32 there is nothing to round.
    #[test]
    fn slopes_are_what_rounding_changes() {
        let mut near = [(0, 0); 2];
        for (element, seed) in (0..150).flat_map(|seed| [(ElementType::Bf16, seed), (ElementType::F32, seed)]) {
            let selection = Selection {
                elements: vec![element],
                domain: LAYERS.parse().unwrap(),
                ..Selection::default()
            };
            let spec = CaseSpec::from_seed(seed, &selection);
            if spec.special.is_some() || spec.tokens() * spec.hidden * spec.intermediate > 1 << 14 {
                continue;
            }
            let inputs = Inputs::new(&spec.build().unwrap());
            let roundings = Roundings::new(Precision::of(element), element);
            let definition = Definition::new(&inputs);
            let case = Case {
                inputs: &inputs,
                definition: &definition,
                roundings,
                rounds_operands: false,
            };
            let narrow = |value: f64| rounded(value, roundings.store);
            let mut of_weights = inputs.clone();
            of_weights.routing_weights.mapv_inplace(narrow);
            let mut of_biases = inputs.clone();
            let narrow_biases = |of: &mut Inputs| {
                of.gate_up_proj_bias.mapv_inplace(narrow);
                of.down_proj_bias.mapv_inplace(narrow);
            };
            narrow_biases(&mut of_biases);
            of_biases.shared.iter_mut().for_each(|shared| narrow_biases(shared));
            let changed = [
                (Direction::WeightsNarrowed, Definition::new(&of_weights).output),
                (Direction::BiasesNarrowed, Definition::new(&of_biases).output),
            ];
            for token in 0..inputs.dims.tokens {
                let mut slopes = Array2::zeros((Direction::ALL.len(), inputs.dims.hidden));
                add_narrowed(&mut slopes, &case, token);
                if element == ElementType::F32 {
                    assert!(slopes.iter().all(|slope| *slope == 0.0), "{spec}");
                    continue;
                }
                for ((direction, output), (near, all)) in changed.iter().zip(&mut near) {
                    let right = &output.row(token) - &definition.output.row(token);
                    for (slope, right) in slopes.row(*direction as usize).iter().zip(&right) {
                        // Where a result is its bias alone the slope leaves it out.
                        *near += usize::from((slope - right).abs() <= 1e-2 * right.abs() && *right != 0.0);
                        *all += usize::from(*right != 0.0);
                    }
                }
            }
        }
        let [(of_weights, weights), (of_biases, biases)] = near;
        assert!(weights > 1000 && of_weights * 100 >= weights * 99, "{near:?}");
        assert!(biases > 1000 && of_biases * 100 >= biases * 60, "{near:?}");
    }

    #[test]
    fn a_result_that_is_its_bias_says_nothing() {
        let bf16 = Rounding::BF16;
        // Between 1 and 2 the values of bf16 lie 2^-7 apart.
        assert_eq!(lost(1.001, 1.001, bf16), 0.0);
        assert_eq!(lost(1.001, 1.05, bf16), 0.0);
        assert_eq!(lost(1.001, 1.08, bf16), 1.0 - 1.001);
    }
}
