//! What each direction does to the output of a case.

use binned_experts_reference::{Activation, Dims, WeightOn};
use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Slice};

use super::Direction;
use super::case::{Case, rounded, step_at};
use super::narrowed::add_narrowed;
use crate::oracle::{ActivationFunction, Bounds, Expected, Rounding, Roundings, pairs};

/// The most multiply-adds that the slopes of a case take.
const WORK: usize = 1 << 19;
/// The most tokens of a case.
const MOST_TOKENS: usize = 32;
/// The relative step of a difference quotient. Its error is of the order of the square.
const STEP: f64 = 1.0 / (1 << 20) as f64;
/// Directions that change the activations: these come first among all.
const INNER: usize = Direction::OperandsCut as usize + 1;

/// The derivative of the output by each direction, at some tokens of a case and in units of the bound.
#[derive(Debug, Clone)]
pub(crate) struct Slopes {
    /// Token, and `[directions,H]`. What is not finite says nothing.
    pub(super) rows: Vec<(usize, Array2<f64>)>,
}

impl Slopes {
    /// At tokens that are spread evenly over those that some expert computes, as many as the work allows.
    pub(crate) fn new(expected: &Expected, bounds: &Bounds, roundings: Roundings) -> Slopes {
        let (inputs, definition) = (expected.inputs(), expected.definition());
        let Dims {
            tokens,
            hidden,
            intermediate,
            top_k,
            ..
        } = inputs.dims;
        let case = Case {
            inputs,
            definition,
            roundings,
            rounds_operands: roundings.operand != Rounding::NONE,
        };
        let is_kept = |token: &usize| definition.kept[token * top_k..][..top_k].contains(&true);
        let kept: Vec<usize> = (0..tokens)
            .filter(|token| inputs.shared.is_some() || is_kept(token))
            .collect();
        // A token without an element, or whose activations are none, takes no time.
        let of_shared = inputs.shared.as_ref().map_or(0, |shared| shared.dims.intermediate);
        let of_token = (top_k * intermediate + of_shared) * hidden * INNER;
        let most = WORK.checked_div(of_token).unwrap_or(MOST_TOKENS).min(MOST_TOKENS);
        // A factor on the sum that is rounded moves every output of every kernel to the same side.
        let scale = inputs.layer.scale;
        let most = if rounded(scale, roundings.store) == scale {
            most
        } else {
            0
        };
        let count = kept.len().min(most);
        let rows = (0..count).map(|at| kept[at * kept.len() / count]);
        let slopes = |token: usize| (token, case.slopes(token) / bounds.output.row(token));
        Slopes {
            rows: rows.map(slopes).collect(),
        }
    }
}

