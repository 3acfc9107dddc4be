//! The lines that a program reads and prints.
//!
//! For each case it reads a line `{"case": "….safetensors", "output": "….safetensors"}` from its standard input, writes a
//! safetensors file with the tensor `output`, and any stages, to the second path, and prints a line `{"ok": true}` or
//! `{"error": "…"}`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// The result is written; `false` means nothing.
    Ok(bool),
    /// There is none, with the reason.
    Error(String),
}
