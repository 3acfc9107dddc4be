//! The module `binned_experts._native`: what the Python package `binned_experts` has in Rust.
//!
//! - `command`: the command line;
//! - `domain`: which cases a function takes;
//! - `raw`: tensors as Python has them here, bytes with a type and a shape;
//! - `call`: a Python function as an engine;
//! - `run`: a check of one;
//! - `report`, `verdict`: what it found;
//! - `case`: one case as a value;
//! - `workload`: the calls of a benchmark, and its judge;
//! - `pipeline`: our kernels on tensors of another library;
//! - `notebook`: what a notebook shows of them;
//! - `file`: cases and results of a process of its own.

mod call;
mod case;
mod command;
mod domain;
mod file;
mod notebook;
mod pipeline;
mod raw;
mod report;
mod run;
mod verdict;
mod watched;
mod workload;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<case::Case>()?;
    module.add_class::<domain::Domain>()?;
    module.add_class::<pipeline::Kernels>()?;
    module.add_class::<report::Failure>()?;
    module.add_class::<report::Report>()?;
    module.add_class::<verdict::Verdict>()?;
    module.add_function(wrap_pyfunction!(case::case_of_seed, module)?)?;
    module.add_function(wrap_pyfunction!(case::case_of_text, module)?)?;
    module.add_function(wrap_pyfunction!(command::command, module)?)?;
    module.add_function(wrap_pyfunction!(file::read_case, module)?)?;
    module.add_function(wrap_pyfunction!(file::write_result, module)?)?;
    module.add_class::<workload::Call>()?;
    module.add_class::<workload::Weights>()?;
    module.add_function(wrap_pyfunction!(workload::draw_weights, module)?)?;
    module.add_function(wrap_pyfunction!(run::check, module)?)?;
    module.add_function(wrap_pyfunction!(run::check_program, module)?)?;
    Ok(())
}