impl Case<'_> {
    /// `[directions,H]`.
    fn slopes(&self, token: usize) -> Array2<f64> {
        let Dims { hidden, top_k, .. } = self.inputs.dims;
        let mut slopes = Array2::zeros((Direction::ALL.len(), hidden));
        for flat in (token * top_k..(token + 1) * top_k).filter(|flat| self.definition.kept[*flat]) {
            let weight = self.inputs.output_weight(flat) * self.inputs.layer.scale;
            self.add_row(&mut slopes, flat, weight);
        }
        let output = self.definition.output.row(token);
        let mut weighted = output.to_owned();
        if let Some(shared) = self.shared() {
            shared.add_row(&mut slopes, token, 1.0);
            weighted -= &shared.definition.expert_output.row(token);
        }
        // A weight on what goes into an expert is no factor of what comes out.
        if self.inputs.layer.weight_on == WeightOn::Output {
            slopes.row_mut(Direction::Weights as usize).assign(&weighted);
        }
        // What is lost of an output that is wide is nothing beside what was rounded before.
        if self.roundings.wide_of(self.inputs.layer.output_type).is_none() {
            let cut = output.mapv(|value| cut(value, self.roundings.store));
            slopes.row_mut(Direction::OutputCut as usize).assign(&cut);
        }
        add_narrowed(&mut slopes, self, token);
        slopes
    }

    /// Adds what changes the row of an assignment, times a weight.
    fn add_row(&self, slopes: &mut Array2<f64>, flat: usize, weight: f64) {
        let (_, _, expert) = self.inputs.assignment(flat);
        let down = self.inputs.down_proj.index_axis(Axis(0), expert);
        let changed = self.activations(flat).dot(&down);
        slopes
            .slice_axis_mut(Axis(0), Slice::from(..INNER))
            .scaled_add(weight, &changed);
        let bias = self.inputs.down_proj_bias.row(expert);
        slopes.row_mut(Direction::Biases as usize).scaled_add(weight, &bias);
        if self.rounds_operands {
            let cuts = product_of_cuts(self.definition.activated.row(flat), down, self.roundings.operand);
            slopes
                .row_mut(Direction::OperandsCut as usize)
                .scaled_add(weight, &cuts);
        }
    }

    /// How the activations of an assignment change in each of the first directions, `[INNER,I]`.
    fn activations(&self, flat: usize) -> Array2<f64> {
        let (_, _, expert) = self.inputs.assignment(flat);
        let Activation { alpha, limit } = self.inputs.activation;
        let store = self.roundings.store;
        // Where the limit is none of the element type's values, a kernel may round it.
        let limit_step = if rounded(limit, store) == limit { STEP } else { 0.0 };
        let bias = self.inputs.gate_up_proj_bias.row(expert);
        let operands = self.rounds_operands.then(|| {
            let matrix = self.inputs.gate_up_proj.index_axis(Axis(0), expert);
            let x = self.inputs.expert_input(flat);
            let cuts = product_of_cuts(x.view(), matrix, self.roundings.operand);
            x.mapv(|x| cut(x, self.roundings.operand)).dot(&matrix) + cuts
        });
        // An activation is stored, and an operand of the second product.
        let operand = self.roundings.operand;
        let kept = if operand.unit > store.unit { operand } else { store };
        let short = short_of(kept);
        let mut changes = Array2::zeros((INNER, self.inputs.dims.intermediate));
        let kind = self.inputs.layer.activation;
        // Those of the function as it is, and with alpha and limit a step higher and lower.
        let function = |alphas: f64, limits: f64| {
            let (alpha, limit) = (alpha + alphas, limit + limits);
            ActivationFunction::new(kind, Activation { alpha, limit })
        };
        let (plain, alphas, limits) = (
            function(0.0, 0.0),
            [1.0, -1.0].map(|sign| function(sign * STEP * alpha, 0.0)),
            [1.0, -1.0].map(|sign| function(0.0, sign * limit_step * limit)),
        );
        let quotient = |above: f64, below: f64| (above - below) / (2.0 * STEP);
        let gates_and_ups = Vec::from_iter(pairs(kind, self.definition.gate_up.row(flat)));
        let biases = Vec::from_iter(pairs(kind, bias));
        let operands = operands.map(|operands| Vec::from_iter(pairs(kind, &operands)));
        for (i, mut change) in changes.columns_mut().into_iter().enumerate() {
            let (gate, up) = gates_and_ups[i];
            let value = self.definition.activated[[flat, i]];
            let of = |function: &ActivationFunction| function.value(gate, up);
            // Along a change of gate and up.
            let along = |gates: f64, ups: f64| {
                let at = |sign: f64| plain.value(gate + sign * STEP * gates, up + sign * STEP * ups);
                quotient(at(1.0), at(-1.0))
            };
            let (gate_bias, up_bias) = biases[i];
            change[Direction::Alpha as usize] = quotient(of(&alphas[0]), of(&alphas[1]));
            change[Direction::Limit as usize] = quotient(of(&limits[0]), of(&limits[1]));
            change[Direction::Sigmoid as usize] = if plain.has_sigmoid() { value } else { 0.0 };
            change[Direction::Biases as usize] = along(gate_bias, up_bias);
            change[Direction::ActivationCut as usize] = cut(value, kept);
            let stored = rounded(value, kept);
            change[Direction::ActivationShort as usize] = rounded(stored, short) - stored;
            if let Some(operands) = &operands {
                let (gates, ups) = operands[i];
                change[Direction::OperandsCut as usize] = along(gates, ups) + cut(value, operand);
            }
        }
        changes
    }
}

/// The rounding to fewer bits: two less in 16 bits; four less in more, where sums move the last bits.
fn short_of(store: Rounding) -> Rounding {
    let factor = if store.unit < Rounding::F16.unit { 16.0 } else { 4.0 };
    Rounding {
        unit: factor * store.unit,
        step: factor * store.step,
    }
}

/// x · (what cutting does to a matrix).
fn product_of_cuts(x: ArrayView1<f64>, matrix: ArrayView2<f64>, rounding: Rounding) -> Array1<f64> {
    let mut sums = Array1::zeros(matrix.ncols());
    for (&x, row) in x.iter().zip(matrix.rows()) {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += x * cut(value, rounding);
        }
    }
    sums
}

/// What cutting does to a value on average: half a step towards 0, and nothing to a value that the rounding keeps.
fn cut(value: f64, rounding: Rounding) -> f64 {
    if rounded(value, rounding) == value {
        return 0.0;
    }
    -(0.5 * step_at(value, rounding)).copysign(value)
}

