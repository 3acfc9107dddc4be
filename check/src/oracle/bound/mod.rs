//! How far a right result may be from the exact one.
//!
//! A bound is computed for every element of every stage, from the f64 values of the
//! [`Definition`] and from the roundings that engines of one precision make ([`Roundings`]).
//!
//! # Derivation
//!
//! Let u be a unit roundoff. A floating-point sum of n products a·b commits, at step i, an error of at most u·|s_i|,
//! where s_i is the partial sum, and one of u·|a·b| for the product. Rounding errors behave like independent random
//! variables of mean zero (Higham & Mary, *A new approach to probabilistic rounding error analysis*, 2019), so their
//! sum stays within λ times the root of the sum of their squares:
//!
//! λ · u · sqrt(Σ s_i²).
//!
//! An engine may add in any order, so s_i is that of a random order: a share i/n of the final sum S, and a random
//! fluctuation of at most the size of r = sqrt(Σ a²b²). Hence |s_i| ≤ |S| + r up to a constant that λ holds, and
//!
//! **product**: λ · u · sqrt(n) · (|S| + r).
//!
//! The term in |S| covers one-sided data, whose partial sums grow steadily; r is all there is for data of random
//! sign. The textbook bound has Σ|a·b| in place of r, a factor sqrt(n) more, and would accept inputs rounded to TF32.
//! For n ≤ λ² the bound holds for every order, not only with high probability. Independence fails where a sum repeats
//! one inexact term many times: its errors then have one sign. The generator draws no such data; where a case from
//! elsewhere is of that kind, an error of a few times the bound is not yet a bug.
//!
//! **Operands.** An engine that rounds its operands (TF32 on f32 data) adds two errors of relative size u_operand to
//! each product: u_operand · (λ · sqrt(2) · r + 2·|S|). The term in |S| covers equal operands, whose errors are equal
//! too. With a smallest step t the absolute errors λ · t · sqrt(Σa² + Σb²) are added.
//!
//! **Cut operands.** An engine may cut its operands in place of rounding them, as tensor cores do with f32. Each product
//! then shrinks by a relative 0 to 4·u_operand: by a part c that all have in common, and by a random rest no larger than
//! that of rounding. Two operands whose significands are spread evenly lose 2·ln 2 · u on average, so c is at most
//! 1.5·u_operand. The first product's c·S has a sign, and so has what follows from it: with S_g and S_u the sums of gate
//! and up, the activation changes by −c · (f'(g)·(up + 1)·S_g + f(g)·S_u) = −c·s, and the expert's row by −c·P,
//! P = Σ s·d, besides the shift −c·S of the second product itself. These are carried beside the other errors: of each
//! error the part 1.5·u_operand·|s| is taken out of root and sum, and 1.5·u_operand·|Σ shift| is added, over the terms of
//! the second product, and over those of the slots for each of the two products, whose c may differ. Weights of either
//! sign would hide it in a sum of errors without signs.
//!
//! **Stored results.** Each result that PyTorch stores, of a product and of the bias added to it, is rounded to the
//! element type: u_store · |value|, not random, once each.
//!
//! **Weight on the input.** Where the routing weight is multiplied with what goes into an expert, the product is stored:
//! u_store · |w·x| for each feature, an error of the first product's operand as those of the activations are of the
//! second's. It is a single rounding, so the root has λ.
//!
//! **Activation.** An activation is f(g) · F(u): f is that of the files in `oracle/activation`, F is up + 1 for the clamped
//! SwiGLU, up for the others, 1 where there are no ups. |δa| ≤ |F|·δf + |f|·δu + δf·δu as below, with F in place of
//! up + 1. Of each f the largest slope and the most by which its slope changes are known: δf ≤ δg · min(steepest, |f'| +
//! bend·δg). For g·Φ(g) these are 1.13 and 0.4, with Φ by erf or by tanh. 1 + erf and 1 + tanh cancel below zero, which
//! leaves an absolute error of 4·u_accumulate in Φ, up to the gate from which both are exactly 0. For max(g, 0)² the
//! values at both ends of g ± δg are known, and the square is rounded once or twice.
//!
//! With f(g) = g·σ(αg) and errors δg, δu of gate and up (no larger than what the clamps leave of them),
//! |δa| ≤ |up + 1|·δf + |f|·δu + δf·δu, where δf = δg · min(1.1, |f'(g)| + |α|·δg/2): the slope of f nowhere exceeds
//! 1.1, and changes by at most |α|/2. Where αg ≤ −2 for every g within δg, |f| and σ fall with αg, so δf is at most
//! what |f| at one end differs from |f|. The evaluation itself adds (8 + 4·|αg|·(1 − σ)) · u_store · |a|: a few
//! roundings, and those of αg magnified by the exponential; and where exp overflows, σ is 0 instead of 2^-126, or
//! instead of at most 2·σ at that upper end.
//!
//! **Second product.** The errors δa_i of its operands are independent unless the data make them equal: their
//! effect is sqrt(Σ δa²d²) + |Σ δa·d|, where the second term covers one-sided weights. The activation's own
//! evaluation can err to the same side for all i, which adds 8 · u_store · |S|. The root needs no λ, since each δa_i is
//! the sum of several roundings, of which an engine shows a part; with `fused` and `flush` it is a single one, and has λ.
//!
//! **Combination.** The same again over the K slots, with the routing weights as exact factors. Slots of one expert have the
//! same row with the same errors, unless an engine computes it more than once: in the root, |Σ δ·w| over them takes the
//! place of sqrt(Σ δ²w²) where it is larger. A factor on the sum multiplies the bound. An engine rounds the sum, the
//! product and the factor, or the weights times the factor in place of them: 3 · u_store · |value|, or
//! λ · u_store · |factor| · r.
//!
//! **Shared experts.** Their row has the bound of an expert's row. It is added to the sum over the slots, so that the
//! bounds of both add up, and what is added is stored: u_store · |value|. An engine may add the slots to it one by one;
//! each partial sum then has it as well, which adds λ · u · sqrt(K + 1) · |shared|.
//!
//! **Wide types.** A bias of a wide type is an exact term like any other, and its sum with the product is rounded to the
//! element type. Beside a wide routing weight PyTorch rounds the product of a row and the weight to the wide type; serving
//! kernels round it to the element type, in place of the row. Both are right, so the products have the same term as beside a
//! weight of the element type. An engine that rounds the weight itself has no term of its own.
//!
//! The output is rounded to its own type. An engine that rounds a wide output to the element type on the way returns fewer
//! bits than it was asked for, and has no term either. Whether an element shows it depends on the room that the roundings
//! before it have; where the rows are exact it does. Since products that are rounded to the element type overflow near its
//! largest value, any result is right there, although a wide sum goes on.
//!
//! # Modifiers
//!
//! What an engine does in another way than its preset says changes a rounding, or adds one:
//!
//! - `slots-in-element`: each step of the sum over the K slots is rounded to the element type, which adds
//!   λ · u_store · sqrt(K) · (|S| + r).
//! - `partials-in-element`: p parts of a product, p ≤ 16, are rounded to the element type, and may be added up in it.
//!   That is a sum of p steps in the element type: λ · u_store · sqrt(p) · (|S| + r), p at most the number of terms.
//! - `sums-in-element`: the accumulator's u is u_store. From n·u = 1 on, a term may be below half a step of the partial
//!   sum and lost whole, as are its neighbours: their errors have one sign, so the bound is multiplied by n·u.
//! - `absolute-sigmoid`: tanh(z/2)/2 + 1/2 has an error of 2·u from tanh, u from the half and u from the sum. The
//!   sigmoid's error is 4·u_store at least, however small it is.
//! - `fused`: what is stored between operands and output is rounded as the accumulator is; the activation is rounded to
//!   the element type once, as an operand.
//! - `flush`: the smallest normal value takes the place of each smallest step. What is lost has the sign of the value,
//!   so it adds up: |a·b| for each operand that may be below it, and 2·n steps for n products and sums. Times an infinity
//!   it is NaN in place of an infinity, so that any result is right.
//!
//! # Where nothing is rounded
//!
//! A bound is exactly 0 where the exact value is one that is stored, and no order of summation rounds on the way to it.
//! Let q be a power of two that all terms of a sum are multiples of. Every partial sum is then a multiple of q, of a
//! magnitude of at most Σ|term|; where that is at most 2^b · q, b the significant bits of the accumulator, and q at least
//! its smallest step, every partial sum is a value of the accumulator, and so is every term. The bias is a term like the
//! products, since some engines begin with it. The quantum of a product is that of its factors multiplied, each its
//! lowest bit. The bound is 0 where besides
//!
//! - the terms carry no error: their factors are inputs, or have a bound of 0;
//! - rounding the operands leaves them as they are;
//! - each stored result is one of its type: the sum and the sum with its bias; over the slots, each row times its weight,
//!   which is to be one of the element type beside a wide weight too, and the sum, with and without the row of shared
//!   experts;
//! - the row of the first factor has few quanta, Σ|x| ≤ 2^11 · q_x. This is not needed, but tells at once that most rows
//!   cannot be exact. It also lets an engine emulate products of f32 by tensor cores: x is then one operand of TF32, and
//!   no product of low parts is left out.
//!
//! The activation is exactly 0 where its gate is exactly 0, or up is exactly −1, and the other is finite: each engine has
//! 0 as a factor. +0 and −0 are equal in a comparison.
//!
//! # Special values
//!
//! NaN and infinities must be in the same places. The bound of such an element is 0: its value must be met exactly.
//! Near overflow the order of a sum decides: where the positive or the negative terms of a sum can together pass the
//! largest finite value, finite, infinite and NaN results are all right. The bound of such an element is +∞, and so is
//! that of everything computed from it. These elements are counted apart.

