//! Programs whose fault is not in the numbers.

use std::io::{BufRead, Write, sink, stdin, stdout};
use std::path::{Path, PathBuf};
use std::time::Duration;

use binned_experts_check::Tensor;
use binned_experts_check::case::file::{read_tensors, write_tensors};
use binned_experts_check::engine::program::serve;
use clap::ValueEnum;
use ndarray::{Axis, Slice};
use serde::Deserialize;

use super::bug::Bug;
use super::engine::Planted;
use super::wrong::WrongEngine;

/// A misbehaviour. Most strike where K = 2; the other answers are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Misbehaviour {
    /// Gives no answer; where a second argument names a file: once, and then the file is there
    Hang,
    /// Ends
    Crash,
    /// Ends at its tenth request, whatever that is
    CrashOnceInTen,
    /// Prints a line that is no answer
    Garbage,
    /// Prints a line before the first request
    PrintsFirst,
    /// Writes no file
    NoOutput,
    /// Writes a tensor of another name
    OtherName,
    /// Writes a file that lacks its last byte
    HalfFile,
    /// Writes a column less
    WrongShape,
    /// Writes f64
    WrongType,
    /// Says that it cannot
    Error,
}

const OK: &str = r#"{"ok": true}"#;

#[derive(Deserialize)]
struct Request {
    case: PathBuf,
    output: PathBuf,
}

impl Misbehaviour {
    /// Answers the requests on standard input.
    pub(super) fn serve(self, mark: Option<&Path>) -> std::io::Result<()> {
        let mut right = WrongEngine(Planted::new(Bug::Right));
        if self == Misbehaviour::PrintsFirst {
            answer("loading the kernel")?;
        }
        for (number, line) in stdin().lock().lines().enumerate() {
            let line = line?;
            let request: Request = serde_json::from_str(&line)?;
            let mut tensors = read_tensors(&request.case).map_err(std::io::Error::other)?;
            let strikes = match self {
                Misbehaviour::PrintsFirst => false,
                Misbehaviour::CrashOnceInTen => number == 9,
                Misbehaviour::Hang if mark.is_some_and(Path::exists) => false,
                _ => tensors["router_indices"].shape()[1] == 2,
            };
            if !strikes {
                serve(&mut right, line.as_bytes(), stdout())?;
                continue;
            }
            let Some(Tensor::F32(hidden_states)) = tensors.remove("hidden_states") else {
                return Err(std::io::Error::other("expected hidden_states in f32"));
            };
            let writes = |name: &str, tensor: Tensor| {
                let written = write_tensors(&request.output, &[(name.to_owned(), tensor)].into());
                written.map_err(std::io::Error::other)
            };
            answer(match self {
                Misbehaviour::Hang => {
                    if let Some(mark) = mark {
                        std::fs::write(mark, "")?;
                    }
                    std::thread::sleep(Duration::from_secs(3600));
                    OK
                }
                Misbehaviour::Crash | Misbehaviour::CrashOnceInTen => std::process::exit(3),
                Misbehaviour::Garbage => "tensor(0.5)",
                Misbehaviour::PrintsFirst | Misbehaviour::NoOutput => OK,
                Misbehaviour::OtherName => {
                    writes("result", hidden_states.into())?;
                    OK
                }
                Misbehaviour::HalfFile => {
                    serve(&mut right, line.as_bytes(), sink())?;
                    let bytes = std::fs::read(&request.output)?;
                    std::fs::write(&request.output, &bytes[..bytes.len() - 1])?;
                    OK
                }
                Misbehaviour::WrongShape => {
                    let narrower = hidden_states.slice_axis(Axis(2), Slice::from(1.min(hidden_states.shape()[2])..));
                    writes("output", narrower.to_owned().into())?;
                    OK
                }
                Misbehaviour::WrongType => {
                    writes("output", hidden_states.mapv(f64::from).into())?;
                    OK
                }
                Misbehaviour::Error => r#"{"error": "no kernel for K = 2"}"#,
            })?;
        }
        Ok(())
    }
}

fn answer(line: &str) -> std::io::Result<()> {
    let mut stdout = stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