#[cfg(test)]
mod by_hand;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CaseSpec;
    use crate::case::{ElementType, ValueProfile};
    use crate::generate::Selection;
    use crate::oracle::{Definition, Inputs, Precision};

    /// The derivative of the output by a parameter that `change` multiplies by a factor, in units of the bound.
    fn derivative(inputs: &Inputs, bounds: &Bounds, change: impl Fn(&mut Inputs, f64)) -> Array2<f64> {
        let output = |factor: f64| {
            let mut changed = inputs.clone();
            change(&mut changed, factor);
            Definition::new(&changed).output
        };
        const STEP: f64 = 1e-5;
        (output(1.0 + STEP) - output(1.0 - STEP)) / (2.0 * STEP) / &bounds.output
    }

    #[test]
    fn slopes_are_derivatives_of_the_definition() {
        near_derivatives("");
    }

    #[test]
    fn slopes_are_derivatives_where_there_are_shared_experts() {
        near_derivatives("layers = [{ shared_experts = 2, scale = 0.5 }]");
    }

    type Change = fn(&mut Inputs, f64);

    /// Changes the experts, and the shared ones.
    fn change_all(inputs: &mut Inputs, change: impl Fn(&mut Inputs)) {
        change(inputs);
        inputs.shared.iter_mut().for_each(|shared| change(shared));
    }

    #[track_caller]
    fn near_derivatives(domain: &str) {
        let selection = Selection {
            elements: vec![ElementType::F32],
            // A difference of outputs says nothing of a slope that is small beside them.
            values: vec![ValueProfile::Gentle],
            domain: domain.parse().unwrap(),
            ..Selection::default()
        };
        let changes: [(Direction, Change); 5] = [
            (Direction::Alpha, |inputs, factor| {
                change_all(inputs, |inputs| inputs.activation.alpha *= factor)
            }),
            (Direction::Limit, |inputs, factor| {
                change_all(inputs, |inputs| inputs.activation.limit *= factor)
            }),
            // A factor on the activations is one on the second matrix.
            (Direction::Sigmoid, |inputs, factor| {
                change_all(inputs, |inputs| inputs.down_proj *= factor)
            }),
            (Direction::Biases, |inputs, factor| {
                change_all(inputs, |inputs| {
                    inputs.gate_up_proj_bias *= factor;
                    inputs.down_proj_bias *= factor;
                })
            }),
            (Direction::Weights, |inputs, factor| inputs.routing_weights *= factor),
        ];
        // By direction, the rows whose slopes are all near, and all rows.
        let mut rows = [(0, 0); Direction::ALL.len()];
        for seed in 0..200 {
            let spec = CaseSpec::from_seed(seed, &selection);
            if spec.special.is_some() || spec.limit.is_infinite() {
                continue;
            }
            let problem = spec.build().unwrap();
            let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), problem.element());
            let roundings = Roundings::new(Precision::FP32, ElementType::F32);
            let bounds = Bounds::new(expected.inputs(), expected.definition(), roundings);
            let slopes = Slopes::new(&expected, &bounds, roundings);
            for (direction, change) in changes {
                let right = derivative(expected.inputs(), &bounds, change);
                for (token, found) in &slopes.rows {
                    let (found, right) = (found.row(direction as usize), right.row(*token));
                    let largest = right.iter().fold(0.0, |largest: f64, slope| largest.max(slope.abs()));
                    // A value at a clamp has two derivatives, and a large one is far from straight.
                    let near = |(found, right): (&f64, &f64)| (found - right).abs() <= 1e-3 * largest;
                    if right.iter().all(|slope| slope.is_finite()) && largest > 0.0 {
                        let (right_rows, all) = &mut rows[direction as usize];
                        *right_rows += usize::from(found.iter().zip(right).all(near));
                        *all += 1;
                    }
                }
            }
        }
        for (direction, _) in changes {
            let (right, all) = rows[direction as usize];
            assert!(all >= 50 && right * 100 >= all * 95, "{direction}: {right} of {all}");
        }
    }

    #[test]
    fn cutting_takes_half_a_step_from_what_is_not_kept() {
        let bf16 = Rounding::BF16;
        // Between 1 and 2 the values of bf16 lie 2^-7 apart.
        assert_eq!((cut(1.1, bf16), cut(-1.1, bf16)), (-0.00390625, 0.00390625));
        assert_eq!((cut(3.0, bf16), cut(0.0, bf16)), (0.0, 0.0));
        assert_eq!((rounded(0.0, Rounding::NONE), rounded(0.1, Rounding::NONE)), (0.0, 0.1));
        assert_eq!((rounded(1.1, bf16), rounded(-0.0, bf16)), (1.1015625, 0.0));
        assert_eq!(rounded(rounded(1.1, bf16), short_of(bf16)), 1.09375);
        assert_eq!(short_of(Rounding::F32).unit, 16.0 * Rounding::F32.unit);
        assert!(rounded(f64::INFINITY, bf16).is_infinite() && rounded(f64::NAN, bf16).is_nan());
    }
}
