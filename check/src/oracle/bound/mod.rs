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
//! **Stored results.** Each result that PyTorch stores, of a product and of the bias added to it, is rounded to the
//! element type: u_store · |value|, not random, once each.
//!
//! **Activation.** With f(g) = g·σ(αg) and errors δg, δu of gate and up (no larger than what the clamps leave of them),
//! |δa| ≤ |up + 1|·δf + |f|·δu + δf·δu, where δf = δg · min(1.1, |f'(g)| + |α|·δg/2): the slope of f nowhere exceeds
//! 1.1, and changes by at most |α|/2. Where αg ≤ −2 for every g within δg, |f| and σ fall with αg, so δf is at most
//! what |f| at one end differs from |f|. The evaluation itself adds (8 + 4·|αg|·(1 − σ)) · u_store · |a|: a few
//! roundings, and those of αg magnified by the exponential; and where exp overflows, σ is 0 instead of 2^-126, or
//! instead of at most 2·σ at that upper end.
//!
//! **Second product.** The errors δa_i of its operands are independent unless the data make them equal: their
//! effect is sqrt(Σ δa²d²) + |Σ δa·d|, where the second term covers one-sided weights. The activation's own
//! evaluation can err to the same side for all i, which adds 8 · u_store · |S|.
//!
//! **Combination.** The same again over the K slots, with the routing weights as exact factors.
//!
//! # Special values
//!
//! NaN and infinities must be in the same places. The bound of such an element is 0: its value must be met exactly.
//! Near overflow the order of a sum decides: where the positive or the negative terms of a sum can together pass the
//! largest finite value, finite, infinite and NaN results are all right. The bound of such an element is +∞, and so is
//! that of everything computed from it. These elements are counted apart.

mod activation;
#[cfg(test)]
mod tests;

use binned_experts_reference::Dims;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};

use self::activation::{EVALUATION, swiglu_bound};
use super::{Definition, Inputs, Rounding, Roundings};
use crate::stage::Stage;

/// Number of standard deviations that a sum of rounding errors may reach.
const LAMBDA: f64 = 3.0;

/// How far a right result may be from the definition's, for each element of each stage; +∞ where any result is right.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// `[T·K,2I]`.
    pub gate_up: Array2<f64>,
    /// `[T·K,I]`.
    pub activated: Array2<f64>,
    /// `[T·K,H]`.
    pub expert_output: Array2<f64>,
    /// `[T,H]`.
    pub output: Array2<f64>,
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
        let Dims {
            tokens, hidden, top_k, ..
        } = inputs.dims;
        let mut bounds = Bounds {
            gate_up: Array2::zeros(definition.gate_up.raw_dim()),
            activated: Array2::zeros(definition.activated.raw_dim()),
            expert_output: Array2::zeros(definition.expert_output.raw_dim()),
            output: Array2::zeros((tokens, hidden)),
        };
        for flat in (0..tokens * top_k).filter(|flat| definition.kept[*flat]) {
            bounds.bound_assignment(inputs, definition, roundings, flat);
        }
        for token in 0..tokens {
            bounds.bound_output(inputs, definition, roundings, token);
        }
        bounds
    }

    fn bound_assignment(&mut self, inputs: &Inputs, definition: &Definition, roundings: Roundings, flat: usize) {
        let (token, _, expert) = inputs.assignment(flat);
        let exact = vec![0.0; inputs.dims.hidden];
        let mut gate_up = self.gate_up.row_mut(flat);
        Affine {
            x: inputs.hidden_states.row(token),
            error: ArrayView1::from(&exact),
            matrix: inputs.gate_up_proj.index_axis(Axis(0), expert),
            bias: inputs.gate_up_proj_bias.row(expert),
            value: definition.gate_up.row(flat),
            systematic: 0.0,
            roundings,
        }
        .bound(gate_up.view_mut());

        let mut activated = self.activated.row_mut(flat);
        let (value, error) = (definition.gate_up.row(flat), gate_up.view());
        for (i, bound) in activated.iter_mut().enumerate() {
            let gate = (value[2 * i], error[2 * i]);
            let up = (value[2 * i + 1], error[2 * i + 1]);
            *bound = swiglu_bound(gate, up, definition.activated[[flat, i]], inputs.activation, roundings);
        }

        Affine {
            x: definition.activated.row(flat),
            error: activated.view(),
            matrix: inputs.down_proj.index_axis(Axis(0), expert),
            bias: inputs.down_proj_bias.row(expert),
            value: definition.expert_output.row(flat),
            systematic: EVALUATION * roundings.store.unit,
            roundings,
        }
        .bound(self.expert_output.row_mut(flat));
    }

    fn bound_output(&mut self, inputs: &Inputs, definition: &Definition, roundings: Roundings, token: usize) {
        let top_k = inputs.dims.top_k;
        let slots: Vec<(usize, f64)> = (0..top_k)
            .map(|slot| {
                (
                    token * top_k + slot,
                    inputs.routing_weights[[token, inputs.router_indices[[token, slot]]]],
                )
            })
            .filter(|(flat, _)| definition.kept[*flat])
            .collect();
        if slots.is_empty() {
            // A token whose assignments are all dropped is exactly zero.
            return;
        }
        for (column, bound) in self.output.row_mut(token).iter_mut().enumerate() {
            let mut terms = Terms::default();
            for &(flat, weight) in &slots {
                terms.add(
                    definition.expert_output[[flat, column]],
                    self.expert_output[[flat, column]],
                    weight,
                );
            }
            let value = definition.output[[token, column]];
            let products = LAMBDA.min((slots.len() as f64).sqrt()) * roundings.store.unit * terms.root;
            let stored = products + slots.len() as f64 * roundings.store.step + roundings.store.error(value);
            *bound = terms.bound(value, slots.len(), stored, roundings);
        }
    }
}