mod activation;
mod affine;
mod combination;
mod exact;
#[cfg(test)]
mod modifier_tests;
mod shift;
mod terms;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod type_tests;

use binned_experts_reference::WeightOn;
use ndarray::{Array2, Axis};

use self::activation::{EVALUATION, activation_bound};
use self::affine::Affine;
use self::combination::{Slot, SumRoundings, bound_with_shared, scaled_bound};
pub(super) use self::shift::Shift;
use super::{ActivationFunction, Definition, Inputs, Roundings, pairs};
use crate::case::stage::Stage;

/// Number of standard deviations that a sum of rounding errors may reach.
const LAMBDA: f64 = 3.0;

/// How far a right result may be from the definition's, for each element of each stage; +∞ where any result is right.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// `[T·K,2I]`, or `[T·K,I]`.
    pub gate_up: Array2<f64>,
    /// `[T·K,I]`.
    pub activated: Array2<f64>,
    /// `[T·K,H]`.
    pub expert_output: Array2<f64>,
    /// `[T,H]`.
    pub output: Array2<f64>,
    /// Those of the shared experts, with a row for each token; that of the output is not used.
    pub shared: Option<Box<Bounds>>,
}

impl Bounds {
    /// The bounds of a stage, with a row for each assignment (for the output: for each token); none if the stage must
    /// be met exactly.
    pub fn of(&self, stage: Stage) -> Option<&Array2<f64>> {
        match stage {
            Stage::GateUp => Some(&self.gate_up),
            Stage::Activated => Some(&self.activated),
            Stage::ExpertOutput => Some(&self.expert_output),
            Stage::Output => Some(&self.output),
            Stage::SortedIndices | Stage::Bins | Stage::SelectedWeights | Stage::Gathered => None,
        }
    }

