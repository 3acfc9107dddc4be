//! Tensors by name as safetensors.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use binned_experts_reference::TensorType;
use bytemuck::{NoUninit, Pod};
use ndarray::{Array, ArrayD, Dimension, IxDyn};
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView, serialize};

use super::error::FileError;
use crate::case::{CaseElement, ElementType, Named, Tensor};

/// Tensors by name.
pub(super) type Tensors = BTreeMap<String, Tensor>;

/// Reads every tensor of a file.
///
/// # Errors
/// [`FileError`] if the file is not safetensors, or holds a type other than f32, f64, bf16, f16 and i64.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>, FileError> {
    parse(path, &read(path)?, decoded).map(|(tensors, _)| tensors)
}

/// The tensors of a file that are asked for, and the names of the others.
pub(crate) struct Known {
    pub(crate) known: Tensors,
    pub(crate) others: Vec<String>,
}

/// The tensors of some names, which may have indices of 32 bits. The others may be of any type.
pub(crate) fn parse_known(path: &Path, bytes: &[u8], names: &[&str]) -> Result<Known, FileError> {
    let mut others = Vec::new();
    let (known, _) = parse(path, bytes, |name, view| {
        if !names.contains(&name) {
            others.push(name.to_owned());
            return Ok(None);
        }
        match view.dtype() {
            Dtype::I32 => Ok(Some(Tensor::I64(array::<i32>(name, view)?.mapv(i64::from)))),
            _ => decoded(name, view),
        }
    })?;
    Ok(Known { known, others })
}

/// Writes tensors.
///
/// # Errors
/// [`FileError::Io`] or [`FileError::Format`].
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), FileError> {
    write(path, tensors, None)
}

/// The entries of an index tensor as positions.
///
/// # Errors
/// [`FileError::Type`] or [`FileError::Position`]; `name` is for their message.
pub fn positions(name: &str, tensor: &Tensor) -> Result<Vec<usize>, FileError> {
    let Tensor::I64(indices) = tensor else {
        return Err(wrong_type(name, "i64", tensor));
    };
    let position = |(at, &found): (usize, &i64)| {
        usize::try_from(found).map_err(|_| FileError::Position {
            tensor: name.to_owned(),
            at,
            found,
        })
    };
    indices.iter().enumerate().map(position).collect()
}

pub(super) fn dimensions<T, D: Dimension>(
    array: ArrayD<T>,
    name: &str,
    axes: &'static str,
) -> Result<Array<T, D>, FileError> {
    let found = array.shape().to_vec();
    array.into_dimensionality().map_err(|_| FileError::Rank {
        tensor: name.to_owned(),
        expected: axes,
        found,
    })
}

/// Takes a tensor of an element type out of others.
pub(super) fn take<T: CaseElement, D: Dimension>(
    tensors: &mut Tensors,
    name: &str,
    axes: &'static str,
) -> Result<Array<T, D>, FileError> {
    let tensor = tensors.remove(name).ok_or_else(|| missing(name, tensors))?;
    let array = T::array(tensor).map_err(|tensor| wrong_type(name, &T::TYPE.to_string(), &tensor))?;
    dimensions(array, name, axes)
}

/// The same of a type that a tensor of a case may have, with its values held wide.
pub(super) fn take_typed<T: CaseElement, D: Dimension>(
    tensors: &mut Tensors,
    name: &str,
    axes: &'static str,
    tensor_type: TensorType,
) -> Result<Array<T::Wide, D>, FileError> {
    match tensor_type {
        TensorType::Element => Ok(take::<T, D>(tensors, name, axes)?.mapv(T::widen)),
        TensorType::Wide => take::<T::Wide, D>(tensors, name, axes),
    }
}

