//! Engines that are right for every token's own experts, and wrong with those that all tokens share.

use binned_experts_check::domain::Taken;
use binned_experts_check::{CaseElement, Domain, Fault, Outcome};
use binned_experts_reference::{Error, ExpertWeights, Layer, Problem, TensorType, binned_experts_ref};
use clap::ValueEnum;
use ndarray::{Array2, Array3, Axis, Slice};

use super::layers::rebuilt_as;
use super::wrong::{Wrong, output_of};

/// A bug that needs shared experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SharedBug {
    /// The shared experts are left out
    SharedForgotten,
    /// They are added before the factor on the sum
    SharedBeforeTheFactor,
    /// They are added for each slot that is kept
    SharedForEachSlot,
    /// They are added only where a slot is kept
    SharedOfKeptTokens,
    /// They are multiplied with the routing weight of the first slot
    SharedWeighted,
    /// The second bias of the shared experts is left out
    SharedBiasForgotten,
    /// The first bias of the shared experts is left out
    SharedFirstBiasForgotten,
    /// One shared expert where there are more
    OneOfTheShared,
    /// The gates and ups of each shared expert beside each other, where all gates come first
    SharedOneByOne,
    /// The routing weight of the first slot is multiplied with what goes into the shared experts
    SharedWeightOnInput,
}

impl Wrong for SharedBug {
    fn takes(&self, usual: Domain) -> Domain {
        Domain {
            layers: Some(Taken::Any),
            foreign: Some(Taken::Any),
            ..usual
        }
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        let outcome = match (*self, self.factors(problem)) {
            (SharedBug::SharedWeightOnInput, Some(weights)) => {
                let ones = vec![1.0; weights.len()];
                weighted(problem, &weights).and_then(|weighted| added(problem, &weighted, &ones))
            }
            (_, Some(factors)) => added(problem, problem, &factors),
            (_, None) => return output_of(&self.taken_for(problem).map_err(Fault::refused)?),
        };
        outcome.map_err(Fault::refused)
    }
}

impl SharedBug {
    /// The layer that has what it needs.
    pub(crate) fn needs(self) -> &'static str {
        match self {
            SharedBug::SharedForgotten
            | SharedBug::SharedBeforeTheFactor
            | SharedBug::SharedForEachSlot
            | SharedBug::SharedOfKeptTokens
            | SharedBug::SharedWeighted => "layers = ['deepseek-v3-shared']",
            SharedBug::SharedBiasForgotten | SharedBug::SharedFirstBiasForgotten | SharedBug::OneOfTheShared => {
                "layers = [{ shared_experts = 2 }]"
            }
            SharedBug::SharedOneByOne => "layers = [{ gate_up = 'concatenated', shared_experts = 2 }]",
            SharedBug::SharedWeightOnInput => "layers = ['llama4-shared']",
        }
    }

    /// What it multiplies the row of the shared experts with, or what goes into them, for each token; none where it
    /// computes another case.
    fn factors<T: CaseElement>(self, problem: &Problem<T>) -> Option<Vec<f64>> {
        let dims = problem.dims();
        let kept: Vec<usize> = (0..dims.experts)
            .flat_map(|expert| problem.bins().kept(expert, dims.capacity).to_vec())
            .collect();
        let slots = |token: usize| kept.iter().filter(|flat| *flat / dims.top_k == token).count();
        let weight = |token: usize| {
            let (sequence, expert) = (problem.hidden_states().dim().1, problem.expert_of()[token * dims.top_k]);
            expert.map_or(1.0, |expert| {
                CaseElement::to_f64(problem.routing_weights()[[token / sequence, token % sequence, expert]])
            })
        };
        let tokens = 0..dims.tokens;
        match self {
            SharedBug::SharedBeforeTheFactor => Some(tokens.map(|_| problem.layer().scale).collect()),
            SharedBug::SharedForEachSlot => Some(tokens.map(|token| slots(token) as f64).collect()),
            SharedBug::SharedOfKeptTokens => Some(tokens.map(|token| slots(token).min(1) as f64).collect()),
            SharedBug::SharedWeighted | SharedBug::SharedWeightOnInput => Some(tokens.map(weight).collect()),
            _ => None,
        }
    }

    /// The problem that it computes.
    fn taken_for<T: CaseElement>(self, problem: &Problem<T>) -> Result<Problem<T>, Error> {
        let weights = problem.weights();
        let Some(shared) = weights.shared() else {
            return Ok(problem.clone());
        };
        let (gate_up, gate_up_bias) = (shared.gate_up_proj().clone(), shared.gate_up_proj_bias().clone());
        let (down, down_bias) = (shared.down_proj().clone(), shared.down_proj_bias().clone());
        let none = |bias: Array2<T::Wide>| bias.mapv(|_| T::ZERO.widen());
        let number = problem.layer().shared_experts;
        match self {
            SharedBug::SharedBiasForgotten => {
                let without = ExpertWeights::new(gate_up, gate_up_bias, down, none(down_bias))?;
                with_shared(problem, Some(without), number)
            }
            SharedBug::SharedFirstBiasForgotten => {
                let without = ExpertWeights::new(gate_up, none(gate_up_bias), down, down_bias)?;
                with_shared(problem, Some(without), number)
            }
            SharedBug::OneOfTheShared => {
                let inner = problem.dims().intermediate;
                let (columns, rows) = (Slice::from(..2 * inner), Slice::from(..inner));
                let first = ExpertWeights::new(
                    gate_up.slice_axis(Axis(2), columns).to_owned(),
                    gate_up_bias.slice_axis(Axis(1), columns).to_owned(),
                    down.slice_axis(Axis(1), rows).to_owned(),
                    down_bias,
                )?;
                with_shared(problem, Some(first), 1)
            }
            SharedBug::SharedOneByOne => {
                let columns = one_by_one(problem.layer(), problem.dims().intermediate);
                let (gate_up, gate_up_bias) = (
                    gate_up.select(Axis(2), &columns),
                    gate_up_bias.select(Axis(1), &columns),
                );
                let read = ExpertWeights::new(gate_up, gate_up_bias, down, down_bias)?;
                with_shared(problem, Some(read), number)
            }
            _ => with_shared(problem, None, 0),
        }
    }
}

