//! Engines that are right where every tensor is of the element type, and wrong where one is wide.

use binned_experts_check::domain::Taken;
use binned_experts_check::{CaseElement, Domain, Fault, Outcome};
use binned_experts_reference::{Error, ExpertWeights, Problem, TensorType, binned_experts_ref};
use clap::ValueEnum;
use ndarray::{Array, Dimension};

use super::layers::rebuilt;
use super::wrong::{Wrong, output_of};

/// A bug that needs f32 beside bf16 or f16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TypeBug {
    /// Wide routing weights are rounded to the element type first
    WeightsNarrowed,
    /// Wide biases are rounded to the element type first
    BiasesNarrowed,
    /// A wide output is rounded to the element type on the way
    OutputNarrowed,
    /// The output is of the element type where it is to be wide
    OutputOfElement,
}

impl Wrong for TypeBug {
    fn takes(&self, usual: Domain) -> Domain {
        Domain {
            layers: Some(Taken::Any),
            ..usual
        }
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault> {
        match self {
            TypeBug::WeightsNarrowed | TypeBug::BiasesNarrowed => {
                output_of(&self.taken_for(problem).map_err(Fault::refused)?)
            }
            TypeBug::OutputNarrowed | TypeBug::OutputOfElement => {
                let output = narrowed::<T, _>(&binned_experts_ref(problem).map_err(Fault::refused)?.output);
                let output_type = match self {
                    TypeBug::OutputOfElement => TensorType::Element,
                    _ => problem.layer().output_type,
                };
                Ok(Outcome::output(T::narrowed(output, output_type)))
            }
        }
    }
}

impl TypeBug {
    /// The domain that has what it needs, with small cases, which count in the sums.
    pub(crate) fn needs(self) -> String {
        let layer = match self {
            TypeBug::WeightsNarrowed => "'mixtral-f32-weights'",
            TypeBug::BiasesNarrowed => "'gpt-oss-f32-biases'",
            TypeBug::OutputNarrowed | TypeBug::OutputOfElement => "{ output_type = 'wide' }",
        };
        format!(
            "precision = ['bf16']\nlayers = [{layer}]\ntokens = {{ max = 24 }}\nhidden = {{ max = 32 }}\n\
             intermediate = {{ max = 32 }}\n"
        )
    }

    /// What tells of it: a direction of the sums over a run, or the kind of a verdict.
    pub(crate) fn shows_as(self) -> &'static str {
        match self {
            TypeBug::WeightsNarrowed => "routing-weights-narrowed",
            TypeBug::BiasesNarrowed => "biases-narrowed",
            TypeBug::OutputNarrowed => "disagree",
            TypeBug::OutputOfElement => "wrong-type",
        }
    }

    fn taken_for<T: CaseElement>(self, problem: &Problem<T>) -> Result<Problem<T>, Error> {
        let (ids, weights) = (problem.router_indices().to_owned(), problem.weights());
        if self == TypeBug::WeightsNarrowed {
            return rebuilt(
                problem,
                ids,
                narrowed::<T, _>(problem.routing_weights()),
                weights.clone(),
            );
        }
        let weights = ExpertWeights::new(
            weights.gate_up_proj().clone(),
            narrowed::<T, _>(weights.gate_up_proj_bias()),
            weights.down_proj().clone(),
            narrowed::<T, _>(weights.down_proj_bias()),
        )?;
        rebuilt(problem, ids, problem.routing_weights().clone(), weights.into())
    }
}

/// Values rounded to the element type.
fn narrowed<T: CaseElement, D: Dimension>(wide: &Array<T::Wide, D>) -> Array<T::Wide, D> {
    wide.mapv(|value| T::narrow(value).widen())
}
