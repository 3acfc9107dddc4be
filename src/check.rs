//! A run of engines over many cases.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use crate::case::{CaseSpec, FileError, read_case};
use crate::engine::{Engine, Fault};
use crate::facts::Facts;
use crate::generate::Selection;
use crate::judge::{Judgement, Prepared, classes_of, judge, judge_spec};
use crate::precision::Class;
use crate::shrink::{Shrunk, shrink};
use crate::tensor::{AnyProblem, ElementType};
use crate::verdict::{SkipReason, Verdict};

/// Cases prepared together while the ones before them are judged.
const CHUNK: usize = 32;
/// Cases in a row without an answer after which an engine is given up.
const PATIENCE: usize = 10;

/// What a check runs over.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckPlan {
    /// Number of generated cases.
    pub cases: usize,
    /// Case i is the case of seed number `seed + i`.
    pub seed: u64,
    /// What the cases are drawn from. Element types that no engine takes are left out in any case, and so are explicit
    /// orders that are not asked for by name where some engine takes none: the same cases are run without.
    pub selection: Selection,
    /// Files to run besides, each with the orders it holds.
    pub golden: Vec<PathBuf>,
}

impl Default for CheckPlan {
    /// 1,000 cases from seed 0.
    fn default() -> CheckPlan {
        CheckPlan {
            cases: 1000,
            seed: 0,
            selection: Selection::default(),
            golden: Vec::new(),
        }
    }
}

/// One engine on one case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// The case's name: `seed N`, or a golden's file name and order.
    pub case: String,
    /// Its spec, where it was generated.
    pub spec: Option<CaseSpec>,
    /// Position of the engine in the check.
    pub engine: usize,
    /// The verdict.
    pub verdict: Verdict,
    /// The first failing case of an engine, made small.
    pub shrunk: Option<Shrunk>,
}

/// What became of an engine's cases.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EngineTotals {
    /// The engine's name.
    pub name: String,
    /// Cases on which it agrees.
    pub agree: usize,
    /// Cases on which it disagrees.
    pub disagree: usize,
    /// Cases on which it gave no result to compare.
    pub fault: usize,
    /// Cases that were not run, by reason.
    pub skips: Vec<(SkipReason, usize)>,
    /// The largest share of a bound that was used.
    pub used: f64,
    /// The case of that share.
    pub used_by: String,
    /// Output elements that some order of summation leaves open.
    pub undecided: usize,
    /// Output elements compared.
    pub elements: usize,
    /// Time spent in the engine.
    pub time: Duration,
}

impl EngineTotals {
    /// Cases that were not run.
    pub fn skipped(&self) -> usize {
        self.skips.iter().map(|(_, count)| count).sum()
    }

    /// Cases that were compared.
    pub fn compared(&self) -> usize {
        self.agree + self.disagree + self.fault
    }
}

/// The whole run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// One entry an engine.
    pub engines: Vec<EngineTotals>,
    /// Number of cases.
    pub cases: usize,
    /// In how many cases each situation occurred.
    pub coverage: Vec<(&'static str, usize)>,
    /// The first failure of each engine.
    pub failures: Vec<CaseResult>,
    /// Processor time spent building problems.
    pub generating: Duration,
    /// Processor time spent on the definition and the bounds.
    pub oracle: Duration,
    /// Processor time spent comparing.
    pub comparing: Duration,
    /// Wall time of the whole run.
    pub elapsed: Duration,
}

impl Summary {
    /// Whether every engine was compared on at least one case and failed on none.
    pub fn agrees(&self) -> bool {
        self.is_conclusive()
            && self
                .engines
                .iter()
                .all(|totals| totals.disagree == 0 && totals.fault == 0)
    }

    /// Whether every engine was compared on at least one case.
    pub fn is_conclusive(&self) -> bool {
        !self.engines.is_empty() && self.engines.iter().all(|totals| totals.compared() > 0)
    }

    /// For tests.
    ///
    /// # Panics
    /// If an engine failed on a case, or was compared on none; the message is the report.
    pub fn assert_agrees(&self) {
        assert!(self.agrees(), "{}", crate::report::text(self));
    }
}

