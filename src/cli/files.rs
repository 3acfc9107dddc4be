//! `run`, `case` and `replay`: single cases.

use std::io::Read;
use std::path::Path;

use binned_experts::case::{CaseFile, positions, read_case, write_case, write_tensors};
use binned_experts::engine::{Engine, tensors};
use binned_experts::facts::Facts;
use binned_experts::judge::{Prepared, classes_of, forward, judge};
use binned_experts::{CaseSpec, Selection, report};

use super::{Case, Failure, Replay, Run, print};

pub(super) fn run(arguments: &Run) -> Result<bool, Failure> {
    let mut engines = arguments.engines.open()?;
    let [engine] = &mut engines[..] else {
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
    let outcome = forward(&mut **engine, &problem)?;
    write_tensors(&arguments.out, &tensors(&outcome, &problem, usize::MAX))?;
    Ok(true)
}

pub(super) fn case(arguments: &Case) -> Result<bool, Failure> {
    let spec = match (&arguments.spec, arguments.seed) {
        (Some(path), _) => read_text(path)?.parse()?,
        (None, seed) => {
            let selection = Selection {
                profiles: arguments.profile.clone(),
                ..Selection::default()
            };
            CaseSpec::from_seed(seed.unwrap_or_default(), &selection)
        }
    };
    write_case(&arguments.out, &spec.build()?)?;
    print(spec.to_string().trim_end())?;
    Ok(true)
}

pub(super) fn replay(arguments: &Replay) -> Result<bool, Failure> {
    let mut engines = arguments.engines.open()?;
    let classes = |element| classes_of(engines.iter().map(|engine| &**engine), element);
    let prepared = if arguments
        .case
        .extension()
        .is_some_and(|extension| extension == "safetensors")
    {
        let problem = read_case(&arguments.case)?.problem;
        let classes = classes(problem.element());
        Prepared::from_problem(problem, &classes)
    } else {
        let spec: CaseSpec = read_text(&arguments.case)?.parse()?;
        print(&spec)?;
        Prepared::from_spec(&spec, &classes(spec.element))?
    };
    print(describe(&prepared) + "\n")?;
    let mut agree = true;
    for engine in &mut engines {
        agree &= report_engine(&mut **engine, &prepared)?;
    }
    Ok(agree)
}

fn describe(prepared: &Prepared) -> String {
    let dims = prepared.problem().dims();
    let counts = prepared.problem().bins().tokens_per_expert();
    let facts = Facts::new(prepared.expected()).named();
    let facts: Vec<&str> = facts
        .iter()
        .filter(|(_, holds)| *holds)
        .map(|(name, _)| *name)
        .collect();
    format!(
        "{} T={} H={} I={} E={} K={} C={}\nassignments per expert: fullest {}, {} experts empty, {} of {} dropped\ncontains: {}",
        prepared.problem().element(),
        dims.tokens,
        dims.hidden,
        dims.intermediate,
        dims.experts,
        dims.top_k,
        dims.capacity,
        counts.iter().max().unwrap_or(&0),
        counts.iter().filter(|count| **count == 0).count(),
        prepared.problem().bins().dropped(dims.capacity),
        dims.tokens * dims.top_k,
        if facts.is_empty() {
            "nothing out of the ordinary".to_owned()
        } else {
            facts.join(", ")
        },
    )
}

fn report_engine(engine: &mut dyn Engine, prepared: &Prepared) -> Result<bool, Failure> {
    let judgement = judge(engine, prepared);
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
