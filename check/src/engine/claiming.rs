//! An engine with another domain than its own.

use std::ops::DerefMut;

use super::{Engine, Fault, Outcome};
use crate::case::{AnyProblem, ElementType};
use crate::domain::Domain;
use crate::oracle::Precision;

/// An engine that says another domain than its own: one that takes less, or claims something else. What it computes is the
/// engine's.
///
/// ```
/// use binned_experts_check::engine::{Claiming, Reference};
/// use binned_experts_check::{Domain, Engine};
///
/// let domain = Domain { deterministic: None, ..Reference.domain() };
/// let engine = Claiming { engine: &mut Reference, domain };
/// assert!(!engine.domain().is_deterministic());
/// ```
pub struct Claiming<E> {
    /// A reference to the engine, or its box.
    pub engine: E,
    /// What it says.
    pub domain: Domain,
}

impl<E: DerefMut<Target: Engine>> Engine for Claiming<E> {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn precision(&self, element: ElementType) -> Option<Precision> {
        self.engine.precision(element)
    }

    fn rerun(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.engine.rerun(problem)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.engine.forward(problem)
    }
}
