//! Anyone's kernel, as a program that speaks lines of JSON.
//!
//! The program is started once, and after a time-out, a crash or garbage on its standard output once more. Its standard
//! error passes through. It runs in a process group of its own, all of which is killed with it. Where this process is
//! killed, a [guard](super::guard) does the same.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::guard::Guard;
use super::limits::Limits;
use super::process::Process;
use super::protocol::{CaseRequest, Request, WeightsRequest};
use super::result_file::read_outcome;
use crate::case::AnyProblem;
use crate::case::file::{FileError, write_call, write_case, write_weights};
use crate::domain::{Domain, DomainError};
use crate::engine::{Engine, Fault, MachineError, Outcome, Stop};
use crate::oracle::Precision;

/// The most of a program's name, in characters.
const MAX_NAME: usize = 40;

/// An engine in another process.
#[derive(Debug)]
pub struct Program {
    setup: Setup,
    // Dropped in this order: the program, what ends it where this process cannot, the folder that it writes to.
    process: Option<Process>,
    guard: Guard,
    directory: tempfile::TempDir,
    /// Number of cases so far.
    cases: usize,
    /// The weights that the process had last, where it wants them apart.
    weights: Option<Weights>,
}

/// The experts' weights in a file of their own.
#[derive(Debug)]
struct Weights {
    of: Arc<dyn Any + Send + Sync>,
    path: PathBuf,
}

/// What each process of a program is started with.
#[derive(Debug, Clone)]
struct Setup {
    words: Vec<String>,
    name: String,
    domain: Domain,
    limits: Limits,
    stop: Stop,
    weights_apart: bool,
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
        let setup = &mut program.setup;
        setup.weights_apart = description.weights_apart;
        setup.domain = Domain {
            tie_order: description.domain.tie_order.or(setup.domain.tie_order),
            ..description.domain
        };
        if let Some(name) = description.name.filter(|name| !name.is_empty()) {
            setup.name = file_name(&name);
        }
        Ok(program)
    }

    /// The same program, of which only the cases in `domain` are taken, and which claims what `domain` claims besides.
    ///
    /// # Errors
    /// [`DomainError`] if that leaves no case.
    pub fn within(mut self, domain: &Domain) -> Result<Program, DomainError> {
        let own = &self.setup.domain;
        self.setup.domain = Domain {
            tie_order: domain.tie_order.or(own.tie_order),
            ..own.meet(domain)
        };
        self.setup.domain.check()?;
        Ok(self)
    }

    fn start(command: &str, domain: Domain, limits: Limits) -> Result<Program, ProgramError> {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| ProgramError::Syntax(command.to_owned()))?;
        let mut program = Program::at_rest(Setup {
            name: "command".to_owned(),
            domain,
            limits,
            stop: Stop::default(),
            weights_apart: false,
            words,
        })?;
        match program.started() {
            Ok(_) => Ok(program),
            Err(source) => Err(ProgramError::Start {
                program: program.setup.words.swap_remove(0),
                source,
            }),
        }
    }

    /// A program whose process starts with its first case.
    fn at_rest(setup: Setup) -> Result<Program, ProgramError> {
        let directory = tempfile::Builder::new().prefix("binned-experts-").tempdir();
        let directory = directory.map_err(ProgramError::Directory)?;
        Ok(Program {
            setup,
            process: None,
            guard: Guard::new(directory.path()).map_err(ProgramError::Guard)?,
            directory,
            cases: 0,
            weights: None,
        })
    }

    /// What makes another program with the same claims, whose process starts with its first case.
    pub fn opener(&self) -> impl Fn() -> Result<Program, ProgramError> + Send + Sync + 'static {
        let setup = self.setup.clone();
        move || Program::at_rest(setup.clone())
    }

    /// The same program; it stops waiting for an answer when `stop` is set.
    #[must_use]
    pub fn stopped_by(mut self, stop: Stop) -> Program {
        self.setup.stop = stop;
        self
    }

    fn started(&mut self) -> std::io::Result<&mut Process> {
        Ok(match self.process.take() {
            Some(process) => self.process.insert(process),
            None => {
                let process = Process::start(&self.setup.words)?;
                self.guard.watch(Some(process.group()));
                self.process.insert(process)
            }
        })
    }

    fn exchange(&mut self, request: &Request) -> Result<(), Fault> {
        let Setup {
            limits, stop, words, ..
        } = &self.setup;
        let (limits, stop, program) = (*limits, stop.clone(), words[0].clone());
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
            // The next process has seen none.
            self.weights = None;
        }
        answer
    }

    /// The file with a problem's weights. The same weights stay in the same file.
    fn weights_of(&mut self, problem: &AnyProblem) -> Result<WeightsRequest, MachineError> {
        let of = problem.weights();
        let known = self.weights.take().filter(|known| Arc::ptr_eq(&known.of, &of));
        let weights_changed = known.is_none();
        let known = match known {
            Some(known) => known,
            None => {
                let path = self
                    .directory
                    .path()
                    .join(format!("weights-{}.safetensors", self.cases));
                write_weights(&path, problem).map_err(|error| own_file(&path, &error))?;
                Weights { of, path }
            }
        };
        let weights = known.path.clone();
        self.weights = Some(known);
        Ok(WeightsRequest {
            weights,
            weights_changed,
        })
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
        &self.setup.name
    }

    fn domain(&self) -> Domain {
        self.setup.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let folder = self.folder()?;
        let case = folder.0.join("case.safetensors");
        let output = folder.0.join("output.safetensors");
        let weights = if self.setup.weights_apart {
            write_call(&case, problem).map_err(|error| own_file(&case, &error))?;
            Some(self.weights_of(problem)?)
        } else {
            write_case(&case, problem).map_err(|error| own_file(&case, &error))?;
            None
        };
        let request = CaseRequest {
            case,
            output: output.clone(),
            weights,
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

impl Drop for Weights {
    fn drop(&mut self) {
        // What cannot be removed now goes with the directory.
        let _ = std::fs::remove_file(&self.path);
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
