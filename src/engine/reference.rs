//! The two oracles as engines.

use binned_experts_reference::{Problem, binned_experts_ref};
use ndarray::Array3;

use super::{Engine, Fault, Outcome, Stages};
use crate::definition::{Definition, Inputs};
use crate::precision::Class;
use crate::tensor::{AnyProblem, CaseElement, ElementType, Tensor};

/// `binned-experts-reference`, with all its stages.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Engine for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn class(&self, element: ElementType) -> Option<Class> {
        Some(Class::of(element))
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn takes_order(&self) -> bool {
        true
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::F32(problem) => reference(problem),
            AnyProblem::F64(problem) => reference(problem),
            AnyProblem::Bf16(problem) => reference(problem),
            AnyProblem::F16(problem) => reference(problem),
        }
    }
}

fn reference<T: CaseElement>(problem: &Problem<T>) -> Result<Outcome, Fault> {
    let trace = binned_experts_ref(problem).map_err(Fault::refused)?;
    let stages = Stages {
        sorted_indices: Some(problem.bins().sorted_indices().to_vec()),
        bins: Some(problem.bins().ends().to_vec()),
        selected_weights: Some(trace.selected_weights.iter().map(|weight| weight.to_f64()).collect()),
        gathered: Some(trace.gathered.rows().mapv(T::to_f64)),
        gate_up: Some(trace.gate_up.rows().mapv(T::to_f64)),
        activated: Some(trace.activated.rows().mapv(T::to_f64)),
        expert_output: Some(trace.expert_output.rows().mapv(T::to_f64)),
    };
    Ok(Outcome {
        output: trace.output.into(),
        stages,
    })
}

/// The definition in f64, rounded to the case's element type at the end. It is the yardstick, so it is not checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct DefinitionEngine;

impl Engine for DefinitionEngine {
    fn name(&self) -> &str {
        "definition"
    }

    fn class(&self, element: ElementType) -> Option<Class> {
        Some(Class::of(element))
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn takes_order(&self) -> bool {
        true
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let definition = Definition::new(&Inputs::new(problem));
        let output = match problem {
            AnyProblem::F32(problem) => rounded(problem, definition),
            AnyProblem::F64(problem) => rounded(problem, definition),
            AnyProblem::Bf16(problem) => rounded(problem, definition),
            AnyProblem::F16(problem) => rounded(problem, definition),
        };
        Ok(Outcome::output(output))
    }
}

fn rounded<T: CaseElement>(problem: &Problem<T>, definition: Definition) -> Tensor {
    let values = definition.output.iter().map(|value| T::from_f64(*value)).collect();
    let shape = problem.hidden_states().raw_dim();
    Array3::from_shape_vec(shape, values)
        .expect("the output has the shape of the hidden states")
        .into()
}
