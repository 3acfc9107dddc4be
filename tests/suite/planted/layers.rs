//! Engines that are right for the layer of gpt-oss, and wrong where another layer is different.

use std::sync::Arc;

use binned_experts_check::domain::Taken;
use binned_experts_check::{CaseElement, Domain, Fault, Outcome};
use binned_experts_reference::{
    Activation, ActivationKind, Error, ExpertWeights, GateUpLayout, Layer, Problem, WeightOn,
};
use clap::ValueEnum;
use ndarray::{Array2, Array3, Axis};

use super::wrong::{Wrong, output_of};

/// A bug that needs another layer, or ids of experts that are not local. Each takes another problem for the one that it is
/// given, and computes that right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LayerBug {
    /// silu(gate) where gate · sigmoid(alpha · gate) is asked for
    SiluForAlpha,
    /// alpha = 1.702 in a silu
    AlphaInSilu,
    /// up + 1 in a layer that adds none
    OneAddedToUp,
    /// gelu by tanh where that by erf is asked for
    TanhForErf,
    /// gelu by erf where that by tanh is asked for
    ErfForTanh,
    /// sigmoid(1.702 · gate) for a gelu
    QuickGelu,
    /// A clamp of 7 in a silu that has none
    LimitOfAnother,
    /// Up in the first half, gate in the second
    HalvesSwapped,
    /// Gate and up in turn where they are halves
    ReadAsInterleaved,
    /// `[in,out]` and `[out,in]` cannot be told apart where H = I
    TransposedWhenSquare,
    /// As an index in Python: -1 is the last expert
    MinusOneIsTheLast,
    /// -1 is clamped to expert 0
    MinusOneIsTheFirst,
    /// The id modulo E, for experts of other ranks too
    OtherRanksWrap,
    /// The first local id is not subtracted from ids below 2E
    FirstExpertIgnored,
    /// `[T,K]` read as `[T,E]`
    SlotWeightsByExpert,
    /// The weight on what comes out of an expert
    WeightOnOutput,
    /// The weight on what goes into an expert
    WeightOnInput,
    /// The factor on the sum is left out
    ScaleIgnored,
    /// The factor on the sum is multiplied twice
    ScaleTwice,
}

impl Wrong for LayerBug {
    fn takes(&self, usual: Domain) -> Domain {
        Domain {
            layers: Some(Taken::Any),
            foreign: Some(Taken::Any),
            ..usual
        }
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        output_of(&self.taken_for(problem).map_err(Fault::refused)?)
    }
}

