//! From a kernel to its domain: what it takes, found by asking.
//!
//! A case that the kernel takes is the start. Each layer of a published model is tried, and each axis varied from there, then
//! what interacts: I with H, K with E.
//! Between the greatest size that is taken and the next that is not, halving finds the limit. A wrong result is a bug and
//! is told as one; it is never taken for a limit.

mod bits;
mod probe;
mod rule;
mod search;
mod start;
mod text;

pub use probe::Tally;

use self::search::Search;
use crate::case::CaseSpec;
use crate::check::{CheckError, CheckPlan, Contender, End, check};
use crate::domain::{Domain, DomainError};
use crate::engine::{Claiming, Engine, Fault, MachineError};
use crate::generate::Selection;
use crate::judge::Verdict;

/// Cases inside the domain that was found, at the end.
const CONFIRMING: usize = 100;

/// What was found, with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The domain.
    pub domain: Domain,
    /// For each field that was asked about: its name, and what became of the cases.
    pub evidence: Vec<(&'static str, Tally)>,
    /// Cases with a wrong result.
    pub wrong: Vec<(CaseSpec, Verdict)>,
    /// What became of cases drawn inside the domain at the end.
    pub inside: Tally,
    /// Number of cases.
    pub asked: usize,
}

/// Why no domain was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The kernel takes none of the cases that are tried first.
    #[error("expected the kernel to take one of {tried} plain cases, found none; name the sizes of one that it takes")]
    NothingTaken {
        /// How many were tried.
        tried: usize,
    },
    /// What was found makes no sense.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// The cases inside the domain could not be run.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// Finds the domain of a kernel. `start` has sizes T, H, I, E and K that it takes, if somebody knows some.
///
/// # Errors
/// [`FindError`] if it takes nothing, or the machine fails.
pub fn find(engine: &mut dyn Engine, start: Option<[usize; 5]>) -> Result<Found, FindError> {
    let mut search = Search::new(engine, start)?;
    search.element_types()?;
    search.layers()?;
    search.widths()?;
    search.tokens()?;
    search.experts()?;
    search.slots()?;
    search.capacity()?;
    search.numbers()?;
    search.values_and_order()?;
    search.bits()?;
    let Search {
        probe,
        domain,
        evidence,
        ..
    } = search;
    let (wrong, asked) = (probe.wrong, probe.asked);
    domain.check()?;
    let inside = confirmed(engine, &domain)?;
    Ok(Found {
        domain,
        evidence,
        wrong,
        inside,
        asked: asked + CONFIRMING,
    })
}

/// What becomes of cases that are drawn inside the domain.
fn confirmed(engine: &mut dyn Engine, domain: &Domain) -> Result<Tally, FindError> {
    let plan = CheckPlan {
        cases: CONFIRMING,
        selection: Selection {
            domain: domain.clone(),
            ..Selection::default()
        },
        shrink_budget: 0,
        ..CheckPlan::default()
    };
    let mut tally = Tally::default();
    // An engine that says nothing of layers takes that of gpt-oss alone.
    let of_layers = Domain {
        layers: domain.layers.clone(),
        ..engine.domain()
    };
    let mut claiming = Claiming {
        engine,
        domain: of_layers,
    };
    let mut contenders = [Contender::single(&mut claiming)];
    let summary = check(&mut contenders, &plan, &mut |result: &crate::check::CaseResult| {
        match &result.verdict {
            Verdict::Agree { .. } => tally.right += 1,
            Verdict::Disagree(_) => tally.wrong += 1,
            Verdict::Declined(_) | Verdict::Skip(_) => tally.declined += 1,
            Verdict::Fault(Fault::Refused { .. }) => tally.declined += 1,
            Verdict::Fault(_) => tally.crashed += 1,
            Verdict::NotJudged(_) => {}
        }
        std::ops::ControlFlow::Continue(())
    });
    match summary?.end {
        End::Machine(error) => Err(error.into()),
        End::Interrupted => Err(MachineError::Interrupted.into()),
        _ => Ok(tally),
    }
}
