//! Every case of `tests/cases/` on every engine that can be checked. A case is added in the commit that fixes it.

use std::path::{Path, PathBuf};

use binned_experts::engines::available;
use binned_experts_check::{CaseSpec, Verdict, judge_spec};

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

#[test]
fn every_case_agrees() {
    for (path, text) in cases() {
        let spec: CaseSpec = text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for mut engine in available() {
            if engine.precision(spec.element).is_some() {
                let verdict = judge_spec(&mut *engine, &spec);
                let agrees = matches!(verdict, Some(Verdict::Agree { .. }));
                assert!(agrees, "{} on {}: {verdict:?}", path.display(), engine.name());
            }
        }
    }
}

#[test]
fn every_case_tells_its_story() {
    for (path, text) in cases() {
        let story = text.lines().take_while(|line| line.starts_with("# ")).count();
        assert!(story >= 1, "{}: its first line is not a comment", path.display());
    }
}