/// For each column of the first product, gates and ups in turn, the one that is read for it where the gates and the ups
/// of each shared expert are taken to be beside each other.
fn one_by_one(layer: &Layer, inner: usize) -> Vec<usize> {
    let stored = layer.gate_up_columns(layer.shared_experts * inner);
    let place = |expert: usize, i: usize, is_up: usize| stored[2 * inner * expert + inner * is_up + i];
    let pairs = (0..layer.shared_experts).flat_map(|expert| (0..inner).map(move |i| (expert, i)));
    pairs
        .flat_map(|(expert, i)| [place(expert, i, 0), place(expert, i, 1)])
        .collect()
}

/// The tokens times a factor each.
fn weighted<T: CaseElement>(problem: &Problem<T>, factors: &[f64]) -> Result<Problem<T>, Error> {
    let (_, sequence, _) = problem.hidden_states().dim();
    let mut hidden_states = problem.hidden_states().clone();
    for ((b, s, _), value) in hidden_states.indexed_iter_mut() {
        *value = T::from_f64(value.to_f64() * factors[b * sequence + s]);
    }
    let (ids, routing_weights) = (problem.router_indices().to_owned(), problem.routing_weights().clone());
    let weights = problem.weights().clone();
    let weighted = Problem::new(hidden_states, ids, routing_weights, weights, problem.capacity())?;
    Ok(weighted
        .with_layer(*problem.layer())?
        .with_activation(problem.activation()))
}

/// The sum over the slots, and the row of another case's shared experts times a factor for each token, rounded as each
/// is.
fn added<T: CaseElement>(problem: &Problem<T>, other: &Problem<T>, factors: &[f64]) -> Result<Outcome, Error> {
    let routed = binned_experts_ref(&with_shared(problem, None, 0)?)?.output;
    let shared = binned_experts_ref(other)?.shared_output;
    let (_, sequence, _) = routed.dim();
    let output = Array3::from_shape_fn(routed.raw_dim(), |(b, s, h)| {
        let token = b * sequence + s;
        let row = shared.as_ref().map_or(0.0, |shared| shared[[token, h]].to_f64());
        let sum = CaseElement::to_f64(routed[[b, s, h]]) + factors[token] * row;
        T::from_f64(sum).widen()
    });
    Ok(Outcome::output(T::narrowed(output, TensorType::Element)))
}

/// The same case with other shared experts.
fn with_shared<T: CaseElement>(
    problem: &Problem<T>,
    shared: Option<ExpertWeights<T>>,
    shared_experts: usize,
) -> Result<Problem<T>, Error> {
    let layer = Layer {
        shared_experts,
        ..*problem.layer()
    };
    // What is stored has none.
    let routed = ExpertWeights::from_stored(problem.stored_weights(), &layer)?;
    let weights = match shared {
        Some(shared) => routed.with_shared(shared)?,
        None => routed,
    };
    let (ids, routing_weights) = (problem.router_indices().to_owned(), problem.routing_weights().clone());
    rebuilt_as(problem, ids, routing_weights, weights.into(), layer)
}
