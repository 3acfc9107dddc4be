//! `shrink`: a failing case made smaller.

use std::path::PathBuf;

use binned_experts_check::judge::shrink as shrink_case;
use binned_experts_check::{CaseSpec, judge_spec, report};

use super::files::{conclude, read_text};
use super::interrupt::Interrupts;
use super::saved::write_case_text;
use super::{Conclusion, Failure, Shrink, print, started};
use crate::progress::Progress;

pub(super) fn shrink(arguments: &Shrink, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    let spec: CaseSpec = read_text(&arguments.case)?.parse()?;
    spec.build()?;
    let mut engines = arguments.engines.open(&interrupts.stop)?.engines;
    let [opened] = &mut engines[..] else {
        return Err(format!("expected one engine, found {}", engines.len()).into());
    };
    let engine = &mut *opened.engine;
    let verdict = judge_spec(engine, &spec).ok_or("the case cannot be built")?;
    let conclusion = conclude(engine.name(), &verdict, interrupts.conclusion())?;
    if !verdict.is_failure() {
        return Ok(conclusion);
    }
    let progress = Progress::new(arguments.shrink_budget, false);
    let mut tries = 0;
    let domain = engine.domain();
    let shrunk = shrink_case(&spec, verdict, &domain, arguments.shrink_budget, |candidate| {
        tries += 1;
        progress.shrinking(tries);
        judge_spec(engine, candidate)
    });
    progress.finish();
    let cut_short = if shrunk.is_smallest { "" } else { ", and not to the end" };
    print(format!("smallest case found, in {} tries{cut_short}:", shrunk.tries))?;
    print(report::verdict_text(&shrunk.verdict))?;
    print(&shrunk.spec)?;
    let out = arguments.out.clone().unwrap_or_else(|| beside(arguments));
    let story = format!(
        "{}, shrunk in {} tries\n{}",
        opened.engine.name(),
        shrunk.tries,
        report::verdict_text(&shrunk.verdict)
    );
    write_case_text(&out, &story, &shrunk.spec)?;
    let path = super::engines::quoted(&out.to_string_lossy());
    let engines = arguments.engines.arguments();
    print(format!("{} replay {path}{engines}", started::command()))?;
    Ok(if interrupts.stop.is_set() {
        interrupts.conclusion()
    } else {
        conclusion
    })
}

/// A file beside the case, or in the current folder where it comes from standard input.
fn beside(arguments: &Shrink) -> PathBuf {
    let stem = arguments.case.file_stem().unwrap_or_default().to_string_lossy();
    let stem = if stem == "-" { "case".into() } else { stem };
    arguments.case.with_file_name(format!("{stem}-shrunk.toml"))
}
