//! Anyone's kernel, as a program that speaks lines of JSON.
//!
//! The program is started once, and after a time-out, a crash or garbage on its standard output once more. Its standard
//! error passes through.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use ndarray::{Array2, Array3};

use super::case_file::{FileError, positions, read_tensors, write_case};
use super::protocol::{Answer, Request};
use crate::engine::{Engine, Fault, Outcome};
use crate::named::Named;
use crate::oracle::Precision;
use crate::stage::{Layout, Stage, StageValues, Stages, kept_rows};
use crate::tensor::{AnyProblem, ElementType, Tensor};

/// The longest line read from a program.
const MAX_LINE: u64 = 1 << 16;
/// How long a program that closed its standard output may take to end.
const GRACE: Duration = Duration::from_secs(1);

/// An engine in another process.
#[derive(Debug)]
pub struct Program {
    words: Vec<String>,
    precision: Precision,
    time_limit: Duration,
    directory: tempfile::TempDir,
    process: Option<Process>,
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
    /// There is no place for the files.
    #[error("command: no temporary directory: {0}")]
    Directory(std::io::Error),
}

impl Program {
    /// Starts a program. `command` is split into words as a shell does, without a shell.
    ///
    /// # Errors
    /// [`ProgramError`] if it cannot be started.
    pub fn new(command: &str, precision: Precision, time_limit: Duration) -> Result<Program, ProgramError> {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| ProgramError::Syntax(command.to_owned()))?;
        let directory = tempfile::tempdir().map_err(ProgramError::Directory)?;
        let process = Process::start(&words).map_err(|source| ProgramError::Start {
            program: words[0].clone(),
            source,
        })?;
        Ok(Program {
            words,
            precision,
            time_limit,
            directory,
            process: Some(process),
        })
    }

    fn exchange(&mut self, request: &Request) -> Result<(), Fault> {
        let process = match &mut self.process {
            Some(process) => process,
            none => none.insert(Process::start(&self.words).map_err(|error| crashed(&error))?),
        };
        process.exchange(request, self.time_limit)
    }
}

impl Engine for Program {
    fn name(&self) -> &str {
        "command"
    }

    fn precision(&self, element: ElementType) -> Option<Precision> {
        (self.precision.element() == element).then_some(self.precision)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let request = Request {
            case: self.directory.path().join("case.safetensors"),
            output: self.directory.path().join("output.safetensors"),
        };
        // A result of an earlier case must never pass for one of this.
        let _ = std::fs::remove_file(&request.output);
        write_case(&request.case, problem).map_err(|error| unreadable(&error))?;
        let answer = self.exchange(&request);
        if matches!(
            answer,
            Err(Fault::TimedOut { .. } | Fault::Crashed { .. } | Fault::Garbage { .. })
        ) {
            self.process = None;
        }
        answer?;
        read_outcome(&request.output, problem)
    }
}

/// A running program; killed when dropped.
#[derive(Debug)]
struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(words: &[String]) -> std::io::Result<Process> {
        let mut child = std::process::Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let no_pipe = || std::io::Error::other("no pipe");
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        Ok(Process {
            child,
            stdin,
            lines: read_lines(stdout),
        })
    }

    fn exchange(&mut self, request: &Request, time_limit: Duration) -> Result<(), Fault> {
        match self.lines.try_recv() {
            Ok(line) => return Err(Fault::Garbage { line }),
            Err(TryRecvError::Disconnected) => return Err(self.ended()),
            Err(TryRecvError::Empty) => {}
        }
        let line = serde_json::to_string(request).map_err(|error| unreadable(&error))?;
        if writeln!(self.stdin, "{line}")
            .and_then(|()| self.stdin.flush())
            .is_err()
        {
            return Err(self.ended());
        }
        match self.lines.recv_timeout(time_limit) {
            Ok(line) => match serde_json::from_str(&line) {
                Ok(Answer::Ok(true)) => Ok(()),
                Ok(Answer::Error(message)) => Err(Fault::Refused { message }),
                Ok(Answer::Ok(false)) | Err(_) => Err(Fault::Garbage { line }),
            },
            Err(RecvTimeoutError::Timeout) => Err(Fault::TimedOut {
                seconds: time_limit.as_secs_f64(),
            }),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// The fault of a program that no longer answers.
    fn ended(&mut self) -> Fault {
        let start = Instant::now();
        while start.elapsed() < GRACE {
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    return Fault::Crashed {
                        status: status.to_string(),
                    };
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => return crashed(&error),
            }
        }
        Fault::Crashed {
            status: "it closed its standard output and went on".to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a program's standard output; the channel closes when the program closes it.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stdout);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
        }
    });
    lines
}

fn read_outcome(path: &Path, problem: &AnyProblem) -> Result<Outcome, Fault> {
    if !path.exists() {
        return Err(Fault::MissingOutput {
            found: "no result file".to_owned(),
        });
    }
    let mut tensors = read_tensors(path).map_err(|error| unreadable(&error))?;
    let output = tensors.remove("output").ok_or_else(|| Fault::MissingOutput {
        found: if tensors.is_empty() {
            "no tensor".to_owned()
        } else {
            Vec::from_iter(tensors.keys().cloned()).join(", ")
        },
    })?;
    let mut stages = Stages::default();
    for &stage in Stage::ALL {
        if let Some(tensor) = tensors.get(stage.name()) {
            stages = stages.with(stage, stage_values(stage, tensor, problem)?);
        }
    }
    Ok(Outcome { output, stages })
}

fn stage_values(stage: Stage, tensor: &Tensor, problem: &AnyProblem) -> Result<StageValues, Fault> {
    Ok(match stage.layout() {
        Layout::Indices => positions(stage.name(), tensor)
            .map_err(|error| unreadable(&error))?
            .into(),
        Layout::KeptRows => row_stage(stage, tensor, problem)?.into(),
        Layout::Assignments | Layout::Tokens => tensor.to_f64().into(),
    })
}

/// The kept rows of a stage in PyTorch's shape `[E,C,width]`.
fn row_stage(stage: Stage, tensor: &Tensor, problem: &AnyProblem) -> Result<Array2<f64>, Fault> {
    let (bins, capacity) = (problem.bins(), problem.dims().capacity);
    let misfit = || {
        unreadable(&FileError::Rank {
            tensor: stage.to_string(),
            expected: "[E,C,width] with a row for each kept assignment",
            found: tensor.shape().to_vec(),
        })
    };
    let &[experts, rows, width] = tensor.shape() else {
        return Err(misfit());
    };
    let fullest = bins.tokens_per_expert().into_iter().max().unwrap_or(0).min(capacity);
    if experts != bins.experts() || rows < fullest {
        return Err(misfit());
    }
    let padded = Array3::from_shape_vec((experts, rows, width), tensor.to_f64()).map_err(|_| misfit())?;
    Ok(kept_rows(&padded, bins, capacity))
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::Unreadable {
        message: error.to_string(),
    }
}

fn crashed(error: &std::io::Error) -> Fault {
    Fault::Crashed {
        status: error.to_string(),
    }
}
