//! The lines that a program reads and prints.
//!
//! For each case it reads a line `{"case": "….safetensors", "output": "….safetensors"}` from its standard input, writes a
//! safetensors file with the tensor `output`, and any stages, to the second path, and prints a line `{"ok": true}` or
//! `{"error": "…"}`. A program whose start takes long may print `{"ready": true}` first: until then its start is timed,
//! and not the first case.

use std::io::{BufRead, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The longest line that either side reads.
pub(super) const MAX_LINE: u64 = 1 << 16;

/// What a program is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The case.
    pub(super) case: PathBuf,
    /// Where the result is to be written.
    pub(super) output: PathBuf,
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub(super) enum Answer {
    /// The program is started and takes requests; `false` means nothing.
    Ready(bool),
    /// The result is written; `false` means nothing.
    Ok(bool),
    /// There is none, with the reason.
    Error(String),
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
