//! `check`: engines over many cases.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use binned_experts_check::check::{CaseResult, CheckPlan, End, Shapes, Watch, check as run_check};
use binned_experts_check::{CaseSpec, Domain, Selection, Summary, report};

use super::engines::Choice;
use super::interrupt::Interrupts;
use super::junit::Junit;
use super::saved::{self, Saved};
use super::{Check, Conclusion, Failure, Format, print};
use crate::engines::{Checked, built_in};
use crate::progress::Progress;

/// The usual number of cases, and that of cases each of which takes a minute.
const CASES: usize = 1000;
const LARGE_CASES: usize = 2;

pub(super) fn check(arguments: &Check, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    for name in &arguments.engines.engine {
        if built_in(name).is_some_and(|engine| engine.checked == Checked::Never) {
            return Err(format!("--engine: {name} is what engines are compared with; it cannot be checked").into());
        }
    }
    let plan = plan(arguments, interrupts)?;
    let Choice { engines, unavailable } = arguments.engines.open(&interrupts.stop)?;
    let names: Vec<String> = engines.iter().map(|opened| opened.engine.name().to_owned()).collect();
    let precision = arguments.engines.precision.map(|precision| precision.to_string());
    let saved = Saved::new(&arguments.save, &names, precision.as_deref())?;
    let is_table = arguments.format == Format::Table;
    if is_table {
        print(format!("failing cases go to {}\n", saved.directory().display()))?;
    }

    let steps = plan
        .cases
        .saturating_add(plan.golden.len() + plan.specs.len() + plan.outside)
        / plan.shard.count();
    let mut watched = Watched {
        progress: Progress::new(steps.saturating_mul(names.len()), !is_table),
        names: &names,
        saved,
        junit: arguments.junit.as_ref().map(|_| Junit::new(&names)),
        streams: !is_table,
        failures: 0,
        max_failures: arguments.max_failures(),
        printed: Ok(()),
    };
    let contenders = engines.into_iter().map(|opened| opened.contender(arguments.jobs));
    let summary = run_check(&mut contenders.collect::<Vec<_>>(), &plan, &mut watched);
    watched.progress.finish();
    let Watched {
        saved, printed, junit, ..
    } = watched;
    if let (Some(mut junit), Some(path)) = (junit, &arguments.junit) {
        if let Ok(summary) = &summary {
            junit.conclude(summary);
        }
        junit.write(path)?;
    }
    printed?;
    let summary = summary?;

    if is_table {
        for failure in &summary.failures {
            let name = &names[failure.engine];
            print(report::Told::new(name, failure))?;
            let lines = saved.replay_lines(name, failure, &arguments.engines.arguments());
            print(format!("{lines}\n"))?;
        }
        let saved = saved.finish()?;
        if arguments.times {
            print(report::case_times(&summary))?;
        }
        for line in unavailable.into_iter().chain(saved) {
            print(line)?;
        }
        print(report::totals(&summary))?;
    } else {
        print(report::totals_json(&summary))?;
        saved.finish()?;
    }
    conclusion(&summary, interrupts.conclusion())
}

fn plan(arguments: &Check, interrupts: &Interrupts) -> Result<CheckPlan, Failure> {
    let golden = arguments.golden.as_deref().map(safetensors_files).transpose()?;
    let shapes = shapes(arguments)?;
    let mut specs = Vec::new();
    if arguments.rerun_failed {
        specs.extend(saved::newest(&arguments.save)?);
    }
    if let Some(directory) = &arguments.cases_from {
        specs.extend(saved::all(directory)?);
    }
    Ok(CheckPlan {
        cases: arguments.cases.unwrap_or_else(|| usual_cases(&shapes, arguments.seed)),
        seed: arguments.seed,
        selection: Selection {
            domain: arguments.engines.domain()?,
            elements: arguments.engines.elements(),
            ..Selection::default().with_profiles(arguments.profile.iter().copied())
        },
        golden: golden.unwrap_or_default(),
        specs,
        shard: arguments.shard.unwrap_or_default(),
        shapes,
        outside: arguments.outside,
        at_least: arguments.at_least,
        is_strict: arguments.strict,
        repeat: arguments.repeat,
        measure: arguments.measure,
        shrink_budget: arguments.shrink_budget,
        stop: interrupts.stop.clone(),
    })
}

/// The shapes of the generated cases.
fn shapes(arguments: &Check) -> Result<Shapes, Failure> {
    if let Some(model) = &arguments.model {
        let shape = Domain::of_model(model, arguments.tokens);
        shape.check().map_err(|error| format!("--tokens: {error}"))?;
        return Ok(Shapes::Given(vec![shape]));
    }
    Ok(match arguments.shapes {
        Some(number) => Shapes::Drawn(usize::try_from(number).unwrap_or(usize::MAX)),
        None if arguments.shape.is_empty() => Shapes::Any,
        None => Shapes::Given(arguments.shape.clone()),
    })
}

/// The number of generated cases if nobody says it.
fn usual_cases(shapes: &Shapes, seed: u64) -> usize {
    let is_large = |shape: &Domain| {
        let selection = Selection {
            domain: shape.clone(),
            ..Selection::default()
        };
        CaseSpec::from_seed(seed, &selection).sampled
    };
    match shapes {
        Shapes::Given(shapes) if shapes.iter().any(is_large) => LARGE_CASES,
        _ => CASES,
    }
}

/// What a summary says; `interrupted` is that of a run that a signal ended.
pub(super) fn conclusion(summary: &Summary, interrupted: Conclusion) -> Result<Conclusion, Failure> {
    match &summary.end {
        End::Machine(error) => Err(error.to_string().into()),
        End::Interrupted => Ok(interrupted),
        _ if summary.has_failures() => Ok(Conclusion::Finding),
        _ if summary.agrees() => Ok(Conclusion::Agree),
        _ => Ok(Conclusion::NothingCompared),
    }
}

/// Saves, prints and counts what comes.
struct Watched<'a> {
    progress: Progress,
    names: &'a [String],
    saved: Saved,
    junit: Option<Junit>,
    /// Whether each result is printed as it comes.
    streams: bool,
    failures: usize,
    max_failures: Option<usize>,
    printed: std::io::Result<()>,
}

impl Watch for Watched<'_> {
    fn failing(&mut self, result: &CaseResult) {
        self.failures += 1;
        self.progress.failing();
        self.saved.failing(&self.names[result.engine], result);
    }

    fn shrinking(&mut self, tries: usize) {
        self.progress.shrinking(tries);
    }

    fn result(&mut self, result: &CaseResult) -> ControlFlow<()> {
        let name = &self.names[result.engine];
        self.saved.shrunk(name, result);
        self.progress.step();
        if let Some(junit) = &mut self.junit
            && result.beyond.is_none()
        {
            junit.add(result);
        }
        if self.streams {
            self.printed = print(report::case_json(name, result));
        }
        match self.printed {
            Ok(()) if self.max_failures.is_none_or(|most| self.failures < most) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// The safetensors files of a directory, in the order of their names.
fn safetensors_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refused = |error: std::io::Error| format!("--golden: could not read {}: {error}", directory.display());
    let entries = std::fs::read_dir(directory).map_err(refused)?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(refused)?.path();
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(format!("--golden: no safetensors file in {}", directory.display()).into());
    }
    files.sort();
    Ok(files)
}
