//! The inputs of a problem in f64.

use binned_experts_reference::{Activation, Dims, Problem};
use ndarray::{Array2, Array3};

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
        with_problem!(problem, problem => Inputs::widen(problem))
    }

    /// Whether no value is NaN or infinite.
    pub fn is_finite(&self) -> bool {
        let matrices = [
            &self.hidden_states,
            &self.routing_weights,
            &self.gate_up_proj_bias,
            &self.down_proj_bias,
        ];
        let cubes = [&self.gate_up_proj, &self.down_proj];
        matrices
            .into_iter()
            .flatten()
            .chain(cubes.into_iter().flatten())
            .all(|value| value.is_finite())
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

    /// The routing weight of an assignment.
    pub fn selected_weight(&self, flat: usize) -> f64 {
        let (token, _, expert) = self.assignment(flat);
        self.routing_weights[[token, expert]]
    }
}

/// Copies an array to row-major layout, so that its rows are contiguous.
fn standard(array: Array3<f64>) -> Array3<f64> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}
