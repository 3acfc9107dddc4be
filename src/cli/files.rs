//! `run`, `case` and `replay`: single cases.

use std::io::Read;
use std::path::Path;

use binned_experts_check::case::file::{positions, read_case, write_case, write_tensors};
use binned_experts_check::engine::program::tensors;
use binned_experts_check::engine::{forward, precisions_of};
use binned_experts_check::judge::{Trial, judge};
use binned_experts_check::oracle::Coverage;
use binned_experts_check::{
    AnyProblem, CaseSpec, ElementType, Engine, Fault, MachineError, Precision, Selection, Verdict, report,
};

use super::interrupt::Interrupts;
use super::{Case, Conclusion, Failure, Replay, Run, note, print};

pub(super) fn run(arguments: &Run, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    let mut engines = arguments.engines.open(&interrupts.stop)?.engines;
    let [opened] = &mut engines[..] else {
        return Err(format!("expected one engine, found {}", engines.len()).into());
    };
    let problem = read_problem(&arguments.case, arguments.order.as_deref())?;
    let outcome = match forward(&mut *opened.engine, &problem) {
        Ok(outcome) => outcome,
        Err(Fault::Machine(MachineError::Interrupted)) => return Ok(interrupts.conclusion()),
        Err(Fault::Machine(error)) => return Err(error.to_string().into()),
        Err(fault) => {
            let text = report::verdict_text(&Verdict::Fault(fault));
            note(format!("{}: {text}", opened.engine.name()));
            return Ok(Conclusion::Finding);
        }
    };
    write_tensors(&arguments.out, &tensors(&outcome, &problem, usize::MAX))?;
    Ok(Conclusion::Done)
}

/// The case of a file, in the order of one of its tensors where that is named.
fn read_problem(path: &Path, order: Option<&str>) -> Result<AnyProblem, Failure> {
    let file = read_case(path).map_err(|error| in_file(path, &error))?;
    let Some(name) = order else { return Ok(file.problem) };
    let tensor = file.others.get(name);
    let tensor = tensor.ok_or_else(|| format!("--order: no tensor {name} in the case"))?;
    Ok(file.problem.with_order(positions(name, tensor)?)?)
}

/// An error with the file that it is about, once.
fn in_file(path: &Path, error: &dyn std::fmt::Display) -> String {
    let (path, error) = (path.display().to_string(), error.to_string());
    if error.starts_with(&path) {
        error
    } else {
        format!("{path}: {error}")
    }
}

pub(super) fn case(arguments: &Case) -> Result<Conclusion, Failure> {
    let spec = match (&arguments.spec, arguments.seed) {
        (Some(path), _) => read_text(path)?.parse()?,
        (None, seed) => {
            let selection = Selection::default().with_profiles(arguments.profile.iter().copied());
            CaseSpec::from_seed(seed.unwrap_or_default(), &selection)
        }
    };
    write_case(&arguments.out, &spec.build()?)?;
    print(spec.to_string().trim_end())?;
    Ok(Conclusion::Done)
}

pub(super) fn replay(arguments: &Replay, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    let mut engines = arguments.engines.open(&interrupts.stop)?.engines;
    let trial = read_trial(&arguments.case, arguments.order.as_deref(), |element| {
        precisions_of(engines.iter().map(|opened| &*opened.engine as &dyn Engine), element)
    })?;
    print(describe(&trial) + "\n")?;
    let mut found = Conclusion::NothingCompared;
    for opened in &mut engines {
        let judgement = judge(&mut *opened.engine, &trial);
        if let Some(sampled) = judgement.sampled {
            print(format!("{}: {}", opened.engine.name(), report::sampled_text(sampled)))?;
        }
        match conclude(opened.engine.name(), &judgement.verdict, interrupts.conclusion())? {
            interrupted @ Conclusion::Interrupted(_) => return Ok(interrupted),
            Conclusion::Finding => found = Conclusion::Finding,
            Conclusion::Agree if found == Conclusion::NothingCompared => found = Conclusion::Agree,
            _ => {}
        }
    }
    if found == Conclusion::NothingCompared {
        print("INCONCLUSIVE: no engine was compared")?;
    }
    Ok(found)
}

/// The case of a file with what it takes to judge engines of some precisions on it. A case of text is printed.
pub(super) fn read_trial(
    path: &Path,
    order: Option<&str>,
    precisions: impl Fn(ElementType) -> Vec<Precision>,
) -> Result<Trial, Failure> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let problem = read_problem(path, order)?;
        let precisions = precisions(problem.element());
        return Ok(Trial::from_problem(problem, &precisions));
    }
    if order.is_some() {
        return Err("--order: expected a case as safetensors".into());
    }
    let spec: CaseSpec = read_text(path)?.parse().map_err(|error| in_file(path, &error))?;
    print(&spec)?;
    Ok(Trial::from_spec(&spec, &precisions(spec.element))?)
}

/// Prints a verdict, and concludes from it alone; `interrupted` is what is concluded where a signal came.
pub(super) fn conclude(name: &str, verdict: &Verdict, interrupted: Conclusion) -> Result<Conclusion, Failure> {
    print(format!("{name}: {}", report::verdict_text(verdict)))?;
    Ok(match verdict {
        Verdict::Agree { .. } => Conclusion::Agree,
        Verdict::Disagree(_) | Verdict::Fault(_) => Conclusion::Finding,
        Verdict::Declined(_) | Verdict::Skip(_) => Conclusion::NothingCompared,
        Verdict::NotJudged(MachineError::Interrupted) => interrupted,
        Verdict::NotJudged(error) => return Err(error.to_string().into()),
    })
}

pub(super) fn describe(trial: &Trial) -> String {
    let dims = trial.problem().dims();
    let counts = trial.problem().bins().tokens_per_expert();
    let situations = Coverage::new(trial.expected()).named();
    let situations: Vec<&str> = situations
        .iter()
        .filter(|(_, holds)| *holds)
        .map(|(name, _)| *name)
        .collect();
    format!(
        "{} T={} H={} I={} E={} K={} C={}\nassignments per expert: fullest {}, {} experts empty, {} of {} dropped\ncontains: {}",
        trial.problem().element(),
        dims.tokens,
        dims.hidden,
        dims.intermediate,
        dims.experts,
        dims.top_k,
        dims.capacity,
        counts.iter().max().unwrap_or(&0),
        counts.iter().filter(|count| **count == 0).count(),
        trial.problem().bins().dropped(dims.capacity),
        dims.tokens * dims.top_k,
        if situations.is_empty() {
            "nothing out of the ordinary".to_owned()
        } else {
            situations.join(", ")
        },
    )
}

pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}
