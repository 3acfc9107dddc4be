//! The inputs of a problem in f64.

use std::collections::HashMap;

use binned_experts_reference::{Activation, Dims, ExpertWeights, Layer, Problem, TensorType, WeightOn};
use ndarray::{Array1, Array2, Array3, ArrayView1, Axis, CowArray, Ix1, Slice};

use crate::case::{AnyProblem, CaseElement};

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
    /// The shared experts, as a case of their own: every token has them as its only expert (E = K = 1) with a weight of
    /// 1, and nothing is dropped.
    pub shared: Option<Box<Inputs>>,
}

impl Inputs {
    /// Widens the inputs of a problem.
    pub fn new(problem: &AnyProblem) -> Inputs {
        with_problem!(problem, problem => Inputs::widen(problem))
    }

    /// The routing of a problem alone, as that of a problem whose H and I are 0.
    pub fn of_routing(problem: &AnyProblem) -> Inputs {
        with_problem!(problem, problem => Inputs::routing(problem))
    }

    /// Some tokens of a problem, without the projections, which have no element. An assignment that is not `kept` is as
    /// one to no expert, and the capacity keeps all others.
    pub(super) fn of_tokens(problem: &AnyProblem, tokens: &[usize], kept: &[bool]) -> Inputs {
        with_problem!(problem, problem => Inputs::tokens(problem, tokens, kept))
    }

    /// The shared experts at some tokens of a problem.
    ///
    /// # Panics
    /// If there are none.
    pub(super) fn of_shared(problem: &AnyProblem, tokens: &[usize]) -> Inputs {
        with_problem!(problem, problem => Inputs::shared(problem, tokens).expect("a layer with shared experts"))
    }

    /// Some assignments of one expert, as those of tokens with one slot (K = 1) to the only expert (E = 1).
    pub(super) fn of_expert(problem: &AnyProblem, expert: usize, assignments: &[usize]) -> Inputs {
        with_problem!(problem, problem => Inputs::expert(problem, expert, assignments))
    }

    fn widen<T: CaseElement>(problem: &Problem<T>) -> Inputs {
        let weights = problem.weights();
        let all = Vec::from_iter(0..problem.dims().tokens);
        Inputs {
            dims: problem.dims(),
            hidden_states: rows(problem.hidden_states(), &all),
            gate_up_proj: standard(weights.gate_up_proj().mapv(T::to_f64)),
            gate_up_proj_bias: weights.gate_up_proj_bias().mapv(CaseElement::to_f64),
            down_proj: standard(weights.down_proj().mapv(T::to_f64)),
            down_proj_bias: weights.down_proj_bias().mapv(CaseElement::to_f64),
            shared: Inputs::shared(problem, &all).map(Box::new),
            ..Inputs::routing(problem)
        }
    }

    fn routing<T: CaseElement>(problem: &Problem<T>) -> Inputs {
        let dims = Dims {
            hidden: 0,
            intermediate: 0,
            ..problem.dims()
        };
        let local = problem.expert_of().iter().map(|expert| expert.unwrap_or(dims.experts));
        let local: Vec<usize> = local.collect();
        let local = Array2::from_shape_vec((dims.tokens, dims.top_k), local).expect("a problem has T·K assignments");
        let all = Vec::from_iter(0..dims.tokens);
        Inputs {
            dims,
            layer: *problem.layer(),
            activation: problem.activation(),
            hidden_states: Array2::zeros((dims.tokens, 0)),
            router_indices: local,
            routing_weights: rows(problem.routing_weights(), &all),
            gate_up_proj: Array3::zeros((dims.experts, 0, 0)),
            gate_up_proj_bias: Array2::zeros((dims.experts, 0)),
            down_proj: Array3::zeros((dims.experts, 0, 0)),
            down_proj_bias: Array2::zeros((dims.experts, 0)),
            order: order(problem),
            shared: None,
        }
    }

    fn tokens<T: CaseElement>(problem: &Problem<T>, tokens: &[usize], kept: &[bool]) -> Inputs {
        let (dims, weights) = (problem.dims(), problem.weights());
        let place: HashMap<usize, usize> = tokens.iter().enumerate().map(|(at, token)| (*token, at)).collect();
        let expert = |(at, slot): (usize, usize)| {
            let flat = tokens[at] * dims.top_k + slot;
            problem.expert_of()[flat].filter(|_| kept[flat]).unwrap_or(dims.experts)
        };
        let flat = |flat: usize| Some(place.get(&(flat / dims.top_k))? * dims.top_k + flat % dims.top_k);
        Inputs {
            dims: Dims {
                tokens: tokens.len(),
                capacity: usize::MAX,
                ..dims
            },
            layer: *problem.layer(),
            activation: problem.activation(),
            hidden_states: rows(problem.hidden_states(), tokens),
            router_indices: Array2::from_shape_fn((tokens.len(), dims.top_k), expert),
            routing_weights: rows(problem.routing_weights(), tokens),
            gate_up_proj: Array3::zeros((dims.experts, 0, 0)),
            gate_up_proj_bias: weights.gate_up_proj_bias().mapv(CaseElement::to_f64),
            down_proj: Array3::zeros((dims.experts, 0, 0)),
            down_proj_bias: weights.down_proj_bias().mapv(CaseElement::to_f64),
            order: order(problem)
                .into_iter()
                .filter(|flat| kept[*flat])
                .filter_map(flat)
                .collect(),
            shared: weights.shared().map(|shared| {
                Box::new(Inputs {
                    layer: layer_of_shared(problem.layer()),
                    ..Inputs::of_one_slot(problem, shared, tokens.len())
                })
            }),
        }
    }