/// Checks one engine.
pub fn check_engine(engine: &mut dyn Engine, plan: &CheckPlan) -> Summary {
    check(&mut [engine], plan, &mut |_| ControlFlow::Continue(())).unwrap_or_else(|error| panic!("{error}"))
}

/// Checks engines, handing each result to `watch` as it comes, in the order of the cases. Where `watch` breaks, the run
/// ends there, and the summary is that of the results so far.
///
/// # Errors
/// [`FileError`] if a golden cannot be read.
pub fn check(
    engines: &mut [&mut dyn Engine],
    plan: &CheckPlan,
    watch: &mut dyn FnMut(&CaseResult) -> ControlFlow<()>,
) -> Result<Summary, FileError> {
    let start = Instant::now();
    let mut sources = golden_sources(&plan.golden)?;
    let selection = takeable(engines, &plan.selection);
    sources.extend((0..plan.cases as u64).map(|i| Source::Seed(plan.seed.wrapping_add(i))));
    let classes: Vec<(ElementType, Vec<Class>)> = ElementType::ALL
        .iter()
        .map(|&element| (element, classes_of(engines.iter().map(|engine| &**engine), element)))
        .collect();
    let prepare = |sources: &[Source]| -> Vec<Case> {
        sources
            .par_iter()
            .map(|source| source.prepare(&selection, &classes))
            .collect()
    };

    let mut run = Run::new(engines);
    let mut chunks = sources.chunks(CHUNK);
    let mut ready = chunks.next().map(prepare).unwrap_or_default();
    while !ready.is_empty() {
        let next = chunks.next().unwrap_or_default();
        // Engines are not Send, so they stay on this thread while the pool prepares what comes next.
        ready = std::thread::scope(|scope| {
            let preparing = scope.spawn(|| prepare(next));
            let ended = ready
                .iter()
                .try_for_each(|case| run.judge(case, engines, watch))
                .is_break();
            let next = preparing
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            if ended { Vec::new() } else { next }
        });
    }
    Ok(Summary {
        elapsed: start.elapsed(),
        ..run.summary
    })
}

/// The selection, without element types that no engine takes, and without orders where some engine takes none.
fn takeable(engines: &[&mut dyn Engine], selection: &Selection) -> Selection {
    let wanted = |element: &ElementType| selection.elements.is_empty() || selection.elements.contains(element);
    let taken = |element: &ElementType| engines.iter().any(|engine| engine.class(*element).is_some());
    let elements: Vec<ElementType> = ElementType::ALL
        .into_iter()
        .filter(|element| wanted(element) && taken(element))
        .collect();
    Selection {
        elements,
        orders: selection.orders && engines.iter().all(|engine| engine.takes_order()),
        ..selection.clone()
    }
}

/// Where a case comes from.
enum Source {
    Seed(u64),
    Golden(String, Box<AnyProblem>),
}

/// A case that is ready to be judged.
struct Case {
    name: String,
    spec: Option<CaseSpec>,
    prepared: Prepared,
    facts: Facts,
}

impl Source {
    fn prepare(&self, selection: &Selection, classes: &[(ElementType, Vec<Class>)]) -> Case {
        let classes = |element: ElementType| {
            classes
                .iter()
                .find(|(known, _)| *known == element)
                .map(|(_, classes)| &classes[..])
                .unwrap_or_default()
        };
        let (name, spec, prepared) = match self {
            Source::Seed(seed) => {
                let spec = CaseSpec::from_seed(*seed, selection);
                let prepared = Prepared::from_spec(&spec, classes(spec.element))
                    .unwrap_or_else(|error| panic!("the generator made a case that cannot be built: {error}\n{spec}"));
                (format!("seed {seed}"), Some(spec), prepared)
            }
            Source::Golden(name, problem) => {
                let prepared = Prepared::from_problem((**problem).clone(), classes(problem.element()));
                (name.clone(), None, prepared)
            }
        };
        let facts = Facts::new(prepared.expected());
        Case {
            name,
            spec,
            prepared,
            facts,
        }
    }
}

