//! Every case of `tests/cases/` on every engine that can be checked. A case is added in the commit that fixes it.

use std::path::{Path, PathBuf};

use binned_experts::engines::{BUILT_IN, BuiltIn, Checked};
use binned_experts_check::{CaseSpec, Verdict, judge_spec};
use libtest_mimic::Trial;

use crate::needs;
use crate::trials::{named, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let (compiler, gpu) = (needs::compiler(), needs::gpu());
    let mut trials = vec![trial(&[], every_case_tells_its_story)];
    for engine in BUILT_IN.iter().filter(|engine| engine.checked != Checked::Never) {
        let need = match engine.name {
            name if name.starts_with("emulator") => Some(&compiler),
            name if name.starts_with("cuda") => Some(&gpu),
            _ => None,
        };
        let name = format!("cases::{}", engine.name);
        trials.push(named(name, need.as_slice(), move || every_case_agrees(engine)));
    }
    trials
}

fn cases() -> Vec<(PathBuf, String)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<(PathBuf, String)> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    cases.sort();
    assert!(!cases.is_empty());
    cases
}

fn every_case_agrees(engine: &BuiltIn) {
    let mut engine = (engine.open)().unwrap();
    for (path, text) in cases() {
        let spec: CaseSpec = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if engine.precision(spec.element).is_some() {
            let verdict = judge_spec(&mut *engine, &spec);
            let agrees = matches!(verdict, Some(Verdict::Agree { .. }));
            assert!(agrees, "{}: {verdict:?}", path.display());
        }
    }
}

fn every_case_tells_its_story() {
    for (path, text) in cases() {
        let story = text.lines().take_while(|line| line.starts_with("# ")).count();
        assert!(story >= 1, "{}: its first line is not a comment", path.display());
    }
}