impl LayerBug {
    /// The domain that has what it needs.
    pub(crate) fn needs(self) -> &'static str {
        match self {
            LayerBug::SiluForAlpha | LayerBug::WeightOnInput => "layers = ['gpt-oss']",
            LayerBug::TanhForErf | LayerBug::QuickGelu => "layers = [{ activation = 'gelu' }]",
            LayerBug::ErfForTanh => "layers = [{ activation = 'gelu-tanh' }]",
            LayerBug::AlphaInSilu
            | LayerBug::OneAddedToUp
            | LayerBug::LimitOfAnother
            | LayerBug::HalvesSwapped
            | LayerBug::ReadAsInterleaved
            | LayerBug::TransposedWhenSquare
            | LayerBug::SlotWeightsByExpert => "layers = ['mixtral']",
            LayerBug::MinusOneIsTheLast | LayerBug::MinusOneIsTheFirst => {
                "layers = ['mixtral']\nforeign = ['minus-one']"
            }
            LayerBug::OtherRanksWrap | LayerBug::FirstExpertIgnored => {
                "layers = ['mixtral']\nforeign = ['other-ranks']"
            }
            LayerBug::WeightOnOutput => "layers = ['llama4']",
            LayerBug::ScaleIgnored | LayerBug::ScaleTwice => "layers = ['deepseek-v3']",
        }
    }

    /// The problem that it computes.
    fn taken_for<T: CaseElement>(self, problem: &Problem<T>) -> Result<Problem<T>, Error> {
        let layer = *problem.layer();
        let with_layer = |layer: Layer| problem.clone().with_layer(layer);
        let with_activation = |alpha: f64, limit: f64, activation: ActivationKind| -> Result<Problem<T>, Error> {
            let problem = with_layer(Layer { activation, ..layer })?;
            Ok(problem.with_activation(Activation { alpha, limit }))
        };
        let infinity = f64::INFINITY;
        match self {
            LayerBug::SiluForAlpha => Ok(problem.clone().with_activation(Activation {
                alpha: 1.0,
                ..problem.activation()
            })),
            LayerBug::OneAddedToUp => with_activation(1.0, infinity, ActivationKind::ClampedSwiglu),
            // (up − 1 + 1) · gate · sigmoid(1.702 · gate), but for rounding.
            LayerBug::AlphaInSilu | LayerBug::QuickGelu => {
                lowered_ups(&with_activation(1.702, infinity, ActivationKind::ClampedSwiglu)?)
            }
            LayerBug::LimitOfAnother => with_activation(1.702, 7.0, ActivationKind::ClampedSilu),
            LayerBug::TanhForErf => with_activation(1.702, 7.0, ActivationKind::GeluTanh),
            LayerBug::ErfForTanh => with_activation(1.702, 7.0, ActivationKind::Gelu),
            LayerBug::HalvesSwapped => with_columns(problem, |columns| {
                let (gates, ups) = columns.split_at(columns.len() / 2);
                [ups, gates].concat()
            }),
            LayerBug::ReadAsInterleaved => with_weights(problem, |weights| {
                let concatenated = Layer {
                    gate_up: GateUpLayout::Concatenated,
                    ..layer
                };
                let interleaved = Layer {
                    gate_up: GateUpLayout::Interleaved,
                    ..layer
                };
                ExpertWeights::from_stored(weights.stored(&concatenated), &interleaved)
            }),
            LayerBug::TransposedWhenSquare if problem.dims().hidden == problem.dims().intermediate => {
                with_weights(problem, |weights| {
                    let mut stored = weights.stored(&Layer::GPT_OSS);
                    stored.down_proj.swap_axes(1, 2);
                    ExpertWeights::from_stored(stored, &Layer::GPT_OSS)
                })
            }
            LayerBug::TransposedWhenSquare => Ok(problem.clone()),
            LayerBug::MinusOneIsTheLast => with_ids(problem, |id, experts| if id < 0 { experts - 1 } else { id }),
            LayerBug::MinusOneIsTheFirst => with_ids(problem, |id, _| id.max(0)),
            LayerBug::OtherRanksWrap => {
                let first = problem.first_expert().unwrap_or(0) as i64;
                with_ids(problem, |id, experts| first + (id - first).rem_euclid(experts))
            }
            LayerBug::FirstExpertIgnored => {
                let first = problem.first_expert().unwrap_or(0) as i64;
                with_ids(problem, |id, experts| if id < 2 * experts { first + id } else { id })
            }
            LayerBug::SlotWeightsByExpert => {
                let slots = Vec::from_iter(problem.stored_routing_weights());
                let (batch, sequence, experts) = problem.routing_weights().dim();
                let read = |(b, s, e): (usize, usize, usize)| slots[((b * sequence + s) * experts + e) % slots.len()];
                let weights = Array3::from_shape_fn((batch, sequence, experts), read);
                rebuilt(
                    problem,
                    problem.router_indices().to_owned(),
                    weights,
                    problem.weights().clone(),
                )
            }
            LayerBug::WeightOnOutput => with_layer(Layer {
                weight_on: WeightOn::Output,
                ..layer
            }),
            LayerBug::WeightOnInput => with_layer(Layer {
                weight_on: WeightOn::Input,
                ..layer
            }),
            LayerBug::ScaleIgnored => with_layer(Layer { scale: 1.0, ..layer }),
            LayerBug::ScaleTwice => with_layer(Layer {
                scale: layer.scale * layer.scale,
                ..layer
            }),
        }
    }
}