/// Each file as it is, and once more for each other order that it holds.
fn golden_sources(files: &[PathBuf]) -> Result<Vec<Source>, FileError> {
    let mut sources = Vec::new();
    for path in files {
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy()
            .into_owned();
        let file = read_case(path)?;
        for (tensor, values) in file
            .others
            .iter()
            .filter(|(tensor, _)| tensor.ends_with(".sorted_indices"))
        {
            let problem = file
                .problem
                .clone()
                .with_order(crate::case::positions(tensor, values)?)?;
            sources.push(Source::Golden(format!("{name} with {tensor}"), Box::new(problem)));
        }
        sources.push(Source::Golden(name, Box::new(file.problem)));
    }
    Ok(sources)
}

/// Totals as they grow.
struct Run {
    summary: Summary,
    silences: Vec<usize>,
}

impl Run {
    fn new(engines: &[&mut dyn Engine]) -> Run {
        let totals = |engine: &&mut dyn Engine| EngineTotals {
            name: engine.name().to_owned(),
            ..EngineTotals::default()
        };
        let summary = Summary {
            engines: engines.iter().map(totals).collect(),
            coverage: Facts::default().named().map(|(name, _)| (name, 0)).to_vec(),
            ..Summary::default()
        };
        Run {
            summary,
            silences: vec![0; engines.len()],
        }
    }

    fn judge(
        &mut self,
        case: &Case,
        engines: &mut [&mut dyn Engine],
        watch: &mut dyn FnMut(&CaseResult) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        self.summary.cases += 1;
        self.summary.generating += case.prepared.generating;
        self.summary.oracle += case.prepared.oracle;
        for ((_, count), (_, holds)) in self.summary.coverage.iter_mut().zip(case.facts.named()) {
            *count += usize::from(holds);
        }
        for (index, engine) in engines.iter_mut().enumerate() {
            let judgement = if self.silences[index] < PATIENCE {
                judge(*engine, &case.prepared)
            } else {
                Judgement::skipped(SkipReason::GivenUp)
            };
            let result = self.record(case, index, *engine, judgement);
            watch(&result)?;
        }
        ControlFlow::Continue(())
    }

    fn record(&mut self, case: &Case, index: usize, engine: &mut dyn Engine, judgement: Judgement) -> CaseResult {
        let silent = matches!(
            judgement.verdict,
            Verdict::Fault(Fault::TimedOut { .. } | Fault::Crashed { .. })
        );
        self.silences[index] = match judgement.verdict {
            Verdict::Skip(SkipReason::GivenUp) => PATIENCE,
            _ if silent => self.silences[index] + 1,
            _ => 0,
        };
        self.summary.comparing += judgement.comparing;
        let totals = &mut self.summary.engines[index];
        let first_failure = totals.disagree + totals.fault == 0;
        totals.add(&case.name, case.prepared.expected().inputs(), &judgement);
        let shrunk = match &case.spec {
            Some(spec) if first_failure && judgement.verdict.is_failure() => {
                Some(shrink(spec, judgement.verdict.clone(), |candidate| {
                    judge_spec(engine, candidate)
                }))
            }
            _ => None,
        };
        let result = CaseResult {
            case: case.name.clone(),
            spec: case.spec.clone(),
            engine: index,
            verdict: judgement.verdict,
            shrunk,
        };
        if first_failure && result.verdict.is_failure() {
            self.summary.failures.push(result.clone());
        }
        result
    }
}

impl EngineTotals {
    fn add(&mut self, case: &str, inputs: &crate::definition::Inputs, judgement: &Judgement) {
        self.time += judgement.engine;
        match &judgement.verdict {
            Verdict::Agree { used, undecided } => {
                self.agree += 1;
                self.undecided += undecided;
                self.elements += inputs.dims.tokens * inputs.dims.hidden;
                if *used > self.used || self.used_by.is_empty() {
                    (self.used, self.used_by) = (*used, case.to_owned());
                }
            }
            Verdict::Disagree(_) => self.disagree += 1,
            Verdict::Fault(_) => self.fault += 1,
            Verdict::Skip(reason) => match self.skips.iter_mut().find(|(known, _)| known == reason) {
                Some((_, count)) => *count += 1,
                None => self.skips.push((*reason, 1)),
            },
        }
    }
}
