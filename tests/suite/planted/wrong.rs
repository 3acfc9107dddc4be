//! What is wrong in one way, as an engine and as a program.

use std::io::{stdin, stdout};

use binned_experts_check::engine::program::serve;
use binned_experts_check::{AnyProblem, CaseElement, Domain, Engine, Fault, Outcome, Precision};
use binned_experts_reference::{Problem, binned_experts_ref};

/// It computes cases of three element types in the stable order.
pub(super) trait Wrong {
    /// What it takes beside that.
    fn takes(&self, usual: Domain) -> Domain {
        usual
    }

    fn run<T: CaseElement>(&mut self, problem: &Problem<T>) -> Result<Outcome, Fault>;
}

pub(super) struct WrongEngine<W>(pub(super) W);

impl<W: Wrong> WrongEngine<W> {
    /// Answers the requests on standard input.
    pub(super) fn serve(mut self) -> std::io::Result<()> {
        serve(&mut self, stdin().lock(), stdout())
    }
}

impl<W: Wrong> Engine for WrongEngine<W> {
    fn name(&self) -> &str {
        "planted"
    }

    fn domain(&self) -> Domain {
        self.0.takes(Domain {
            precision: Some(vec![Precision::FP32, Precision::BF16, Precision::F16]),
            ..Domain::in_stable_order()
        })
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::F32(problem) => self.0.run(problem),
            AnyProblem::Bf16(problem) => self.0.run(problem),
            AnyProblem::F16(problem) => self.0.run(problem),
            AnyProblem::F64(_) => Err(Fault::refused("expected f32, bf16 or f16, found f64")),
        }
    }
}

/// The output of the problem that was taken for another.
pub(super) fn output_of<T: CaseElement>(taken: &Problem<T>) -> Result<Outcome, Fault> {
    let trace = binned_experts_ref(taken).map_err(Fault::refused)?;
    Ok(Outcome::output(T::narrowed(trace.output, taken.layer().output_type)))
}
