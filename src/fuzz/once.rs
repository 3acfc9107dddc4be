//! An engine that is run once a case.

use binned_experts_check::check::AnyEngine;
use binned_experts_check::{AnyProblem, Domain, ElementType, Engine, Fault, Outcome, Precision};

/// An engine without its claims of bits, each of which takes a further run of a case. [`schedule`](super::schedule) tries
/// many interleavings, and a check tries the claims.
pub(super) struct Once(pub(super) AnyEngine);

impl Engine for Once {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn domain(&self) -> Domain {
        Domain {
            deterministic: None,
            batch_invariant: None,
            ..self.0.domain()
        }
    }

    fn precision(&self, element: ElementType) -> Option<Precision> {
        self.0.precision(element)
    }

    fn rerun(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.0.rerun(problem)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.0.forward(problem)
    }
}
