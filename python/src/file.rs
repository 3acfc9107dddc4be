//! Cases and results of a process of its own.

use std::path::PathBuf;

use binned_experts_check::case::file;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::domain::refused;
use crate::raw::{Arguments, tensors};

/// The arguments of the case of a file: tensors and numbers by name.
#[pyfunction]
pub(crate) fn read_case(py: Python<'_>, path: PathBuf) -> PyResult<(Bound<'_, PyDict>, Bound<'_, PyDict>)> {
    let case = py.detach(|| file::read_case(&path)).map_err(refused)?;
    Arguments::new(&case.problem).to_python(py)
}

/// Writes the tensors of a result.
#[pyfunction]
pub(crate) fn write_result(py: Python<'_>, path: PathBuf, result: &Bound<'_, PyDict>) -> PyResult<()> {
    let tensors = tensors(result)?.map_err(refused)?;
    py.detach(|| file::write_tensors(&path, &tensors)).map_err(refused)
}
