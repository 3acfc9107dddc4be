//! Runs the command and reads what it prints.

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use binned_experts_check::Tensor;
use binned_experts_check::case::file::{positions, read_case, read_tensors};
use clap::ValueEnum;
use serde_json::Value;
use tempfile::TempDir;

use crate::planted::{PLANTED, name_of};

/// The program with a bug or a misbehaviour, as a command line.
pub(crate) fn planted(bug: impl ValueEnum) -> String {
    let own = std::env::current_exe().unwrap();
    let own = shlex::try_quote(own.to_str().unwrap()).unwrap().into_owned();
    format!("{own} {PLANTED} {}", name_of(bug))
}

/// The command, ready to be given arguments.
pub(crate) fn binned_experts(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin("binned-experts"));
    // numpy starts threads of its own for each core unless told otherwise.
    command.env("OPENBLAS_NUM_THREADS", "1");
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments);
    command
}

/// What `check --format json` left behind.
pub(crate) struct Checked {
    pub(crate) code: Option<i32>,
    /// A line for each case.
    pub(crate) cases: Vec<Value>,
    /// The last line.
    pub(crate) totals: Value,
    saved: TempDir,
}

/// `check --format json` with a directory of its own for failing cases.
pub(crate) fn check(arguments: &[&str]) -> Checked {
    let saved = tempfile::tempdir().unwrap();
    let output = binned_experts(&["check", "--format", "json", "--save"])
        .arg(saved.path())
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let parsed = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}\n{stderr}"));
    let mut cases: Vec<Value> = text.lines().map(parsed).collect();
    let totals = cases.pop().unwrap_or_else(|| panic!("nothing printed\n{stderr}"));
    Checked {
        code: output.status.code(),
        cases,
        totals,
        saved,
    }
}

/// `check` of a program.
pub(crate) fn check_program(program: &str, precision: &str, arguments: &[&str]) -> Checked {
    check(&[&["--command", program, "--precision", precision], arguments].concat())
}

impl Checked {
    /// The verdict on each case.
    pub(crate) fn verdicts(&self) -> Vec<&str> {
        self.cases
            .iter()
            .map(|case| case["verdict"].as_str().unwrap())
            .collect()
    }

    /// Every verdict that is not an agreement, once.
    pub(crate) fn complaints(&self) -> Vec<&str> {
        let mut verdicts = self.verdicts();
        verdicts.retain(|verdict| *verdict != "agree");
        verdicts.sort_unstable();
        verdicts.dedup();
        verdicts
    }

    /// The line of the first case that does not agree.
    pub(crate) fn first_complaint(&self) -> Option<&Value> {
        self.cases.iter().find(|case| case["verdict"] != "agree")
    }

    /// The files of the run's folder in the directory for failing cases.
    pub(crate) fn saved(&self) -> Vec<PathBuf> {
        let entries = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        let runs = entries(self.saved.path());
        let mut paths: Vec<PathBuf> = runs.flat_map(|run| Vec::from_iter(entries(&run))).collect();
        paths.sort();
        paths
    }
}

/// `run` of a golden in the order that PyTorch took, against PyTorch's own output.
pub(crate) fn written_tensors_read_back(engine: &[&str], names: &[&str]) {
    let golden = "tests/goldens/skewed.safetensors";
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("result.safetensors");
    binned_experts(&["run", golden, "--order", "cpu.sorted_indices", "--out"])
        .arg(&written)
        .args(engine)
        .assert()
        .success()
        .stdout("")
        .stderr("");
    let case = read_case(&Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).unwrap();
    let tensors = read_tensors(&written).unwrap();
    assert_eq!(Vec::from_iter(tensors.keys()), names);
    assert_eq!(tensors["output"].shape(), case.problem.output_shape());
    let (found, right) = (tensors["output"].to_f64(), case.others["cpu.output"].to_f64());
    assert!(
        found
            .iter()
            .zip(&right)
            .all(|(found, right)| (found - right).abs() <= 1e-4)
    );
    let order = |tensor: &Tensor| positions("order", tensor).unwrap();
    assert_eq!(
        order(&tensors["sorted_indices"]),
        order(&case.others["cpu.sorted_indices"])
    );
}
