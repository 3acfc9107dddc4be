//! An engine that takes only what a domain admits.

use std::io::{Error, Result, stdin, stdout};
use std::path::Path;

use binned_experts_check::engine::program::serve;
use binned_experts_check::{AnyProblem, Domain, Engine, Fault, Outcome, Tensor};
use clap::ValueEnum;
use ndarray::ArrayD;

use super::bug::Bug;
use super::engine::Planted;
use super::wrong::WrongEngine;

/// What it does with a case outside its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Outside {
    /// Says that it does not take it
    Declines,
    /// Says that it failed
    Refuses,
    /// Ends
    Crashes,
    /// Returns zeros
    SilentlyWrong,
}

struct Restricted {
    domain: Domain,
    outside: Outside,
    inside: WrongEngine<Planted>,
}

/// Answers the requests on standard input. The arguments: a file with the domain, what happens outside, and the bug inside.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let [path, outside, bug] = arguments else {
        return Err(Error::other("expected a domain, what happens outside, and a bug"));
    };
    let text = std::fs::read_to_string(Path::new(path))?;
    let mut engine = Restricted {
        domain: text.parse().map_err(Error::other)?,
        outside: Outside::from_str(outside, false).map_err(Error::other)?,
        inside: WrongEngine(Planted::new(Bug::from_str(bug, false).map_err(Error::other)?)),
    };
    serve(&mut engine, stdin().lock(), stdout())
}

impl Engine for Restricted {
    fn name(&self) -> &str {
        "restricted"
    }

    fn domain(&self) -> Domain {
        self.domain.meet(&self.inside.domain())
    }

    fn forward(&mut self, problem: &AnyProblem) -> std::result::Result<Outcome, Fault> {
        let admitted = self.domain.admits_problem(problem);
        let Err(reason) = admitted else {
            return self.inside.forward(problem);
        };
        match self.outside {
            Outside::Declines => Err(Fault::declined(reason)),
            Outside::Refuses => Err(Fault::refused(reason)),
            Outside::Crashes => std::process::exit(3),
            Outside::SilentlyWrong => {
                let zeros = ArrayD::zeros(problem.output_shape());
                Ok(Outcome::output(Tensor::from_f64(zeros, problem.element())))
            }
        }
    }
}
