//! The right results of one case.

use std::borrow::Cow;

use ndarray::{Array2, CowArray, Ix2};

use super::{Definition, Inputs};
use crate::case::ElementType;
use crate::case::stage::{Location, Stage};

/// The right rows of a stage: row i is row `rows[i]` of `value`, and that of the assignment `assignments[i]`.
pub(crate) struct RightRows<'a> {
    pub(crate) assignments: Cow<'a, [usize]>,
    pub(crate) rows: Cow<'a, [usize]>,
    pub(crate) value: CowArray<'a, f64, Ix2>,
}

/// The right results of one case.
#[derive(Debug, Clone)]
pub struct Expected {
    inputs: Inputs,
    definition: Definition,
    shape: Vec<usize>,
    element: ElementType,
    /// Flat indices of the assignments to local experts, expert after expert.
    sorted_indices: Vec<usize>,
    /// The kept ones of them.
    kept: Vec<usize>,
    bins: Vec<usize>,
}

impl Expected {
    /// Computes the definition of a problem whose output has the shape `[B,S,H]` and an element type.
    pub fn new(inputs: Inputs, shape: Vec<usize>, element: ElementType) -> Expected {
        let definition = Definition::new(&inputs);
        Expected::with_definition(inputs, definition, shape, element)
    }

    /// With the definition of the inputs.
    pub(super) fn with_definition(
        inputs: Inputs,
        definition: Definition,
        shape: Vec<usize>,
        element: ElementType,
    ) -> Expected {
        let mut by_expert = vec![Vec::new(); inputs.dims.experts];
        for &flat in &inputs.order {
            by_expert[inputs.assignment(flat).2].push(flat);
        }
        let total = |total: &mut usize, assignments: &Vec<usize>| {
            *total += assignments.len();
            Some(*total)
        };
        let sorted_indices = by_expert.concat();
        let is_kept = |flat: &usize| definition.kept[*flat];
        Expected {
            bins: by_expert.iter().scan(0, total).collect(),
            kept: sorted_indices.iter().copied().filter(is_kept).collect(),
            sorted_indices,
            definition,
            inputs,
            shape,
            element,
        }
    }

    /// The inputs in f64.
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// The element type of the problem.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// The type of the output.
    pub(crate) fn output_type(&self) -> ElementType {
        self.element.of_tensor(self.inputs.layer.output_type)
    }

    /// The definition's stages.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The shape of the output, `[B,S,H]`.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Flat indices of the assignments to local experts, expert after expert, `[T·K]` or fewer.
    pub(crate) fn sorted_indices(&self) -> &[usize] {
        &self.sorted_indices
    }

    /// Inclusive cumulative counts, `[E]`.
    pub(crate) fn bins(&self) -> &[usize] {
        &self.bins
    }

    /// The right rows of a stage that has one for each assignment or for each kept one.
    pub(crate) fn rows(&self, stage: Stage) -> Option<RightRows<'_>> {
        Some(match stage {
            Stage::SelectedWeights => {
                let all: Vec<usize> = (0..self.definition.kept.len()).collect();
                let weights = Array2::from_shape_fn((all.len(), 1), |(flat, _)| self.inputs.selected_weight(flat));
                RightRows {
                    assignments: all.clone().into(),
                    rows: all.into(),
                    value: weights.into(),
                }
            }
            Stage::Gathered => {
                let tokens = self.kept().iter().map(|flat| self.inputs.assignment(*flat).0);
                RightRows {
                    rows: tokens.collect(),
                    ..self.rows_of_kept(&self.inputs.hidden_states)
                }
            }
            Stage::GateUp => self.rows_of_kept(&self.definition.gate_up),
            Stage::Activated => self.rows_of_kept(&self.definition.activated),
            Stage::ExpertOutput => self.rows_of_kept(&self.definition.expert_output),
            Stage::SortedIndices | Stage::Bins | Stage::Output => return None,
        })
    }

    /// A row of its own for each kept assignment.
    fn rows_of_kept<'a>(&'a self, value: &'a Array2<f64>) -> RightRows<'a> {
        RightRows {
            assignments: self.kept().into(),
            rows: self.kept().into(),
            value: value.view().into(),
        }
    }

    /// The kept assignments in sorted order.
    pub(crate) fn kept(&self) -> &[usize] {
        &self.kept
    }

    /// The place of an assignment's value.
    pub(crate) fn locate(&self, flat: usize, column: Option<usize>) -> Location {
        let (token, slot, expert) = self.inputs.assignment(flat);
        Location {
            position: None,
            token: Some(token),
            slot: Some(slot),
            expert: Some(expert).filter(|_| self.inputs.is_local(flat)),
            column,
        }
    }
}
