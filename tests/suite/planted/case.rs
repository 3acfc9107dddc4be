//! A case in f32, in which the 16-bit types are computed too.

use std::hash::{DefaultHasher, Hash, Hasher};

use binned_experts_check::CaseElement;
use binned_experts_reference::{Dims, Problem};
use ndarray::{Array2, Array3};

pub(super) struct Case {
    pub(super) dims: Dims,
    /// `[T,H]`.
    pub(super) hidden_states: Array2<f32>,
    /// The expert of each assignment, `[T·K]`.
    pub(super) ids: Vec<usize>,
    /// `[T,E]`.
    pub(super) routing_weights: Array2<f32>,
    /// `[E,H,2I]`.
    pub(super) gate_up_proj: Array3<f32>,
    /// `[E,2I]`.
    pub(super) gate_up_proj_bias: Array2<f32>,
    /// `[E,I,H]`.
    pub(super) down_proj: Array3<f32>,
    /// `[E,H]`.
    pub(super) down_proj_bias: Array2<f32>,
    pub(super) alpha: f32,
    pub(super) limit: f32,
}

impl Case {
    pub(super) fn new<T: CaseElement>(problem: &Problem<T>) -> Case {
        let dims = problem.dims();
        let weights = problem.weights();
        Case {
            dims,
            hidden_states: rows(problem.hidden_states()),
            ids: problem.router_indices().iter().map(|&id| id as usize).collect(),
            routing_weights: rows(problem.routing_weights()),
            gate_up_proj: weights.gate_up_proj().map(single),
            gate_up_proj_bias: weights.gate_up_proj_bias().map(single),
            down_proj: weights.down_proj().map(single),
            down_proj_bias: weights.down_proj_bias().map(single),
            alpha: problem.activation().alpha as f32,
            limit: problem.activation().limit as f32,
        }
    }

    /// A number that no other inputs have, but by chance.
    pub(super) fn digest(&self) -> u64 {
        let matrices = self.gate_up_proj.iter().chain(&self.down_proj);
        let biases = self.gate_up_proj_bias.iter().chain(&self.down_proj_bias);
        let rows = self.hidden_states.iter().chain(&self.routing_weights);
        let values = matrices.chain(biases).chain(rows).chain([&self.alpha, &self.limit]);
        let mut hasher = DefaultHasher::new();
        values.for_each(|value| value.to_bits().hash(&mut hasher));
        let dims = self.dims;
        (&self.ids, dims.capacity, dims.hidden, dims.top_k).hash(&mut hasher);
        hasher.finish()
    }
}

/// `[B,S,width]` as `[B·S,width]`.
fn rows<T: CaseElement>(array: &Array3<T>) -> Array2<f32> {
    let (batch, sequence, width) = array.dim();
    let values = array.iter().map(single).collect();
    Array2::from_shape_vec((batch * sequence, width), values).expect("[B,S,width] has B·S rows")
}

fn single<T: CaseElement>(value: &T) -> f32 {
    value.to_f64() as f32
}
