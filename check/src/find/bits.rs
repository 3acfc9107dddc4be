//! What a kernel may claim of bits: the same from run to run, and the same for a token in any batch.

use super::probe::{Reply, Tally};
use super::{FindError, Search};
use crate::case::CaseSpec;
use crate::domain::Domain;
use crate::engine::{Claiming, Engine, Fault, forward, precisions_of};
use crate::judge::{Mismatch, Trial, Verdict, compare_runs, judge};

/// Runs of one case.
const RUNS: usize = 8;
/// T of the cases whose tokens are put into another batch; what batch that is hangs on the sizes.
const BATCHES: [usize; 12] = [1, 2, 3, 5, 7, 8, 16, 24, 33, 48, 63, 64];

impl Search<'_> {
    /// Whether runs give the same bits.
    pub(super) fn bits(&mut self) -> Result<(), FindError> {
        self.runs()?;
        self.batches()
    }

    /// Whether several runs of a case give the same bits.
    fn runs(&mut self) -> Result<(), FindError> {
        let most = self.domain.tokens.at_most(64).filter(|tokens| *tokens > 0);
        let spec = self.undropped(most.unwrap_or(self.base.sequence));
        let Ok(problem) = spec.build() else { return Ok(()) };
        let mut tally = Tally::default();
        let mut first = None;
        for _ in 0..RUNS {
            let outcome = match forward(self.probe.engine(), &problem) {
                Ok(outcome) => outcome,
                Err(Fault::Machine(error)) => return Err(error.into()),
                // Nothing is claimed.
                Err(_) => return Ok(()),
            };
            let is_same = first.as_ref().is_none_or(|first| compare_runs(first, &outcome).is_ok());
            tally.add(if is_same { Reply::Right } else { Reply::Wrong });
            first.get_or_insert(outcome);
        }
        self.domain.deterministic = Some(true).filter(|_| tally.wrong == 0);
        self.evidence.push(("deterministic", tally));
        Ok(())
    }

    /// Whether the rows of tokens have the same bits in another batch.
    fn batches(&mut self) -> Result<(), FindError> {
        let specs = BATCHES.map(|tokens| self.undropped(tokens));
        let domain = Domain {
            batch_invariant: Some(true),
            ..self.domain.clone()
        };
        let mut tally = Tally::default();
        for spec in specs.iter().filter(|spec| domain.admits(spec).is_ok()) {
            let mut claiming = Claiming {
                engine: self.probe.engine(),
                domain: domain.clone(),
            };
            let precisions = precisions_of([&claiming as &dyn Engine], spec.element);
            let Ok(trial) = Trial::from_spec(spec, &precisions) else {
                continue;
            };
            match judge(&mut claiming, &trial).verdict {
                Verdict::Agree { .. } => tally.add(Reply::Right),
                Verdict::Disagree(mismatch) if matches!(*mismatch, Mismatch::NotBatchInvariant { .. }) => {
                    tally.add(Reply::Wrong);
                }
                Verdict::NotJudged(error) => return Err(error.into()),
                // Nothing is claimed.
                _ => return Ok(()),
            }
        }
        self.domain.batch_invariant = Some(true).filter(|_| tally.right > 0 && tally.wrong == 0);
        self.evidence.push(("batch_invariant", tally));
        Ok(())
    }

    /// The base with another number of tokens, and nothing dropped.
    fn undropped(&self, tokens: usize) -> CaseSpec {
        let capacity = tokens * self.base.top_k;
        CaseSpec {
            batch: 1,
            sequence: tokens,
            capacity: self.domain.capacity.at_most(capacity).unwrap_or(capacity),
            ..self.base.clone()
        }
    }
}
