//! The right results of one case.

use ndarray::{Array2, CowArray, Ix2};

use super::{Definition, Inputs};
use crate::case::ElementType;
use crate::case::stage::{Location, Stage};

/// The right rows of a stage: row i is row `rows[i]` of `value`, and that of the assignment `assignments[i]`.
pub(crate) struct RightRows<'a> {
    pub(crate) assignments: Vec<usize>,
    pub(crate) rows: Vec<usize>,
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
        Expected {
            definition,
            bins: by_expert.iter().scan(0, total).collect(),
            sorted_indices: by_expert.concat(),
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
        let (assignments, rows, value): (_, _, CowArray<'_, f64, Ix2>) = match stage {
            Stage::SelectedWeights => {
                let all: Vec<usize> = (0..self.definition.kept.len()).collect();
                let weights = Array2::from_shape_fn((all.len(), 1), |(flat, _)| self.inputs.selected_weight(flat));
                (all.clone(), all, weights.into())
            }
            Stage::Gathered => {
                let kept = self.kept();
                let tokens = kept.iter().map(|flat| self.inputs.assignment(*flat).0).collect();
                (kept, tokens, self.inputs.hidden_states.view().into())
            }
            Stage::GateUp => (self.kept(), self.kept(), self.definition.gate_up.view().into()),
            Stage::Activated => (self.kept(), self.kept(), self.definition.activated.view().into()),
            Stage::ExpertOutput => (self.kept(), self.kept(), self.definition.expert_output.view().into()),
            Stage::SortedIndices | Stage::Bins | Stage::Output => return None,
        };
        Some(RightRows {
            assignments,
            rows,
            value,
        })
    }

    /// The kept assignments in sorted order.
    pub(crate) fn kept(&self) -> Vec<usize> {
        self.sorted_indices
            .iter()
            .copied()
            .filter(|flat| self.definition.kept[*flat])
            .collect()
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
