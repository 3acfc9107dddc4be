//! Tensors as Python has them here: the name of the type, the shape, and the bytes in row-major order.

use std::collections::BTreeMap;

use binned_experts_check::case::LayerSpec;
use binned_experts_check::case::file::{self, Laid};
use binned_experts_check::{AnyProblem, Tensor};
use binned_experts_reference::{View, Views};
use bytemuck::{NoUninit, Pod};
use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::domain::refused;

/// The type's name, the shape and the bytes of a tensor in Python.
pub(crate) type Raw<'py> = (String, Vec<usize>, Bound<'py, PyBytes>);

/// The same of a view, whose bytes are those of its storage, with strides and offset in elements.
type RawView<'py> = (String, Vec<usize>, Bound<'py, PyBytes>, Vec<usize>, usize);

/// A problem as the arguments of a call: tensors by name, and what else there is.
pub(crate) struct Arguments {
    tensors: BTreeMap<String, Tensor>,
    views: Views,
    capacity: usize,
    alpha: f64,
    limit: f64,
    layer: LayerSpec,
    first_expert: Option<usize>,
}

impl Arguments {
    /// Of a problem. This is the one place where a problem becomes named arrays.
    pub(crate) fn new(problem: &AnyProblem) -> Arguments {
        let activation = problem.activation();
        Arguments {
            tensors: file::case_tensors(problem),
            views: problem.views().clone(),
            capacity: problem.dims().capacity,
            alpha: activation.alpha,
            limit: activation.limit,
            layer: LayerSpec::from(*problem.layer()),
            first_expert: problem.first_expert(),
        }
    }

    /// As `(tensors, numbers)` by name; of tensors that are views the storage, strides and offset. Where the layer is not that
    /// of gpt-oss, a dict of what is different is among the numbers; where there are ids of other ranks, the id of the first
    /// local expert is.
    pub(crate) fn to_python<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let numbers = PyDict::new(py);
        numbers.set_item("expert_capacity", self.capacity)?;
        numbers.set_item("alpha", self.alpha)?;
        numbers.set_item("limit", self.limit)?;
        if !self.layer.is_default() {
            let layer = serde_json::to_string(&self.layer).map_err(refused)?;
            numbers.set_item("layer", py.import("json")?.call_method1("loads", (layer,))?)?;
        }
        if let Some(first) = self.first_expert {
            numbers.set_item("first_expert", first)?;
        }
        let tensors = raws(py, &self.tensors)?;
        for (name, &view) in &self.views {
            if let Some(tensor) = self.tensors.get(name) {
                tensors.set_item(name, raw_view(py, tensor, view))?;
            }
        }
        Ok((tensors, numbers))
    }
}

/// Tensors by name as Python has them.
pub(crate) fn raws<'py>(py: Python<'py>, tensors: &BTreeMap<String, Tensor>) -> PyResult<Bound<'py, PyDict>> {
    let raws = PyDict::new(py);
    for (name, tensor) in tensors {
        raws.set_item(name, raw(py, tensor))?;
    }
    Ok(raws)
}

/// Tensors by name, of what Python has.
///
/// # Errors
/// Which tensor has other bytes than its type and shape say, or a type that is not known.
pub(crate) fn tensors(raws: &Bound<'_, PyDict>) -> PyResult<Result<BTreeMap<String, Tensor>, String>> {
    let mut tensors = BTreeMap::new();
    for (name, found) in raws {
        let name: String = name.extract()?;
        let (dtype, shape, bytes): Raw<'_> = found.extract()?;
        match tensor(&dtype, &shape, bytes.as_bytes()) {
            Ok(tensor) => tensors.insert(name, tensor),
            Err(error) => return Ok(Err(format!("{name}: {error}"))),
        };
    }
    Ok(Ok(tensors))
}

fn raw<'py>(py: Python<'py>, tensor: &Tensor) -> Raw<'py> {
    let shape = tensor.shape().to_vec();
    let dtype = tensor.type_name();
    let bytes = match tensor {
        Tensor::F32(array) => bytes(py, array),
        Tensor::F64(array) => bytes(py, array),
        Tensor::Bf16(array) => bytes(py, array),
        Tensor::F16(array) => bytes(py, array),
        Tensor::I64(array) => bytes(py, array),
        Tensor::U8(array) => bytes(py, array),
    };
    (dtype, shape, bytes)
}

fn raw_view<'py>(py: Python<'py>, tensor: &Tensor, view: View) -> RawView<'py> {
    let Laid {
        storage,
        shape,
        placement,
    } = Laid::new(tensor, view);
    let (dtype, _, bytes) = raw(py, &storage);
    (dtype, shape, bytes, placement.strides, placement.offset)
}

fn bytes<'py, T: NoUninit>(py: Python<'py>, array: &ArrayD<T>) -> Bound<'py, PyBytes> {
    let rows = array.as_standard_layout();
    PyBytes::new(py, rows.as_slice().map_or(&[][..], bytemuck::cast_slice))
}

/// A tensor of what Python has.
///
/// # Errors
/// That the type is not known, or that there are other bytes than type and shape say.
pub(crate) fn tensor(dtype: &str, shape: &[usize], bytes: &[u8]) -> Result<Tensor, String> {
    Ok(match dtype {
        "f32" => array::<f32>(shape, bytes)?.into(),
        "f64" => array::<f64>(shape, bytes)?.into(),
        "bf16" => array::<bf16>(shape, bytes)?.into(),
        "f16" => array::<f16>(shape, bytes)?.into(),
        "i64" => Tensor::I64(array(shape, bytes)?),
        _ => return Err(format!("expected f32, f64, bf16, f16 or i64, found {dtype}")),
    })
}

fn array<T: Pod>(shape: &[usize], bytes: &[u8]) -> Result<ArrayD<T>, String> {
    let values: Vec<T> = bytemuck::allocation::pod_collect_to_vec(bytes);
    ArrayD::from_shape_vec(IxDyn(shape), values)
        .map_err(|_| format!("expected the bytes of shape {shape:?}, found {}", bytes.len()))
}