/// Takes a tensor of bytes out of others.
pub(super) fn take_bytes<D: Dimension>(
    tensors: &mut Tensors,
    (name, axes): (&str, &'static str),
) -> Result<Array<u8, D>, FileError> {
    match tensors.remove(name).ok_or_else(|| missing(name, tensors))? {
        Tensor::U8(array) => dimensions(array, name, axes),
        other => Err(wrong_type(name, "u8", &other)),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The tensors that `decode` makes of the file's, and its metadata.
pub(super) fn parse(
    path: &Path,
    bytes: &[u8],
    mut decode: impl FnMut(&str, &TensorView) -> Result<Option<Tensor>, FileError>,
) -> Result<(Tensors, HashMap<String, String>), FileError> {
    let format = |error: SafeTensorError| FileError::Format {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
    let file = SafeTensors::deserialize(bytes).map_err(format)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.tensors() {
        if let Some(tensor) = decode(&name, &view)? {
            tensors.insert(name, tensor);
        }
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}

pub(super) fn decoded(name: &str, view: &TensorView) -> Result<Option<Tensor>, FileError> {
    if view.dtype() == Dtype::I64 {
        return Ok(Some(Tensor::I64(array(name, view)?)));
    }
    for element in ElementType::ALL {
        if with_element!(element, T => T::DTYPE) == view.dtype() {
            return with_element!(element, T => Ok(Some(array::<T>(name, view)?.into())));
        }
    }
    let types: Vec<&str> = ElementType::ALL.iter().map(|element| element.name()).collect();
    Err(FileError::Type {
        tensor: name.to_owned(),
        expected: format!("{} or i64", types.join(", ")),
        found: view.dtype().to_string(),
    })
}

/// As [`decoded`], or bytes.
pub(super) fn decoded_or_bytes(name: &str, view: &TensorView) -> Result<Option<Tensor>, FileError> {
    match view.dtype() {
        Dtype::U8 => Ok(Some(Tensor::U8(array(name, view)?))),
        _ => decoded(name, view),
    }
}

fn array<T: Pod>(name: &str, view: &TensorView) -> Result<ArrayD<T>, FileError> {
    let values = bytemuck::allocation::pod_collect_to_vec(view.data());
    ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|_| FileError::Rank {
        tensor: name.to_owned(),
        expected: "sizes whose product fits the address space",
        found: view.shape().to_vec(),
    })
}

pub(super) fn write(
    path: &Path,
    tensors: &Tensors,
    metadata: Option<HashMap<String, String>>,
) -> Result<(), FileError> {
    let bytes: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let bytes = with_tensor!(tensor, array => encoded(array), integers => encoded(integers));
            (name.as_str(), tensor.dtype(), tensor.shape().to_vec(), bytes)
        })
        .collect();
    let format = |error: SafeTensorError| FileError::Format {
        path: path.to_owned(),
        message: error.to_string(),
    };
    let views: Result<Vec<(&str, TensorView)>, SafeTensorError> = bytes
        .iter()
        .map(|(name, dtype, shape, bytes)| Ok((*name, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect();
    let bytes = serialize(views.map_err(format)?, metadata).map_err(format)?;
    write_bytes(path, &bytes).map_err(|source| FileError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Writes to what is there: a device, a pipe, the file that a link names. A plain file that is half written is removed.
fn write_bytes(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let written = std::fs::write(path, bytes);
    if written.is_err() && std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file()) {
        // The error of the write is what is told.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn encoded<T: NoUninit>(array: &ArrayD<T>) -> Vec<u8> {
    let values: Vec<T> = array.iter().copied().collect();
    bytemuck::cast_slice(&values).to_vec()
}

pub(super) fn missing(name: &str, tensors: &Tensors) -> FileError {
    let names: Vec<&str> = tensors.keys().map(String::as_str).collect();
    let found = if names.is_empty() {
        "no tensor".to_owned()
    } else {
        names.join(", ")
    };
    FileError::Missing {
        tensor: name.to_owned(),
        found,
    }
}

pub(super) fn wrong_type(name: &str, expected: &str, tensor: &Tensor) -> FileError {
    FileError::Type {
        tensor: name.to_owned(),
        expected: expected.to_owned(),
        found: tensor.type_name(),
    }
}