/// One row of a product with its bias: value = x · matrix + bias, x known up to `error`.
struct Affine<'a> {
    x: ArrayView1<'a, f64>,
    error: ArrayView1<'a, f64>,
    matrix: ArrayView2<'a, f64>,
    bias: ArrayView1<'a, f64>,
    value: ArrayView1<'a, f64>,
    /// Relative error that all of x may have in common.
    systematic: f64,
    roundings: Roundings,
}

impl Affine<'_> {
    fn bound(&self, mut bounds: ArrayViewMut1<f64>) {
        if self.error.iter().any(|error| *error == f64::INFINITY) {
            bounds.fill(f64::INFINITY);
            return;
        }
        let mut columns = Columns::new(self.bias.len());
        let propagates = self.error.iter().any(|error| *error != 0.0);
        for ((&x, &error), row) in self.x.iter().zip(&self.error).zip(self.matrix.rows()) {
            columns.add_products(x, row);
            if propagates {
                columns.add_propagated(error, row);
            }
        }
        for (column, bound) in bounds.iter_mut().enumerate() {
            let sums = columns.at(column);
            *bound = if self.is_plain(column, &sums) {
                self.finite(column, &sums)
            } else {
                self.special(column)
            };
        }
    }

    /// Whether all terms and all partial sums are finite.
    fn is_plain(&self, column: usize, sums: &Sums) -> bool {
        let terms = (self.x.len() as f64).sqrt() * (sums.square_sum.sqrt() + sums.error_square_sum.sqrt());
        self.value[column].is_finite() && terms + self.bias[column].abs() <= 0.5 * self.roundings.max
    }

    fn finite(&self, column: usize, sums: &Sums) -> f64 {
        let Roundings { operand, store, .. } = self.roundings;
        let value = self.value[column];
        let sum = value - self.bias[column];
        let root = sums.square_sum.sqrt();
        let propagated = sums.error_square_sum.sqrt() + sums.error_sum.abs() + self.systematic * sum.abs();
        let operands = operand_error(operand, sum, root) + LAMBDA * operand.step * self.operand_norm(column);
        let stored = store.error(sum) + store.error(value);
        propagated + product_error(self.x.len() + 1, value, sum, root, self.roundings) + operands + stored
    }

    /// The norm of both operands together; needed only if they are rounded.
    fn operand_norm(&self, column: usize) -> f64 {
        if self.roundings.operand.step == 0.0 {
            return 0.0;
        }
        let square = |value: &f64| value * value;
        let norm = self.x.iter().map(square).sum::<f64>() + self.matrix.column(column).iter().map(square).sum::<f64>();
        norm.sqrt()
    }

    /// Term by term, where values are not finite or sums can overflow.
    fn special(&self, column: usize) -> f64 {
        let mut terms = Terms::default();
        for ((&x, &error), &weight) in self.x.iter().zip(&self.error).zip(self.matrix.column(column)) {
            terms.add(x, error, weight);
        }
        terms.add(self.bias[column], 0.0, 1.0);
        let value = self.value[column];
        let sum = value - self.bias[column];
        let stored = self.roundings.store.error(sum) + self.roundings.store.error(value);
        let operands = operand_error(self.roundings.operand, sum, terms.root);
        terms.bound(
            value,
            self.x.len() + 1,
            stored + operands + self.systematic * sum.abs(),
            self.roundings,
        )
    }
}