    /// Bounds for engines of one precision.
    pub fn new(inputs: &Inputs, definition: &Definition, roundings: Roundings) -> Bounds {
        let (mut bounds, shifts) = Bounds::of_rows(inputs, definition, roundings);
        bounds.combine(inputs, definition, roundings, &shifts);
        bounds
    }

    /// Those of the assignments, and the shift of the results of each. Those of the output are 0.
    pub(super) fn of_rows(
        inputs: &Inputs,
        definition: &Definition,
        roundings: Roundings,
    ) -> (Bounds, Vec<Option<Shift>>) {
        let mut bounds = Bounds::zeros(definition);
        let activation = ActivationFunction::new(inputs.layer.activation, inputs.activation);
        let shifts = (0..definition.kept.len()).map(|flat| {
            let is_kept = definition.kept[flat];
            is_kept.then(|| bounds.bound_assignment(inputs, definition, &activation, roundings, flat))?
        });
        let shifts = shifts.collect();
        if let (Some(inputs), Some(definition)) = (&inputs.shared, &definition.shared) {
            bounds.shared = Some(Box::new(Bounds::of_rows(inputs, definition, roundings).0));
        }
        (bounds, shifts)
    }

    pub(super) fn zeros(definition: &Definition) -> Bounds {
        Bounds {
            gate_up: Array2::zeros(definition.gate_up.raw_dim()),
            activated: Array2::zeros(definition.activated.raw_dim()),
            expert_output: Array2::zeros(definition.expert_output.raw_dim()),
            output: Array2::zeros(definition.output.raw_dim()),
            shared: definition
                .shared
                .as_deref()
                .map(|shared| Box::new(Bounds::zeros(shared))),
        }
    }

    /// Bounds the output by the bounds of the assignments.
    pub(super) fn combine(
        &mut self,
        inputs: &Inputs,
        definition: &Definition,
        roundings: Roundings,
        shifts: &[Option<Shift>],
    ) {
        for token in 0..inputs.dims.tokens {
            self.bound_output(inputs, definition, roundings, shifts, token);
        }
    }

