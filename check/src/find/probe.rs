//! Single cases that are put to a kernel, and what became of them.

use std::fmt;

use crate::case::{CaseSpec, CaseViews, ElementType, LayerSpec, Routing, RoutingProfile, ValueProfile, WeightProfile};
use crate::engine::{Engine, Fault, MachineError, forward};
use crate::judge::{Trial, Verdict, judge_outcome};

/// The most of the failing cases that are kept.
const MAX_KEPT: usize = 20;

/// What became of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// A right result.
    Right,
    /// The kernel said that it does not take the case, or that it failed.
    Declined,
    /// A wrong result.
    Wrong,
    /// No answer, or one that cannot be read.
    Crashed,
}

impl Reply {
    /// Whether the kernel takes such cases, right or wrong: a wrong result is a bug, not a limit.
    pub(super) fn is_taken(self) -> bool {
        matches!(self, Reply::Right | Reply::Wrong)
    }
}

/// Numbers of replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Right results.
    pub right: usize,
    /// Cases that were declined or refused.
    pub declined: usize,
    /// Wrong results.
    pub wrong: usize,
    /// Cases without an answer.
    pub crashed: usize,
}

impl Tally {
    pub(super) fn add(&mut self, reply: Reply) {
        match reply {
            Reply::Right => self.right += 1,
            Reply::Declined => self.declined += 1,
            Reply::Wrong => self.wrong += 1,
            Reply::Crashed => self.crashed += 1,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.right, "right"),
            (self.declined, "declined"),
            (self.wrong, "WRONG"),
            (self.crashed, "crashed"),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, name)| format!("{number} {name}"))
            .collect();
        f.write_str(&parts.join(", "))
    }
}

/// Puts cases to a kernel.
pub(super) struct Probe<'a> {
    engine: &'a mut dyn Engine,
    /// Wrong results, each with its case.
    pub(super) wrong: Vec<(CaseSpec, Verdict)>,
    /// Number of cases.
    pub(super) asked: usize,
}

impl<'a> Probe<'a> {
    pub(super) fn new(engine: &'a mut dyn Engine) -> Probe<'a> {
        Probe {
            engine,
            wrong: Vec::new(),
            asked: 0,
        }
    }

    pub(super) fn engine(&mut self) -> &mut dyn Engine {
        self.engine
    }

    /// What becomes of a case; none where it cannot be built.
    pub(super) fn ask(&mut self, spec: &CaseSpec) -> Result<Option<Reply>, MachineError> {
        let Ok(problem) = spec.build() else { return Ok(None) };
        self.asked += 1;
        let Some(precision) = self.engine.precision(spec.element) else {
            return Ok(Some(Reply::Declined));
        };
        // What is right is computed only where there is a result: for large cases it takes longer than a refusal.
        let outcome = match forward(self.engine, &problem) {
            Ok(outcome) => outcome,
            Err(Fault::Machine(error)) => return Err(error),
            Err(Fault::Declined { .. } | Fault::Refused { .. } | Fault::Panicked { .. }) => {
                return Ok(Some(Reply::Declined));
            }
            Err(_) => return Ok(Some(Reply::Crashed)),
        };
        let trial = Trial::from_problem(problem, &[precision]);
        match judge_outcome(&trial, precision, &self.engine.domain(), &outcome) {
            None => Ok(Some(Reply::Declined)),
            Some(Verdict::Agree { .. }) => Ok(Some(Reply::Right)),
            Some(verdict) => {
                if self.wrong.len() < MAX_KEPT {
                    self.wrong.push((spec.clone(), verdict));
                }
                Ok(Some(Reply::Wrong))
            }
        }
    }
}

/// A case without anything out of the ordinary: different experts in each token, nothing dropped.
pub(super) fn plain(element: ElementType, [tokens, hidden, intermediate, experts, top_k]: [usize; 5]) -> CaseSpec {
    CaseSpec {
        element,
        batch: 1,
        sequence: tokens,
        hidden,
        intermediate,
        experts,
        top_k,
        capacity: tokens * top_k,
        alpha: 1.702,
        limit: 7.0,
        seed: 1,
        routing: Routing::Profile(RoutingProfile::Distinct),
        distinct: top_k <= experts,
        values: ValueProfile::Gentle,
        weights: WeightProfile::Normalised,
        special: None,
        against: None,
        warmup: None,
        order: None,
        larger: None,
        layer: LayerSpec::default(),
        foreign: None,
        views: CaseViews::new(),
        sampled: false,
    }
}
