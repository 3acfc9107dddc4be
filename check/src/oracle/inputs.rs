//! The inputs of a problem in f64.

use binned_experts_reference::{Activation, Dims, Layer, Problem, WeightOn};
use ndarray::{Array1, Array2, Array3};

use crate::case::ForeignIds;
use crate::tensor::{AnyProblem, CaseElement};

/// The inputs of a problem in f64, where every element type is exact.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// T, H, I, E, K, C.
    pub dims: Dims,
    /// The kind of layer.
    pub layer: Layer,
    /// alpha and limit.
    pub activation: Activation,
    /// `[T,H]`.
    pub hidden_states: Array2<f64>,
    /// The local experts, `[T,K]`; E where an id is that of none.
    pub router_indices: Array2<usize>,
    /// `[T,E]`.
    pub routing_weights: Array2<f64>,
    /// `[E,H,2I]`; `[E,H,I]` where the activation has no ups.
    pub gate_up_proj: Array3<f64>,
    /// `[E,2I]`, or `[E,I]`.
    pub gate_up_proj_bias: Array2<f64>,
    /// `[E,I,H]`.
    pub down_proj: Array3<f64>,
    /// `[E,H]`.
    pub down_proj_bias: Array2<f64>,
    /// Flat indices of the assignments to local experts in the order in which the experts take them: ascending, or
    /// explicit.
    pub order: Vec<usize>,
    /// What stands in slots whose expert is not local; none where every id is that of one of the E experts.
    pub foreign: Option<ForeignIds>,
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
        let local = problem.expert_of().iter().map(|expert| expert.unwrap_or(dims.experts));
        let local: Vec<usize> = local.collect();
        let local = Array2::from_shape_vec((dims.tokens, dims.top_k), local).expect("a problem has T·K assignments");
        Inputs {
            dims,
            layer: *problem.layer(),
            activation: problem.activation(),
            hidden_states: by_token(problem.hidden_states(), dims.hidden),
            router_indices: local,
            routing_weights: by_token(problem.routing_weights(), dims.experts),
            gate_up_proj: standard(weights.gate_up_proj().mapv(T::to_f64)),
            gate_up_proj_bias: weights.gate_up_proj_bias().mapv(T::to_f64),
            down_proj: standard(weights.down_proj().mapv(T::to_f64)),
            down_proj_bias: weights.down_proj_bias().mapv(T::to_f64),
            foreign: foreign_ids(problem),
            order: match problem.explicit_order() {
                Some(order) => order.to_vec(),
                None => (0..)
                    .zip(problem.expert_of())
                    .filter_map(|(flat, expert)| expert.map(|_| flat))
                    .collect(),
            },
        }
    }

    /// The (token, slot, expert) of an assignment; the expert is E where it is not local.
    pub fn assignment(&self, flat: usize) -> (usize, usize, usize) {
        let (token, slot) = (flat / self.dims.top_k, flat % self.dims.top_k);
        (token, slot, self.router_indices[[token, slot]])
    }

    /// Whether the expert of an assignment is local.
    pub fn is_local(&self, flat: usize) -> bool {
        self.assignment(flat).2 < self.dims.experts
    }

    /// The routing weight of an assignment; 0 where its expert is not local.
    pub fn selected_weight(&self, flat: usize) -> f64 {
        let (token, _, expert) = self.assignment(flat);
        self.routing_weights.get([token, expert]).copied().unwrap_or(0.0)
    }

    /// What goes into the expert of an assignment: the token, or the token times the routing weight.
    pub fn expert_input(&self, flat: usize) -> Array1<f64> {
        let token = self.hidden_states.row(flat / self.dims.top_k);
        match self.layer.weight_on {
            WeightOn::Output => token.to_owned(),
            WeightOn::Input => token.mapv(|value| value * self.selected_weight(flat)),
        }
    }

    /// The factor of what comes out of it: the routing weight, or 1.
    pub fn output_weight(&self, flat: usize) -> f64 {
        match self.layer.weight_on {
            WeightOn::Output => self.selected_weight(flat),
            WeightOn::Input => 1.0,
        }
    }
}

/// What tells ids of other ranks from padding: the first local id, and ids beyond the last.
fn foreign_ids<T: CaseElement>(problem: &Problem<T>) -> Option<ForeignIds> {
    let (ids, experts) = (problem.router_indices(), problem.dims().experts as i64);
    if problem.first_expert()? > 0 || ids.iter().any(|id| *id >= experts) {
        return Some(ForeignIds::OtherRanks);
    }
    ids.iter().any(|id| *id < 0).then_some(ForeignIds::MinusOne)
}

/// Copies an array to row-major layout, so that its rows are contiguous.
fn standard(array: Array3<f64>) -> Array3<f64> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}
