//! The right results of one case.

use super::{Definition, Inputs};
use crate::stage::Location;
use crate::tensor::ElementType;

/// The right results of one case.
#[derive(Debug, Clone)]
pub struct Expected {
    inputs: Inputs,
    definition: Definition,
    shape: Vec<usize>,
    element: ElementType,
    /// Flat indices of the assignments, expert after expert.
    sorted_indices: Vec<usize>,
    bins: Vec<usize>,
}

impl Expected {
    /// Computes the definition of a problem whose output has the shape `[B,S,H]` and an element type.
    pub fn new(inputs: Inputs, shape: Vec<usize>, element: ElementType) -> Expected {
        let mut by_expert = vec![Vec::new(); inputs.dims.experts];
        for &flat in &inputs.order {
            by_expert[inputs.assignment(flat).2].push(flat);
        }
        let total = |total: &mut usize, assignments: &Vec<usize>| {
            *total += assignments.len();
            Some(*total)
        };
        Expected {
            definition: Definition::new(&inputs),
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

    /// The definition's stages.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// The shape of the output, `[B,S,H]`.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Flat indices of the assignments, expert after expert, `[T·K]`.
    pub(crate) fn sorted_indices(&self) -> &[usize] {
        &self.sorted_indices
    }

    /// Inclusive cumulative counts, `[E]`.
    pub(crate) fn bins(&self) -> &[usize] {
        &self.bins
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
            expert: Some(expert),
            column,
        }
    }
}