    fn expert<T: CaseElement>(problem: &Problem<T>, expert: usize, assignments: &[usize]) -> Inputs {
        let tokens: Vec<usize> = assignments.iter().map(|flat| flat / problem.dims().top_k).collect();
        let weight = |token: &usize| CaseElement::to_f64(row(problem.routing_weights(), *token)[expert]);
        Inputs {
            routing_weights: tokens.iter().map(weight).collect::<Array1<f64>>().insert_axis(Axis(1)),
            ..Inputs::alone(problem, problem.weights(), expert, &tokens)
        }
    }

    fn shared<T: CaseElement>(problem: &Problem<T>, tokens: &[usize]) -> Option<Inputs> {
        Some(Inputs {
            layer: layer_of_shared(problem.layer()),
            ..Inputs::alone(problem, problem.weights().shared()?, 0, tokens)
        })
    }

    /// One of some experts as the only one, of tokens with one slot each, whose weight is 1.
    fn alone<T: CaseElement>(
        problem: &Problem<T>,
        weights: &ExpertWeights<T>,
        expert: usize,
        tokens: &[usize],
    ) -> Inputs {
        let one = |array: &Array3<T>| standard(array.slice_axis(Axis(0), Slice::from(expert..=expert)).mapv(T::to_f64));
        let bias = |array: &Array2<T::Wide>| {
            let row = array.slice_axis(Axis(0), Slice::from(expert..=expert));
            row.mapv(CaseElement::to_f64)
        };
        Inputs {
            hidden_states: rows(problem.hidden_states(), tokens),
            gate_up_proj: one(weights.gate_up_proj()),
            gate_up_proj_bias: bias(weights.gate_up_proj_bias()),
            down_proj: one(weights.down_proj()),
            down_proj_bias: bias(weights.down_proj_bias()),
            ..Inputs::of_one_slot(problem, weights, tokens.len())
        }
    }

    /// Tokens with one slot each, whose weight is 1, without their values and those of the only expert, which have no
    /// element.
    fn of_one_slot<T: CaseElement>(problem: &Problem<T>, weights: &ExpertWeights<T>, tokens: usize) -> Inputs {
        Inputs {
            dims: Dims {
                tokens,
                hidden: weights.hidden(),
                intermediate: weights.intermediate(),
                experts: 1,
                top_k: 1,
                capacity: tokens,
            },
            layer: *problem.layer(),
            activation: problem.activation(),
            hidden_states: Array2::zeros((tokens, 0)),
            router_indices: Array2::zeros((tokens, 1)),
            routing_weights: Array2::ones((tokens, 1)),
            gate_up_proj: Array3::zeros((1, 0, 0)),
            gate_up_proj_bias: Array2::zeros((1, 0)),
            down_proj: Array3::zeros((1, 0, 0)),
            down_proj_bias: Array2::zeros((1, 0)),
            order: Vec::from_iter(0..tokens),
            shared: None,
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
    pub fn expert_input(&self, flat: usize) -> CowArray<'_, f64, Ix1> {
        let token = self.hidden_states.row(flat / self.dims.top_k);
        match self.layer.weight_on {
            WeightOn::Output => token.into(),
            WeightOn::Input => token.mapv(|value| value * self.selected_weight(flat)).into(),
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

/// The layer of shared experts as a case of their own.
fn layer_of_shared(layer: &Layer) -> Layer {
    Layer {
        weight_on: WeightOn::Output,
        scale: 1.0,
        routing_weight_type: TensorType::Element,
        shared_experts: 0,
        ..*layer
    }
}

/// The assignments to local experts in the order in which the experts take them.
fn order<T: CaseElement>(problem: &Problem<T>) -> Vec<usize> {
    let local = |(flat, expert): (usize, &Option<usize>)| expert.map(|_| flat);
    match problem.explicit_order() {
        Some(order) => order.to_vec(),
        None => (0..).zip(problem.expert_of()).filter_map(local).collect(),
    }
}

/// Rows of a tensor `[B,S,width]` by token.
fn rows<T: CaseElement>(tensor: &Array3<T>, tokens: &[usize]) -> Array2<f64> {
    let mut rows = Array2::zeros((tokens.len(), tensor.dim().2));
    for (mut wide, &token) in rows.rows_mut().into_iter().zip(tokens) {
        wide.zip_mut_with(&row(tensor, token), |wide, value| *wide = value.to_f64());
    }
    rows
}

/// The row of a token of a tensor `[B,S,width]`.
fn row<T>(tensor: &Array3<T>, token: usize) -> ArrayView1<'_, T> {
    let sequence = tensor.dim().1;
    tensor
        .index_axis(Axis(0), token / sequence)
        .index_axis_move(Axis(0), token % sequence)
}

/// Copies an array to row-major layout, so that its rows are contiguous.
fn standard(array: Array3<f64>) -> Array3<f64> {
    if array.is_standard_layout() {
        array
    } else {
        array.as_standard_layout().into_owned()
    }
}
