//! `check`: engines over many cases.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

use binned_experts::engines::built_in;
use binned_experts_check::check::{CaseResult, CheckPlan, Contender, check as run_check};
use binned_experts_check::{Selection, report};

use super::engines::{Opened, quoted};
use super::{Check, Engines, Failure, Format, print};

/// The most failing cases written for each engine.
const MAX_SAVED: usize = 10;

pub(super) fn check(arguments: &Check) -> Result<bool, Failure> {
    for name in &arguments.engines.engine {
        if built_in(name).is_some_and(|engine| !engine.is_checked) {
            return Err(format!("--engine: {name} is what engines are compared with; it cannot be checked").into());
        }
    }
    let plan = CheckPlan {
        cases: arguments.cases,
        seed: arguments.seed,
        selection: Selection {
            elements: arguments.engines.elements(),
            ..Selection::default().with_profiles(arguments.profile.iter().copied())
        },
        golden: arguments
            .golden
            .as_deref()
            .map(safetensors_files)
            .transpose()?
            .unwrap_or_default(),
    };
    let mut engines = arguments.engines.open()?;
    let names: Vec<String> = engines.iter().map(|opened| opened.engine.name().to_owned()).collect();
    let mut contenders: Vec<Contender<'_>> = engines.iter_mut().map(Opened::contender).collect();

    let progress = progress_bar((plan.cases + plan.golden.len()) * names.len());
    let mut saved = Saved {
        directory: &arguments.save,
        counts: vec![0; names.len()],
        error: None,
    };
    let mut printed = Ok(());
    let summary = run_check(&mut contenders, &plan, &mut |result| {
        progress.inc(1);
        let name = &names[result.engine];
        saved.save(name, result);
        if arguments.format == Format::Json {
            printed = print(report::case_json(name, result));
        }
        match printed {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    })?;
    progress.finish_and_clear();
    printed?;

    match arguments.format {
        Format::Json => print(report::totals_json(&summary))?,
        Format::Table => {
            for failure in &summary.failures {
                let name = &names[failure.engine];
                print(report::failure_text(name, failure))?;
                let lines = replay_lines(&arguments.save, name, failure, &arguments.engines);
                print(format!("{lines}\n"))?;
            }
            print(report::totals(&summary))?;
        }
    }
    match saved.error {
        Some(error) => Err(error),
        None if !summary.is_conclusive() => Err("an engine was compared on no case".into()),
        None => Ok(summary.agrees()),
    }
}

/// Failing cases as files.
struct Saved<'a> {
    directory: &'a Path,
    counts: Vec<usize>,
    error: Option<Failure>,
}

impl Saved<'_> {
    fn save(&mut self, engine: &str, result: &CaseResult) {
        if !result.verdict.is_failure() || self.counts[result.engine] == MAX_SAVED || self.error.is_some() {
            return;
        }
        self.counts[result.engine] += 1;
        let specs = [
            (&result.spec, false),
            (&result.shrunk.as_ref().map(|shrunk| shrunk.spec.clone()), true),
        ];
        for (spec, shrunk) in specs {
            let Some(spec) = spec else { continue };
            let path = saved_path(self.directory, engine, &result.case, shrunk);
            let story: String = report::verdict_text(&result.verdict)
                .lines()
                .map(|line| format!("# {line}\n"))
                .collect();
            let story = if shrunk { String::new() } else { story };
            let text = format!(
                "# {engine}, {}{}\n{story}{spec}",
                result.case,
                if shrunk { ", shrunk" } else { "" }
            );
            let written = std::fs::create_dir_all(self.directory).and_then(|()| std::fs::write(&path, text));
            if let Err(error) = written {
                self.error = Some(format!("--save: could not write {}: {error}", path.display()).into());
                return;
            }
        }
    }
}

fn saved_path(directory: &Path, engine: &str, case: &str, shrunk: bool) -> PathBuf {
    directory.join(format!(
        "{engine}-{}{}.toml",
        case.replace(' ', "-"),
        if shrunk { "-shrunk" } else { "" }
    ))
}

/// The command lines that run a failing case again.
fn replay_lines(directory: &Path, engine: &str, failure: &CaseResult, engines: &Engines) -> String {
    if failure.spec.is_none() {
        return format!("run it again with --golden{}", engines.arguments());
    }
    let line = |shrunk: bool| {
        let path = saved_path(directory, engine, &failure.case, shrunk);
        format!(
            "binned-experts replay {}{}",
            quoted(&path.to_string_lossy()),
            engines.arguments()
        )
    };
    let shrunk = failure.shrunk.iter().map(|_| line(true));
    std::iter::once(line(false))
        .chain(shrunk)
        .collect::<Vec<_>>()
        .join("\n")
}

pub(super) fn progress_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
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