    /// Returns the shift of the results, where operands are rounded.
    fn bound_assignment(
        &mut self,
        inputs: &Inputs,
        definition: &Definition,
        activation: &ActivationFunction,
        roundings: Roundings,
        flat: usize,
    ) -> Option<Shift> {
        let (_, _, expert) = inputs.assignment(flat);
        let input = inputs.expert_input(flat);
        let input_error = match inputs.layer.weight_on {
            WeightOn::Output => None,
            WeightOn::Input => Some(input.mapv(|value| weighted_error(value, roundings))),
        };
        let mut gate_up = self.gate_up.row_mut(flat);
        Affine {
            x: input.view(),
            error: input_error.as_ref().map(|error| error.view()),
            matrix: inputs.gate_up_proj.index_axis(Axis(0), expert),
            bias: inputs.gate_up_proj_bias.row(expert),
            value: definition.gate_up.row(flat),
            // Each error is a single rounding.
            spread: LAMBDA,
            systematic: 0.0,
            shift: None,
            roundings,
        }
        .bound(gate_up.view_mut());

        let mut activated = self.activated.row_mut(flat);
        let (value, error) = (definition.gate_up.row(flat), gate_up.view());
        let kind = inputs.layer.activation;
        let of_each = pairs(kind, value)
            .zip(pairs(kind, error))
            .zip(definition.activated.row(flat));
        for (bound, (((gate, up), (gate_error, up_error)), &value)) in activated.iter_mut().zip(of_each) {
            *bound = activation_bound((gate, gate_error), (up, up_error), value, activation, roundings);
        }

        let shift = Shift::new(inputs, definition, activation, roundings, activated.view(), flat);
        Affine {
            x: definition.activated.row(flat),
            error: Some(activated.view()),
            matrix: inputs.down_proj.index_axis(Axis(0), expert),
            bias: inputs.down_proj_bias.row(expert),
            value: definition.expert_output.row(flat),
            spread: roundings.spread(),
            systematic: EVALUATION * roundings.between.unit,
            shift: shift.as_ref(),
            roundings,
        }
        .bound(self.expert_output.row_mut(flat));
        shift
    }

    fn bound_output(
        &mut self,
        inputs: &Inputs,
        definition: &Definition,
        roundings: Roundings,
        shifts: &[Option<Shift>],
        token: usize,
    ) {
        let top_k = inputs.dims.top_k;
        let mut slots: Vec<(usize, usize, f64)> = (0..top_k)
            .map(|slot| token * top_k + slot)
            .filter(|flat| definition.kept[*flat])
            .map(|flat| (inputs.assignment(flat).2, flat, inputs.output_weight(flat)))
            .collect();
        slots.sort_by_key(|(expert, ..)| *expert);
        let shared = definition.shared.as_deref().zip(self.shared.as_deref());
        if slots.is_empty() && shared.is_none() {
            // A token whose assignments are all dropped is exactly zero.
            return;
        }
        let mut terms = Vec::with_capacity(slots.len());
        let sum = SumRoundings::new(roundings, &inputs.layer);
        for (column, bound) in self.output.row_mut(token).iter_mut().enumerate() {
            terms.clear();
            terms.extend(slots.iter().map(|&(expert, flat, weight)| {
                let value = definition.expert_output[[flat, column]];
                let error = self.expert_output[[flat, column]];
                let product = value - inputs.down_proj_bias[[expert, column]];
                let shift = shifts[flat].as_ref().filter(|_| 0.0 < error && error < f64::INFINITY);
                Slot {
                    expert,
                    value,
                    error,
                    weight,
                    shifts: shift.map_or([0.0; 2], |shift| [shift.expert_output[column], product]),
                }
            }));
            let (value, scale) = (definition.output[[token, column]], inputs.layer.scale);
            *bound = match shared {
                None => scaled_bound(&terms, value, scale, sum),
                Some((definition, bounds)) => {
                    let at = [token, column];
                    bound_with_shared(
                        &terms,
                        (definition.expert_output[at], bounds.expert_output[at]),
                        value,
                        scale,
                        sum,
                    )
                }
            };
        }
    }
}

/// The error of a stored product of a feature and the routing weight; 0 where it is one of the values of the type.
fn weighted_error(value: f64, roundings: Roundings) -> f64 {
    let Roundings {
        between,
        activated,
        max,
        ..
    } = roundings;
    if !value.is_finite() {
        0.0
    } else if value.abs() > 0.5 * max {
        // Whether it overflows is open, however few bits it has.
        f64::INFINITY
    } else if between.represents(value) && activated.represents(value) {
        0.0
    } else {
        between.error(value) + activated.error(value)
    }
}
