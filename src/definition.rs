//! The second oracle: the function by its definition, in f64.
//!
//! For each token and slot, the rank of the assignment among the earlier ones of its expert decides whether it is
//! kept; a kept one adds weight · expert(x). There is no sort, there are no bins, and no code is shared with
//! `binned-experts-reference`, which takes the steps of the PyTorch function.

use binned_experts_reference::{Activation, Dims, Problem};
use ndarray::{Array1, Array2, Array3, ArrayView1, ArrayView2, Axis};

use crate::tensor::{AnyProblem, CaseElement};

/// The inputs of a problem in f64, where every element type is exact.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// T, H, I, E, K, C.
    pub dims: Dims,
    /// alpha and limit.
    pub activation: Activation,
    /// `[T,H]`.
    pub hidden_states: Array2<f64>,
    /// `[T,K]`.
    pub router_indices: Array2<usize>,
    /// `[T,E]`.
    pub routing_weights: Array2<f64>,
    /// `[E,H,2I]`.
    pub gate_up_proj: Array3<f64>,
    /// `[E,2I]`.
    pub gate_up_proj_bias: Array2<f64>,
    /// `[E,I,H]`.
    pub down_proj: Array3<f64>,
    /// `[E,H]`.
    pub down_proj_bias: Array2<f64>,
    /// Flat indices of the assignments in the order in which their experts take them: ascending, or explicit.
    pub order: Vec<usize>,
}

impl Inputs {
    /// Widens the inputs of a problem.
    pub fn new(problem: &AnyProblem) -> Inputs {
        match problem {
            AnyProblem::F32(problem) => Inputs::widen(problem),
            AnyProblem::F64(problem) => Inputs::widen(problem),
            AnyProblem::Bf16(problem) => Inputs::widen(problem),
            AnyProblem::F16(problem) => Inputs::widen(problem),
        }
    }

    fn widen<T: CaseElement>(problem: &Problem<T>) -> Inputs {
        let dims = problem.dims();
        let weights = problem.weights();
        let by_token = |tensor: &Array3<T>, width: usize| {
            let values = tensor.iter().map(|value| value.to_f64()).collect();
            Array2::from_shape_vec((dims.tokens, width), values).expect("a problem's tensors have B·S rows")
        };
        Inputs {
            dims,
            activation: problem.activation(),
            hidden_states: by_token(problem.hidden_states(), dims.hidden),
            router_indices: problem.router_indices().mapv(|expert| expert as usize),
            routing_weights: by_token(problem.routing_weights(), dims.experts),
            gate_up_proj: standard(weights.gate_up_proj().mapv(T::to_f64)),
            gate_up_proj_bias: weights.gate_up_proj_bias().mapv(T::to_f64),
            down_proj: standard(weights.down_proj().mapv(T::to_f64)),
            down_proj_bias: weights.down_proj_bias().mapv(T::to_f64),
            order: match problem.explicit_order() {
                Some(order) => order.to_vec(),
                None => (0..dims.tokens * dims.top_k).collect(),
            },
        }
    }

    /// The (token, slot, expert) of an assignment.
    pub fn assignment(&self, flat: usize) -> (usize, usize, usize) {
        let (token, slot) = (flat / self.dims.top_k, flat % self.dims.top_k);
        (token, slot, self.router_indices[[token, slot]])
    }
}

/// Every stage of every kept assignment. Rows of dropped assignments are zero and never read.
#[derive(Debug, Clone)]
pub struct Definition {
    /// For each flat assignment whether its expert keeps it, `[T·K]`.
    pub kept: Vec<bool>,
    /// First product and bias, `[T·K,2I]`.
    pub gate_up: Array2<f64>,
    /// After the clamped SwiGLU, `[T·K,I]`.
    pub activated: Array2<f64>,
    /// Second product and bias, `[T·K,H]`.
    pub expert_output: Array2<f64>,
    /// The result, `[T,H]`.
    pub output: Array2<f64>,
}

impl Definition {
    /// Computes the function.
    pub fn new(inputs: &Inputs) -> Definition {
        let Dims {
            tokens,
            hidden,
            intermediate,
            top_k,
            capacity,
            experts,
        } = inputs.dims;
        let assignments = tokens * top_k;

        let mut taken = vec![0; experts];
        let mut kept = vec![false; assignments];
        for &flat in &inputs.order {
            let (_, _, expert) = inputs.assignment(flat);
            kept[flat] = taken[expert] < capacity;
            taken[expert] += 1;
        }

        let mut definition = Definition {
            gate_up: Array2::zeros((assignments, 2 * intermediate)),
            activated: Array2::zeros((assignments, intermediate)),
            expert_output: Array2::zeros((assignments, hidden)),
            output: Array2::zeros((tokens, hidden)),
            kept,
        };
        for token in 0..tokens {
            for slot in 0..top_k {
                definition.add_assignment(inputs, token, slot);
            }
        }
        definition
    }

    fn add_assignment(&mut self, inputs: &Inputs, token: usize, slot: usize) {
        let flat = token * inputs.dims.top_k + slot;
        if !self.kept[flat] {
            return;
        }
        let expert = inputs.router_indices[[token, slot]];

        let mut gate_up = self.gate_up.row_mut(flat);
        let (matrix, bias) = (
            inputs.gate_up_proj.index_axis(Axis(0), expert),
            inputs.gate_up_proj_bias.row(expert),
        );
        gate_up.assign(&affine(inputs.hidden_states.row(token), matrix, bias));

        let mut activated = self.activated.row_mut(flat);
        for (i, activated) in activated.iter_mut().enumerate() {
            *activated = clamped_swiglu(gate_up[2 * i], gate_up[2 * i + 1], inputs.activation);
        }

        let mut expert_output = self.expert_output.row_mut(flat);
        let (matrix, bias) = (
            inputs.down_proj.index_axis(Axis(0), expert),
            inputs.down_proj_bias.row(expert),
        );
        expert_output.assign(&affine(activated.view(), matrix, bias));

        let weight = inputs.routing_weights[[token, expert]];
        self.output
            .row_mut(token)
            .zip_mut_with(&expert_output, |sum, value| *sum += weight * value);
    }
}

/// (up + 1) · gate · sigmoid(alpha · gate), gate clamped above and up on both sides; NaN passes the clamps.
pub(crate) fn clamped_swiglu(gate: f64, up: f64, Activation { alpha, limit }: Activation) -> f64 {
    let gate = if gate > limit { limit } else { gate };
    let up = if up < -limit { -limit } else { up };
    let up = if up > limit { limit } else { up };
    if limit.is_nan() {
        return f64::NAN;
    }
    (up + 1.0) * (gate * (1.0 / (1.0 + (-alpha * gate).exp())))
}

/// x · matrix + bias, one row of the matrix after the other.
fn affine(x: ArrayView1<f64>, matrix: ArrayView2<f64>, bias: ArrayView1<f64>) -> Array1<f64> {
    let mut out = Array1::zeros(bias.len());
    for (x, row) in x.iter().zip(matrix.rows()) {
        out.scaled_add(*x, &row);
    }
    out + bias
}

/// The same array in row-major layout, so that its rows are contiguous.
fn standard(array: Array3<f64>) -> Array3<f64> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}
