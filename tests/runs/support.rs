//! Starts the command and looks at what it leaves.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// A folder for one test: the command is run in it, and its temporary files go to a folder in it.
pub(crate) struct Place {
    folder: TempDir,
}

/// What a command left behind.
pub(crate) struct Left {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tmp")).unwrap();
        Place { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(cargo_bin("binned-experts"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("TMPDIR", self.path("tmp"))
            // As a person starts it, and not cargo.
            .env_remove("CARGO_MANIFEST_DIR")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Left {
        left(self.command(arguments).output().unwrap())
    }

    /// `check` of `rude`, whose cases are small.
    pub(crate) fn check(&self, mode: &str, arguments: &[&str]) -> Left {
        left(self.check_command(mode, arguments).output().unwrap())
    }

    pub(crate) fn check_command(&self, mode: &str, arguments: &[&str]) -> Command {
        let program = rude(mode);
        let check = [
            "check",
            "--command",
            &program,
            "--precision",
            "fp32",
            "--profile",
            "tiny",
        ];
        self.command(&[&check, arguments].concat())
    }

    /// The files that runs saved, and nothing else.
    pub(crate) fn saved(&self) -> Vec<PathBuf> {
        let runs = entries(&self.path("binned-experts-failures"));
        let mut files: Vec<PathBuf> = runs.iter().flat_map(|run| entries(run)).collect();
        files.sort();
        files
    }

    /// What is left among the temporary files.
    pub(crate) fn temporary(&self) -> Vec<PathBuf> {
        entries(&self.path("tmp"))
    }

    /// Processes that still run a program with the folder of this test in its environment.
    pub(crate) fn processes(&self) -> Vec<String> {
        let mark = format!("TMPDIR={}", self.path("tmp").display());
        let of = |process: &Path| {
            let environment = std::fs::read(process.join("environ")).ok()?;
            let is_ours = environment.split(|byte| *byte == 0).any(|word| word == mark.as_bytes());
            let state = std::fs::read_to_string(process.join("stat")).ok()?;
            let is_dead = state.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
            (is_ours && !is_dead).then(|| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default())
        };
        entries(Path::new("/proc"))
            .iter()
            .filter_map(|process| of(process))
            .collect()
    }

    /// Waits for processes that were killed to be gone, and asserts that nothing is left.
    pub(crate) fn assert_nothing_left(&self) {
        let start = std::time::Instant::now();
        while start.elapsed().as_secs() < 10 && !(self.processes().is_empty() && self.temporary().is_empty()) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert_eq!(self.processes(), Vec::<String>::new());
        assert_eq!(self.temporary(), Vec::<PathBuf>::new());
    }
}

pub(crate) fn left(output: Output) -> Left {
    Left {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The program `examples/rude.rs` in a mode, as a command line. Cargo builds examples with the tests.
pub(crate) fn rude(mode: &str) -> String {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).unwrap();
    let program = profile.join("examples/rude");
    assert!(
        program.exists(),
        "expected {}: cargo build --example rude",
        program.display()
    );
    format!("{} {mode}", program.display())
}

fn entries(path: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(path).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
