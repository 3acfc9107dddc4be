//! Builds kernels with a bug, and runs cases until one fails.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::{Animal, KernelPath, Machine, Mode, ZooError};
use binned_experts_check::judge::{Mismatch, judge_spec};
use binned_experts_check::{CaseSpec, Domain, Engine, Fault, MachineError, Selection, Stop, Verdict};

/// A bug that cannot show is given one case in so many: its file says why, and cases can only contradict that.
const EQUIVALENT_SHARE: usize = 10;

/// How many cases a bug has until it must have shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// Number of cases.
    pub cases: usize,
    /// Case i is the case of seed number `seed + i`, of the element type of the kernels.
    pub seed: u64,
    /// By name, the number of a case that caught a bug before, which is tried first. Where it still does, the cases
    /// before it are left out.
    pub known: BTreeMap<String, usize>,
    /// What the cases are drawn inside of, besides what the kernels take.
    pub domain: Domain,
    /// Ends the run when it is set.
    pub stop: Stop,
}

impl Default for Budget {
    /// That of a check: 1,000 cases from seed 0.
    fn default() -> Budget {
        Budget {
            cases: 1000,
            seed: 0,
            known: BTreeMap::new(),
            domain: Domain::default(),
            stop: Stop::default(),
        }
    }
}

/// The first case that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catch {
    /// The stage that is wrong, or the fault.
    pub by: String,
    /// The number of the case, from 1.
    pub case: usize,
}

/// What became of an animal.
#[derive(Debug, Clone, PartialEq)]
pub struct Visit {
    /// The animal.
    pub animal: Animal,
    /// The catch; none if it survived.
    pub catch: Option<Catch>,
    /// Whether the machine need not show it.
    pub may_be_missed: bool,
    /// Time spent on cases.
    pub time: Duration,
}

impl Visit {
    /// Whether it was caught, or survived as its file says.
    pub fn is_expected(&self) -> bool {
        match self.catch {
            Some(_) => self.animal.equivalent.is_none(),
            None => self.animal.equivalent.is_some() || self.may_be_missed,
        }
    }

    /// The verdict in a word or two.
    pub fn verdict(&self) -> &'static str {
        match (&self.catch, &self.animal.equivalent) {
            (Some(_), None) => "caught",
            (Some(_), Some(_)) => "caught, not equivalent",
            (None, Some(_)) => "equivalent",
            (None, None) if self.may_be_missed => "not shown",
            (None, None) => "survived",
        }
    }
}

/// Visits every animal, several at a time, and hands each to `watch` when it is done. The result is in the order of
/// the animals; where the run was stopped, it has those that were done.
///
/// # Errors
/// [`ZooError`] if a patch does not apply or does not build.
pub fn visit(
    machine: &Machine,
    animals: &[Animal],
    budget: &Budget,
    watch: impl Fn(&Visit) + Sync,
) -> Result<Vec<Visit>, ZooError> {
    animals
        .par_iter()
        .with_max_len(1)
        .filter_map(|animal| match visit_one(machine, animal, budget) {
            // A signal of the terminal also ends the compilers that are at work.
            Err(_) if budget.stop.is_set() => None,
            visit => Some(visit.inspect(&watch)),
        })
        .collect()
}

fn visit_one(machine: &Machine, animal: &Animal, budget: &Budget) -> Result<Visit, ZooError> {
    if budget.stop.is_set() {
        return Err(MachineError::Interrupted.into());
    }
    let mut engine = machine.engine(Some(animal), animal.path, animal.mode())?;
    let start = Instant::now();
    let cases = match animal.equivalent {
        None => budget.cases,
        Some(_) => budget.cases.div_ceil(EQUIVALENT_SHARE),
    };
    let known = budget.known.get(&animal.name).copied().filter(|case| *case <= cases);
    Ok(Visit {
        catch: hunt(&mut *engine, animal, known.into_iter().chain(1..=cases), budget)?,
        time: start.elapsed(),
        may_be_missed: machine.may_miss(animal),
        animal: animal.clone(),
    })
}

/// Runs every case that caught a bug of these kernels on the kernels as they are, which must agree: the first failure, if
/// there is one.
///
/// # Errors
/// [`ZooError::Build`] or [`ZooError::Judge`].
pub fn control(
    machine: &Machine,
    path: KernelPath,
    visits: &[Visit],
    budget: &Budget,
) -> Result<Option<Catch>, ZooError> {
    for mode in Mode::ALL {
        let animals = visits
            .iter()
            .filter(|visit| visit.animal.path == path && visit.animal.mode() == mode);
        let mut caught: Vec<(&Animal, usize)> = animals
            .filter_map(|visit| Some((&visit.animal, visit.catch.as_ref()?.case)))
            .collect();
        if caught.is_empty() {
            continue;
        }
        // Animals whose cases are drawn inside of one domain share them.
        caught.sort_by_key(|(_, case)| *case);
        caught.dedup_by(|(one, one_case), (other, case)| one_case == case && one.domain == other.domain);
        let mut engine = machine.engine(None, path, mode)?;
        for (animal, case) in caught {
            let failed = hunt(&mut *engine, animal, [case], budget)?;
            if failed.is_some() {
                return Ok(failed);
            }
        }
    }
    Ok(None)
}

/// The first case that fails of those of an animal with these numbers, counted from 1.
fn hunt(
    engine: &mut dyn Engine,
    animal: &Animal,
    cases: impl IntoIterator<Item = usize>,
    budget: &Budget,
) -> Result<Option<Catch>, ZooError> {
    let selection = Selection {
        domain: animal.path.domain().meet(&animal.domain).meet(&budget.domain),
        elements: vec![animal.path.element()],
        ..Selection::default()
    };
    if selection.domain.check().is_err() {
        // The budget's domain has no such case.
        return Ok(None);
    }
    for case in cases {
        if budget.stop.is_set() {
            return Err(MachineError::Interrupted.into());
        }
        let spec = CaseSpec::from_seed(budget.seed.wrapping_add(case as u64 - 1), &selection);
        if !animal.path.takes(&spec) {
            // Another path would serve.
            continue;
        }
        let verdict = judge_spec(engine, &spec);
        if let Some(Verdict::NotJudged(error)) = verdict {
            return Err(ZooError::Judge(error));
        }
        if let Some(by) = verdict.as_ref().and_then(caught_by) {
            return Ok(Some(Catch { by, case }));
        }
    }
    Ok(None)
}

/// The stage that is wrong, or the kernel and its fault.
fn caught_by(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Agree { .. } | Verdict::Declined(_) | Verdict::Skip(_) | Verdict::NotJudged(_) => None,
        Verdict::Disagree(mismatch) => Some(match **mismatch {
            Mismatch::NotDeterministic { .. } => "not deterministic".to_owned(),
            Mismatch::NotBatchInvariant { .. } => "not batch-invariant".to_owned(),
            ref mismatch => mismatch.stage().to_string(),
        }),
        Verdict::Fault(fault) => {
            // Such as `refused: gate_up: gate_up: out of bounds: row_starts[4] of length 3`.
            let text = match fault {
                Fault::InWarmup { fault, .. } => fault.to_string(),
                fault => fault.to_string(),
            };
            let parts = text.trim_start_matches("refused: ").split(": ");
            let mut parts: Vec<&str> = parts.filter(|part| !part.contains(".cu:")).collect();
            parts.dedup();
            Some(parts[..parts.len().min(2)].join(": "))
        }
    }
}
