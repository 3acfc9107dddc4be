//! The oracle: the function by its definition, in f64.
//!
//! For each token and slot, the rank of the assignment among the earlier ones of its expert decides whether it is kept;
//! a kept one adds weight · expert(x), or expert(weight · x). Shared experts are added for every token. There is no
//! sort, there are no bins, and no code is shared with `binned-experts-reference`, which takes the steps of the PyTorch
//! function.

use binned_experts_reference::Dims;
use ndarray::{Array2, ArrayView1, ArrayView2, ArrayViewMut1, Axis};

use super::{ActivationFunction, Inputs, pairs};

/// Every stage of every kept assignment. Rows of dropped assignments are zero and never read.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Whether its expert keeps an assignment, `[T·K]`.
    pub kept: Vec<bool>,
    /// First product and bias, `[T·K,2I]`, or `[T·K,I]` where the activation has no ups.
    pub gate_up: Array2<f64>,
    /// After the activation, `[T·K,I]`.
    pub activated: Array2<f64>,
    /// Second product and bias, `[T·K,H]`.
    pub expert_output: Array2<f64>,
    /// The result, `[T,H]`.
    pub output: Array2<f64>,
    /// The stages of the shared experts, with a row for each token.
    pub shared: Option<Box<Definition>>,
}

impl Definition {
    /// Computes the function.
    pub fn new(inputs: &Inputs) -> Definition {
        let Dims {
            tokens,
            top_k,
            capacity,
            experts,
            ..
        } = inputs.dims;
        let mut taken = vec![0; experts];
        let mut kept = vec![false; tokens * top_k];
        for &flat in &inputs.order {
            let (_, _, expert) = inputs.assignment(flat);
            kept[flat] = taken[expert] < capacity;
            taken[expert] += 1;
        }

        let mut definition = Definition::zeros(inputs, kept);
        let activation = ActivationFunction::new(inputs.layer.activation, inputs.activation);
        for flat in 0..tokens * top_k {
            definition.add_assignment(inputs, &activation, flat);
        }
        definition.shared = inputs.shared.as_deref().map(|shared| Box::new(Definition::new(shared)));
        definition.combine(inputs);
        definition
    }

    /// Zeros for each stage.
    pub(super) fn zeros(inputs: &Inputs, kept: Vec<bool>) -> Definition {
        let Dims {
            tokens,
            hidden,
            intermediate,
            ..
        } = inputs.dims;
        Definition {
            gate_up: Array2::zeros((kept.len(), inputs.layer.gate_up_width(intermediate))),
            activated: Array2::zeros((kept.len(), intermediate)),
            expert_output: Array2::zeros((kept.len(), hidden)),
            output: Array2::zeros((tokens, hidden)),
            kept,
            shared: inputs.shared.as_deref().map(|shared| {
                let all = vec![true; shared.dims.tokens];
                Box::new(Definition::zeros(shared, all))
            }),
        }
    }

    fn add_assignment(&mut self, inputs: &Inputs, activation: &ActivationFunction, flat: usize) {
        if !self.kept[flat] {
            return;
        }
        let (_, _, expert) = inputs.assignment(flat);

        let mut gate_up = self.gate_up.row_mut(flat);
        let (matrix, bias) = (
            inputs.gate_up_proj.index_axis(Axis(0), expert),
            inputs.gate_up_proj_bias.row(expert),
        );
        add_affine(gate_up.view_mut(), inputs.expert_input(flat).view(), matrix, bias);

        let mut activated = self.activated.row_mut(flat);
        for (activated, (gate, up)) in activated.iter_mut().zip(pairs(inputs.layer.activation, &gate_up)) {
            *activated = activation.value(gate, up);
        }

        let expert_output = self.expert_output.row_mut(flat);
        let (matrix, bias) = (
            inputs.down_proj.index_axis(Axis(0), expert),
            inputs.down_proj_bias.row(expert),
        );
        add_affine(expert_output, activated.view(), matrix, bias);
    }

    /// Adds up the rows of the experts, and those of the shared ones.
    pub(super) fn combine(&mut self, inputs: &Inputs) {
        for flat in (0..self.kept.len()).filter(|flat| self.kept[*flat]) {
            let (token, _, _) = inputs.assignment(flat);
            let weight = inputs.output_weight(flat);
            self.output
                .row_mut(token)
                .zip_mut_with(&self.expert_output.row(flat), |sum, value| *sum += weight * value);
        }
        self.output *= inputs.layer.scale;
        if let Some(shared) = &self.shared {
            self.output += &shared.expert_output;
        }
    }
}

/// Adds x · matrix + bias to zeros, one row of the matrix after the other.
fn add_affine(mut sum: ArrayViewMut1<f64>, x: ArrayView1<f64>, matrix: ArrayView2<f64>, bias: ArrayView1<f64>) {
    for (x, row) in x.iter().zip(matrix.rows()) {
        sum.scaled_add(*x, &row);
    }
    sum += &bias;
}
