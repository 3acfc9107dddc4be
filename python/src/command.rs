//! The command `binned-experts`.

use std::ffi::OsString;

use binned_experts::cli;
use pyo3::prelude::*;

/// Runs the command and returns its exit status.
#[pyfunction]
pub(crate) fn command(py: Python<'_>, started_as: Vec<String>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| cli::main(started_as, arguments))
}