/// The sums that a column's bound is made of.
struct Sums {
    square_sum: f64,
    error_square_sum: f64,
    error_sum: f64,
}

/// [`Sums`] for all columns of a product.
struct Columns {
    square_sum: Vec<f64>,
    error_square_sum: Vec<f64>,
    error_sum: Vec<f64>,
}

impl Columns {
    fn new(width: usize) -> Columns {
        Columns {
            square_sum: vec![0.0; width],
            error_square_sum: vec![0.0; width],
            error_sum: vec![0.0; width],
        }
    }

    fn add_products(&mut self, x: f64, row: ArrayView1<f64>) {
        for (sum, &weight) in self.square_sum.iter_mut().zip(row) {
            let product = x * weight;
            *sum += product * product;
        }
    }

    fn add_propagated(&mut self, error: f64, row: ArrayView1<f64>) {
        for ((squares, sum), &weight) in self.error_square_sum.iter_mut().zip(&mut self.error_sum).zip(row) {
            let product = error * weight;
            *squares += product * product;
            *sum += product;
        }
    }

    fn at(&self, column: usize) -> Sums {
        Sums {
            square_sum: self.square_sum[column],
            error_square_sum: self.error_square_sum[column],
            error_sum: self.error_sum[column],
        }
    }
}

/// A sum of terms (value ± error) · weight whose values need not be finite.
#[derive(Default)]
struct Terms {
    positive: f64,
    negative: f64,
    /// Root of the sum of the squared terms. A square can exceed the range of f64.
    root: f64,
    error_root: f64,
    error_sum: f64,
    undecided: bool,
}

impl Terms {
    fn add(&mut self, value: f64, error: f64, weight: f64) {
        let product = value * weight;
        let certain = error == 0.0 || value.abs() > error;
        // An uncertain sign or zero times an infinity is an infinity of either sign or NaN.
        self.undecided |= error == f64::INFINITY || (!weight.is_finite() && value.is_finite() && !certain);
        if !product.is_finite() {
            // The sum of f64 products of finite values of a narrower type is finite.
            self.undecided |= value.is_finite() && weight.is_finite();
            return;
        }
        let error = error * weight;
        let magnitude = product.abs() + error.abs();
        if product > 0.0 || error != 0.0 {
            self.positive += magnitude;
        }
        if product < 0.0 || error != 0.0 {
            self.negative += magnitude;
        }
        self.root = self.root.hypot(product);
        self.error_root = self.error_root.hypot(error);
        self.error_sum += error;
    }

    /// `stored` is the error of the results stored on the way.
    fn bound(&self, value: f64, length: usize, stored: f64, roundings: Roundings) -> f64 {
        let slack = 1.0 + 2.0 * length as f64 * roundings.accumulate.unit + 4.0 * roundings.store.unit;
        let overflows = self.positive.max(self.negative) * slack > roundings.max;
        if self.undecided || (overflows && !value.is_nan()) {
            return f64::INFINITY;
        }
        if !value.is_finite() {
            return 0.0;
        }
        let propagated = self.error_root + self.error_sum.abs();
        propagated + product_error(length, value, value, self.root, roundings) + stored
    }
}

/// λ · u · sqrt(n) · (|S| + r), for the engine and for the oracle's own f64 arithmetic.
fn product_error(length: usize, value: f64, sum: f64, root: f64, roundings: Roundings) -> f64 {
    let oracle = Rounding::F64;
    let size = sum.abs().max(value.abs()) + root;
    let per_step = (roundings.accumulate.unit + oracle.unit) * size + roundings.accumulate.step;
    LAMBDA * (length as f64).sqrt() * per_step
}

/// u · (λ · sqrt(2) · r + 2·|S|): both operands of each product rounded.
fn operand_error(operand: Rounding, sum: f64, root: f64) -> f64 {
    operand.unit * (LAMBDA * 2f64.sqrt() * root + 2.0 * sum.abs())
}
