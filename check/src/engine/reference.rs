//! The reference and the oracle as engines.

use binned_experts_reference::{Problem, binned_experts_ref};
use ndarray::Array3;

use super::{Engine, Fault, Outcome};
use crate::case::stage::{Stage, Stages};
use crate::case::{AnyProblem, CaseElement, Tensor};
use crate::domain::{Domain, Taken, TieOrder};
use crate::oracle::{Definition, Inputs};

/// `binned-experts-reference`, with all its stages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Engine for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn domain(&self) -> Domain {
        exact()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        with_problem!(problem, problem => reference(problem))
    }
}

fn reference<T: CaseElement>(problem: &Problem<T>) -> Result<Outcome, Fault> {
    let trace = binned_experts_ref(problem).map_err(Fault::refused)?;
    let weights: Vec<f64> = trace
        .selected_weights
        .iter()
        .map(|weight| CaseElement::to_f64(*weight))
        .collect();
    let stages = Stages::default()
        .with(Stage::SortedIndices, problem.bins().sorted_indices().to_vec())
        .with(Stage::Bins, problem.bins().ends().to_vec())
        .with(Stage::SelectedWeights, weights)
        .with(Stage::Gathered, trace.gathered.rows().mapv(T::to_f64))
        .with(Stage::GateUp, trace.gate_up.rows().mapv(T::to_f64))
        .with(Stage::Activated, trace.activated.rows().mapv(T::to_f64))
        .with(Stage::ExpertOutput, trace.expert_output.rows().mapv(T::to_f64));
    Ok(Outcome {
        output: T::narrowed(trace.output, problem.layer().output_type),
        stages,
    })
}

/// Every element type, layer and id, and an explicit order, with the same bits each time.
fn exact() -> Domain {
    Domain {
        tie_order: Some(TieOrder::Given),
        deterministic: Some(true),
        layers: Some(Taken::Any),
        foreign: Some(Taken::Any),
        views: Some(Taken::Any),
        ..Domain::default()
    }
}

/// The definition in f64, rounded to the type of the output at the end. Engines are compared with it, so it is not
/// checked itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefinitionEngine;

impl Engine for DefinitionEngine {
    fn name(&self) -> &str {
        "definition"
    }

    fn domain(&self) -> Domain {
        exact()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let definition = Definition::new(&Inputs::new(problem));
        let output = with_problem!(problem, problem => rounded(problem, definition));
        Ok(Outcome::output(output))
    }
}

fn rounded<T: CaseElement>(problem: &Problem<T>, definition: Definition) -> Tensor {
    let output_type = problem.layer().output_type;
    let values = definition.output.iter().map(|value| T::rounded(*value, output_type));
    let output = Array3::from_shape_vec(problem.hidden_states().raw_dim(), values.collect());
    T::narrowed(
        output.expect("the output has the shape of the hidden states"),
        output_type,
    )
}