/// Each up less 1, by the biases.
fn lowered_ups<T: CaseElement>(problem: &Problem<T>) -> Result<Problem<T>, Error> {
    let with_bias = problem.clone().with_layer(Layer {
        has_bias: true,
        ..*problem.layer()
    })?;
    with_weights(&with_bias, |weights| {
        let mut bias = weights.gate_up_proj_bias().clone();
        for mut row in bias.rows_mut() {
            row.iter_mut()
                .skip(1)
                .step_by(2)
                .for_each(|up| *up = T::from_f64(CaseElement::to_f64(*up) - 1.0).widen());
        }
        let (first, second, last) = (weights.gate_up_proj(), weights.down_proj(), weights.down_proj_bias());
        ExpertWeights::new(first.clone(), bias, second.clone(), last.clone())
    })
}

/// Columns of the first product in the order that `reorder` gives to those of a layer with all gates first.
fn with_columns<T: CaseElement>(
    problem: &Problem<T>,
    reorder: impl Fn(Vec<usize>) -> Vec<usize>,
) -> Result<Problem<T>, Error> {
    let concatenated = Layer {
        gate_up: GateUpLayout::Concatenated,
        ..Layer::GPT_OSS
    };
    let inner = problem.dims().intermediate;
    let columns = reorder(concatenated.gate_up_columns(inner));
    let places = concatenated.gate_up_places(inner);
    let columns: Vec<usize> = places.iter().map(|place| columns[*place]).collect();
    with_weights(problem, |weights| {
        let (matrix, bias) = (weights.gate_up_proj(), weights.gate_up_proj_bias());
        let (matrix, bias) = (matrix.select(Axis(2), &columns), bias.select(Axis(1), &columns));
        ExpertWeights::new(
            matrix,
            bias,
            weights.down_proj().clone(),
            weights.down_proj_bias().clone(),
        )
    })
}

fn with_weights<T: CaseElement>(
    problem: &Problem<T>,
    change: impl Fn(&ExpertWeights<T>) -> Result<ExpertWeights<T>, Error>,
) -> Result<Problem<T>, Error> {
    let (ids, weights) = (problem.router_indices().to_owned(), problem.routing_weights().clone());
    rebuilt(problem, ids, weights, change(problem.weights())?.into())
}

/// With other ids, given each and E.
fn with_ids<T: CaseElement>(problem: &Problem<T>, change: impl Fn(i64, i64) -> i64) -> Result<Problem<T>, Error> {
    let experts = problem.dims().experts as i64;
    let ids = problem.router_indices().mapv(|id| change(id, experts));
    rebuilt(
        problem,
        ids,
        problem.routing_weights().clone(),
        problem.weights().clone(),
    )
}

/// The same case with other ids, routing weights and experts' weights.
pub(super) fn rebuilt<T: CaseElement>(
    problem: &Problem<T>,
    ids: Array2<i64>,
    routing_weights: Array3<T::Wide>,
    weights: Arc<ExpertWeights<T>>,
) -> Result<Problem<T>, Error> {
    rebuilt_as(problem, ids, routing_weights, weights, *problem.layer())
}

/// The same of another layer.
pub(super) fn rebuilt_as<T: CaseElement>(
    problem: &Problem<T>,
    ids: Array2<i64>,
    routing_weights: Array3<T::Wide>,
    weights: Arc<ExpertWeights<T>>,
    layer: Layer,
) -> Result<Problem<T>, Error> {
    let (hidden_states, first) = (problem.hidden_states().clone(), problem.first_expert().unwrap_or(0));
    let rebuilt = Problem::of_rank(hidden_states, ids, routing_weights, weights, problem.capacity(), first)?;
    Ok(rebuilt.with_layer(layer)?.with_activation(problem.activation()))
}
