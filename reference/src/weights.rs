//! The experts' weights, which are checked once.

use ndarray::{Array2, Array3};

use crate::problem::expect_shape;
use crate::{Element, Error};

/// The four weight tensors of the experts, and those of the shared experts where there are any. The biases are of the
/// type that operations compute in, which holds those of the element type too.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertWeights<T: Element> {
    gate_up_proj: Array3<T>,
    gate_up_proj_bias: Array2<T::Wide>,
    down_proj: Array3<T>,
    down_proj_bias: Array2<T::Wide>,
    has_ups: bool,
    shared: Option<Box<ExpertWeights<T>>>,
}

impl<T: Element> ExpertWeights<T> {
    /// Takes `gate_up_proj` `[E,H,2I]` (even columns gate, odd columns up), `gate_up_proj_bias` `[E,2I]`, `down_proj`
    /// `[E,I,H]` and `down_proj_bias` `[E,H]`, in any memory layout.
    ///
    /// # Errors
    /// [`Error::OddGateUp`] if the last axis of `gate_up_proj` is odd, [`Error::Shape`] if another tensor does not
    /// fit it.
    pub fn new(
        gate_up_proj: Array3<T>,
        gate_up_proj_bias: Array2<T::Wide>,
        down_proj: Array3<T>,
        down_proj_bias: Array2<T::Wide>,
    ) -> Result<ExpertWeights<T>, Error> {
        let (_, _, gate_up) = gate_up_proj.dim();
        if !gate_up.is_multiple_of(2) {
            return Err(Error::OddGateUp { found: gate_up });
        }
        ExpertWeights {
            gate_up_proj,
            gate_up_proj_bias,
            down_proj,
            down_proj_bias,
            has_ups: true,
            shared: None,
        }
        .fitting()
    }

    /// The weights of a layer whose activation has no ups: `gate_up_proj` `[E,H,I]` and `gate_up_proj_bias` `[E,I]`, and
    /// the others as in [`new`](ExpertWeights::new).
    ///
    /// # Errors
    /// [`Error::Shape`] if a tensor does not fit the first.
    pub fn without_ups(
        gate_up_proj: Array3<T>,
        gate_up_proj_bias: Array2<T::Wide>,
        down_proj: Array3<T>,
        down_proj_bias: Array2<T::Wide>,
    ) -> Result<ExpertWeights<T>, Error> {
        ExpertWeights {
            gate_up_proj,
            gate_up_proj_bias,
            down_proj,
            down_proj_bias,
            has_ups: false,
            shared: None,
        }
        .fitting()
    }

    /// With the weights of shared experts: those of one expert whose intermediate size is a multiple of I. A second
    /// call replaces them.
    ///
    /// # Errors
    /// [`Error::Shape`] if they are not those of one expert with the same H, and with ups where the others have them;
    /// [`Error::BlockSize`] if their intermediate size is no multiple of I, or 0 where I is not.
    pub fn with_shared(self, shared: ExpertWeights<T>) -> Result<ExpertWeights<T>, Error> {
        let (hidden, intermediate, inner) = (self.hidden(), self.intermediate(), shared.intermediate());
        let width = if self.has_ups { inner.saturating_mul(2) } else { inner };
        expect_shape("shared_gate_up_proj", &[1, hidden, width], shared.gate_up_proj.shape())?;
        if !inner.is_multiple_of(intermediate) || (inner == 0) != (intermediate == 0) {
            return Err(Error::BlockSize {
                what: "intermediate of the shared experts",
                block: intermediate,
                found: inner,
            });
        }
        Ok(ExpertWeights {
            shared: Some(Box::new(ExpertWeights { shared: None, ..shared })),
            ..self
        })
    }

    /// The weights, if the other tensors fit the first.
    fn fitting(self) -> Result<ExpertWeights<T>, Error> {
        let (experts, hidden, columns) = self.gate_up_proj.dim();
        let intermediate = if self.has_ups { columns / 2 } else { columns };
        expect_shape("gate_up_proj_bias", &[experts, columns], self.gate_up_proj_bias.shape())?;
        expect_shape("down_proj", &[experts, intermediate, hidden], self.down_proj.shape())?;
        expect_shape("down_proj_bias", &[experts, hidden], self.down_proj_bias.shape())?;
        Ok(self)
    }

    /// Whether there is an up column beside each gate column.
    pub fn has_ups(&self) -> bool {
        self.has_ups
    }

    /// `[E,H,2I]`; even columns gate, odd columns up. `[E,H,I]` without ups.
    pub fn gate_up_proj(&self) -> &Array3<T> {
        &self.gate_up_proj
    }

    /// `[E,2I]`; `[E,I]` without ups.
    pub fn gate_up_proj_bias(&self) -> &Array2<T::Wide> {
        &self.gate_up_proj_bias
    }

    /// `[E,I,H]`.
    pub fn down_proj(&self) -> &Array3<T> {
        &self.down_proj
    }

    /// `[E,H]`.
    pub fn down_proj_bias(&self) -> &Array2<T::Wide> {
        &self.down_proj_bias
    }

    /// The shared experts, as one expert.
    pub fn shared(&self) -> Option<&ExpertWeights<T>> {
        self.shared.as_deref()
    }

    /// The number of shared experts; where I is 0, 1 or none.
    pub fn shared_experts(&self) -> usize {
        let number = |shared: &ExpertWeights<T>| shared.intermediate().checked_div(self.intermediate()).unwrap_or(1);
        self.shared().map_or(0, number)
    }

    /// Whether every bias is a value of the element type.
    pub fn has_biases_of_element(&self) -> bool {
        let biases = self.gate_up_proj_bias.iter().chain(&self.down_proj_bias);
        let is_of_shared = || self.shared().is_none_or(ExpertWeights::has_biases_of_element);
        biases.copied().all(T::holds) && is_of_shared()
    }

    /// H.
    pub fn hidden(&self) -> usize {
        self.gate_up_proj.dim().1
    }

    /// I.
    pub fn intermediate(&self) -> usize {
        self.down_proj.dim().1
    }

    /// E.
    pub fn experts(&self) -> usize {
        self.gate_up_proj.dim().0
    }
}
