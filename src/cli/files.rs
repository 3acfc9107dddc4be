//! `run`, `case` and `replay`: single cases.

use std::io::Read;
use std::path::Path;

use binned_experts_check::engine::{forward, precisions_of};
use binned_experts_check::judge::{Trial, judge};
use binned_experts_check::oracle::Coverage;
use binned_experts_check::program::{CaseFile, positions, read_case, tensors, write_case, write_tensors};
use binned_experts_check::{CaseSpec, Engine, Selection, report};

use super::{Case, Failure, Replay, Run, print};

pub(super) fn run(arguments: &Run) -> Result<bool, Failure> {
    let mut engines = arguments.engines.open()?;
    let [opened] = &mut engines[..] else {
        return Err(format!("expected one engine, found {}", engines.len()).into());
    };
    let CaseFile { problem, others } = read_case(&arguments.case)?;
    let problem = match &arguments.order {
        None => problem,
        Some(name) => {
            let tensor = others
                .get(name)
                .ok_or_else(|| format!("--order: no tensor {name} in the case"))?;
            problem.with_order(positions(name, tensor)?)?
        }
    };
    let outcome = forward(&mut *opened.engine, &problem)?;
    write_tensors(&arguments.out, &tensors(&outcome, &problem, usize::MAX))?;
    Ok(true)
}

pub(super) fn case(arguments: &Case) -> Result<bool, Failure> {
    let spec = match (&arguments.spec, arguments.seed) {
        (Some(path), _) => read_text(path)?.parse()?,
        (None, seed) => {
            let selection = Selection::default().with_profiles(arguments.profile.iter().copied());
            CaseSpec::from_seed(seed.unwrap_or_default(), &selection)
        }
    };
    write_case(&arguments.out, &spec.build()?)?;
    print(spec.to_string().trim_end())?;
    Ok(true)
}

pub(super) fn replay(arguments: &Replay) -> Result<bool, Failure> {
    let mut engines = arguments.engines.open()?;
    let precisions = |element| precisions_of(engines.iter().map(|opened| &*opened.engine), element);
    let trial = if arguments
        .case
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        let problem = read_case(&arguments.case)?.problem;
        let precisions = precisions(problem.element());
        Trial::from_problem(problem, &precisions)
    } else {
        let spec: CaseSpec = read_text(&arguments.case)?.parse()?;
        print(&spec)?;
        Trial::from_spec(&spec, &precisions(spec.element))?
    };
    print(describe(&trial) + "\n")?;
    let mut agree = true;
    for opened in &mut engines {
        agree &= report_engine(&mut *opened.engine, &trial)?;
    }
    Ok(agree)
}

fn describe(trial: &Trial) -> String {
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

fn report_engine(engine: &mut dyn Engine, trial: &Trial) -> Result<bool, Failure> {
    let judgement = judge(engine, trial);
    print(format!(
        "{}: {}",
        engine.name(),
        report::verdict_text(&judgement.verdict)
    ))?;
    Ok(!judgement.verdict.is_failure())
}

fn read_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        _ => std::fs::read_to_string(path).map(|read| text = read),
    };
    read.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(text)
}
