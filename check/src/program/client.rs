//! Anyone's kernel, as a program that speaks lines of JSON.
//!
//! The program is started once, and after a time-out, a crash or garbage on its standard output once more. Its standard
//! error passes through. It runs in a process group of its own, all of which is killed with it. Where this process is
//! killed, a [guard](super::guard) does the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::case_file::{FileError, write_case};
use super::guard::Guard;
use super::process::Process;
use super::protocol::{CaseRequest, Request};
use super::result_file::read_outcome;
use crate::domain::{Domain, DomainError};
use crate::engine::{Engine, Fault, MachineError, Outcome};
use crate::oracle::Precision;
use crate::stop::Stop;
use crate::tensor::AnyProblem;

/// The most of a program's name, in characters.
const MAX_NAME: usize = 40;

/// An engine in another process.
#[derive(Debug)]
pub struct Program {
    words: Vec<String>,
    name: String,
    domain: Domain,
    limits: Limits,
    stop: Stop,
    // Dropped in this order: the program, what ends it where this process cannot, the folder that it writes to.
    process: Option<Process>,
    guard: Guard,
    directory: tempfile::TempDir,
    /// Number of cases so far.
    cases: usize,
}

/// How long a program may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// From its start to its first line: `{"ready": true}`, or the answer to its first case.
    pub start: Duration,
    /// For each case after that.
    pub case: Duration,
}

impl Default for Limits {
    /// 60 s to start and 30 s for a case.
    fn default() -> Limits {
        Limits {
            start: Duration::from_secs(60),
            case: Duration::from_secs(30),
        }
    }
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProgramError {
    /// The command is empty or its quotes do not match.
    #[error("command: expected a program and its arguments, found {0:?}")]
    Syntax(String),
    /// The program could not be started.
    #[error("command: could not start {program:?}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        source: std::io::Error,
    },
    /// The program does not say what it takes.
    #[error("command: expected an answer to {{\"describe\": true}}, or a precision to be named; {0}")]
    Description(Fault),
    /// What it says that it takes makes no sense.
    #[error("command: {0}")]
    Domain(#[from] DomainError),
    /// The program ended at once.
    #[error("command: the program is gone")]
    Gone,
    /// There is no place for the files.
    #[error("command: no temporary directory: {0}")]
    Directory(std::io::Error),
    /// What clears the program away where this process is killed could not be started.
    #[error("command: could not start /bin/sh: {0}")]
    Guard(std::io::Error),
}

impl Program {
    /// Starts a program that takes any case of the element type of a precision. `command` is split into words as a shell
    /// does, without a shell.
    ///
    /// # Errors
    /// [`ProgramError`] if it cannot be started.
    pub fn new(command: &str, precision: Precision, limits: Limits) -> Result<Program, ProgramError> {
        Program::start(command, Domain::of(precision), limits)
    }

    /// Starts a program and asks it for its domain, until `stop` is set.
    ///
    /// # Errors
    /// [`ProgramError`] if it cannot be started, or does not say what it takes.
    pub fn described(command: &str, limits: Limits, stop: &Stop) -> Result<Program, ProgramError> {
        let mut program = Program::start(command, Domain::in_stable_order(), limits)?.stopped_by(stop.clone());
        let process = program.process.as_mut().ok_or(ProgramError::Gone)?;
        let description = process.describe(limits, stop).map_err(ProgramError::Description)?;
        description.domain.check()?;
        program.domain = Domain {
            tie_order: description.domain.tie_order.or(program.domain.tie_order),
            ..description.domain
        };
        if let Some(name) = description.name.filter(|name| !name.is_empty()) {
            program.name = file_name(&name);
        }
        Ok(program)
    }

    /// The same program, of which only the cases in `domain` are taken, and which claims what `domain` claims besides.
    ///
    /// # Errors
    /// [`DomainError`] if that leaves no case.
    pub fn within(mut self, domain: &Domain) -> Result<Program, DomainError> {
        let tie_order = domain.tie_order.or(self.domain.tie_order);
        self.domain = Domain {
            tie_order,
            ..self.domain.meet(domain)
        };
        self.domain.check()?;
        Ok(self)
    }

    fn start(command: &str, domain: Domain, limits: Limits) -> Result<Program, ProgramError> {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| ProgramError::Syntax(command.to_owned()))?;
        let directory = tempfile::Builder::new().prefix("binned-experts-").tempdir();
        let directory = directory.map_err(ProgramError::Directory)?;
        let mut program = Program {
            name: "command".to_owned(),
            domain,
            limits,
            stop: Stop::default(),
            process: None,
            guard: Guard::new(directory.path()).map_err(ProgramError::Guard)?,
            directory,
            cases: 0,
            words,
        };
        match program.started() {
            Ok(_) => Ok(program),
            Err(source) => Err(ProgramError::Start {
                program: program.words.swap_remove(0),
                source,
            }),
        }
    }

    /// The same program; it stops waiting for an answer when `stop` is set.
    #[must_use]
    pub fn stopped_by(self, stop: Stop) -> Program {
        Program { stop, ..self }
    }

    fn started(&mut self) -> std::io::Result<&mut Process> {
        Ok(match self.process.take() {
            Some(process) => self.process.insert(process),
            None => {
                let process = Process::start(&self.words)?;
                self.guard.watch(Some(process.group()));
                self.process.insert(process)
            }
        })
    }

    fn exchange(&mut self, request: &Request) -> Result<(), Fault> {
        let (limits, stop, program) = (self.limits, self.stop.clone(), self.words[0].clone());
        let process = self.started().map_err(|error| MachineError::Start {
            program,
            message: error.to_string(),
        })?;
        let answer = process.exchange(request, limits, &stop);
        if let Err(fault) = &answer
            && (fault.is_silence() || matches!(fault, Fault::Garbage { .. } | Fault::Machine(_)))
        {
            self.process = None;
            self.guard.watch(None);
        }
        answer
    }

    /// A folder for one case, so that nothing of an earlier one can pass for its result.
    fn folder(&mut self) -> Result<Folder, MachineError> {
        self.cases += 1;
        let path = self.directory.path().join(self.cases.to_string());
        // With its parents: a program may have removed them.
        match std::fs::create_dir_all(&path) {
            Ok(()) => Ok(Folder(path)),
            Err(error) => Err(MachineError::file(&path, &error)),
        }
    }
}

impl Engine for Program {
    fn name(&self) -> &str {
        &self.name
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let folder = self.folder()?;
        let case = folder.0.join("case.safetensors");
        let output = folder.0.join("output.safetensors");
        write_case(&case, problem).map_err(|error| own_file(&case, &error))?;
        let request = CaseRequest {
            case,
            output: output.clone(),
        };
        self.exchange(&Request::Case(request))?;
        read_outcome(&output, problem)
    }
}

/// A name that a file may have too.
fn file_name(name: &str) -> String {
    let plain = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => character,
        _ => '-',
    };
    name.chars().take(MAX_NAME).map(plain).collect()
}

fn own_file(path: &Path, error: &FileError) -> MachineError {
    match error {
        FileError::Io { path, source } => MachineError::file(path, source),
        other => MachineError::file(path, other),
    }
}

/// Removed with all that is in it when dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed now goes with the directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
