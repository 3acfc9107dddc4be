//! The lines that a program reads and prints, which `docs/protocol.md` has in full.
//!
//! For each case it reads a line `{"case": "….safetensors", "output": "….safetensors"}` from its standard input, writes a
//! safetensors file with the tensor `output`, and any stages, to the second path, and prints a line `{"ok": true}`,
//! `{"skip": "…"}` or `{"error": "…"}`. A program whose start takes long may print `{"ready": true}` first: until then its
//! start is timed, and not the first case. A line `{"describe": true}` asks for its domain. A program that answers
//! `"weights_apart": true` besides gets the experts' weights in a file of their own, which stays while they do.

use std::fmt;
use std::io::{BufRead, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::engine::Rule;

/// The longest line that either side reads.
pub(super) const MAX_LINE: u64 = 1 << 16;

/// What a program is asked.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Request {
    /// To compute a case.
    Case(CaseRequest),
    /// To say what it takes.
    Describe(DescribeRequest),
}

impl Request {
    /// Reads a line. One that does not ask for a description is a case.
    pub(super) fn read(line: &[u8]) -> serde_json::Result<Request> {
        match serde_json::from_slice(line) {
            Ok(DescribeRequest { describe: true }) => Ok(Request::Describe(DescribeRequest { describe: true })),
            _ => serde_json::from_slice(line).map(Request::Case),
        }
    }
}

/// A case to compute. Fields of later versions are no error.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CaseRequest {
    /// The case.
    pub(super) case: PathBuf,
    /// Where the result is to be written.
    pub(super) output: PathBuf,
    /// The experts' weights, where they are not in the case.
    #[serde(flatten)]
    pub(super) weights: Option<WeightsRequest>,
}

/// The experts' weights of a case, in a file of their own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WeightsRequest {
    /// The file.
    pub(super) weights: PathBuf,
    /// Whether they are others than those of the case before.
    pub(super) weights_changed: bool,
}

/// The question what the program takes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DescribeRequest {
    /// Always `true`.
    pub(super) describe: bool,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Answer {
    /// The program is started and takes requests; `false` means nothing.
    Ready(bool),
    /// The result is written; `false` means nothing.
    Ok(bool),
    /// The program does not take such cases, with the reason.
    Skip(String),
    /// There is none, with the reason.
    Error(String),
    /// The kernel broke a rule.
    Broken(Broken),
}

/// A rule that a kernel broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Which one.
    pub rule: Rule,
    /// What was expected and what was found.
    pub message: String,
}

impl Answer {
    /// The answer of a line; none if it is something else.
    pub fn parse(line: &[u8]) -> Option<Answer> {
        serde_json::from_slice(line).ok()
    }
}

impl fmt::Display for Answer {
    /// The line that [`parse`](Answer::parse) reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = serde_json::to_string(self).map_err(|_| fmt::Error)?;
        f.write_str(&line)
    }
}

/// What it says of itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Description {
    /// Its name in reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    /// What it takes.
    pub(super) domain: Domain,
    /// Whether it wants the experts' weights apart from each case.
    #[serde(default)]
    pub(super) weights_apart: bool,
}

/// The next line without its end, or the start of one that is too long; none at the end of the input.
pub(super) fn read_line(input: &mut dyn BufRead) -> std::io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    let read = input.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    let is_whole = (read as u64) < MAX_LINE || bytes.ends_with(b"\n");
    while bytes.last().is_some_and(u8::is_ascii_whitespace) {
        bytes.pop();
    }
    Ok((read > 0).then_some(Line { bytes, is_whole }))
}

/// Passes over the rest of a line that is too long.
pub(super) fn skip_line(input: &mut dyn BufRead) -> std::io::Result<()> {
    while let Some(line) = read_line(input)? {
        if line.is_whole {
            break;
        }
    }
    Ok(())
}

/// A line, of any bytes.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) bytes: Vec<u8>,
    /// Whether its end was read.
    pub(super) is_whole: bool,
}
