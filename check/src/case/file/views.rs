//! Tensors that are views of larger ones: their storage, and where their elements are in it.

use std::collections::{BTreeMap, HashMap};

use binned_experts_reference::{Placement, View, Views};
use bytemuck::Pod;
use ndarray::{ArrayD, IxDyn};
use serde::{Deserialize, Serialize};

use super::error::FileError;
use super::tensors::{Tensors, missing};
use crate::case::Tensor;

/// The key of the metadata.
const VIEWS: &str = "views";
/// What stands between the elements of a view: NaN in every element type, −1 as an index, no scale of a block.
const POISON: [u8; 8] = [0xff; 8];

/// A tensor as it lies in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Laid {
    /// One axis with all elements of the storage.
    pub storage: Tensor,
    /// The shape of the tensor.
    pub shape: Vec<usize>,
    /// Where its elements are.
    pub placement: Placement,
}

/// What the metadata says of a tensor; numbers are of elements.
#[derive(Serialize, Deserialize)]
struct Entry {
    view: String,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
}

impl Laid {
    /// A tensor as a view.
    pub fn new(tensor: &Tensor, view: View) -> Laid {
        let placement = view.placement(tensor.shape());
        let storage = match tensor {
            Tensor::F32(array) => spread(array, &placement).into(),
            Tensor::F64(array) => spread(array, &placement).into(),
            Tensor::Bf16(array) => spread(array, &placement).into(),
            Tensor::F16(array) => spread(array, &placement).into(),
            Tensor::I64(array) => Tensor::I64(spread(array, &placement)),
            Tensor::U8(array) => Tensor::U8(spread(array, &placement)),
        };
        Laid {
            storage,
            shape: tensor.shape().to_vec(),
            placement,
        }
    }
}

/// Replaces those of the tensors that are views by their storage. The metadata says where they are in it.
pub(super) fn lay(tensors: &mut Tensors, views: &Views) -> Option<(String, String)> {
    let mut entries = BTreeMap::new();
    for (name, &view) in views {
        let Some(tensor) = tensors.get_mut(name) else { continue };
        let Laid {
            storage,
            shape,
            placement,
        } = Laid::new(tensor, view);
        *tensor = storage;
        let entry = Entry {
            view: view.to_string(),
            shape,
            strides: placement.strides,
            offset: placement.offset,
        };
        entries.insert(name, entry);
    }
    let text = serde_json::to_string(&entries).expect("names and whole numbers are JSON");
    (!entries.is_empty()).then(|| (VIEWS.to_owned(), text))
}

/// Replaces storages by the tensors that are in them, as the metadata says, which may not name others.
///
/// # Errors
/// [`FileError`] if the metadata cannot be read, or names a tensor that is missing or elements that are not there.
pub(super) fn gather(tensors: &mut Tensors, metadata: &HashMap<String, String>) -> Result<Views, FileError> {
    let Some(text) = metadata.get(VIEWS) else {
        return Ok(Views::new());
    };
    let wrong = |found: String| FileError::Metadata {
        key: VIEWS,
        expected: "view, shape, strides and offset of tensors by name, as JSON",
        found,
    };
    let entries: BTreeMap<String, Entry> =
        serde_json::from_str(text).map_err(|error| wrong(format!("{text}: {error}")))?;
    let mut views = Views::new();
    for (name, entry) in entries {
        let view: View = entry.view.parse().map_err(|error| wrong(format!("{name}: {error}")))?;
        let tensor = tensors.get(&name).ok_or_else(|| missing(&name, tensors))?;
        let outside = || {
            let (shape, strides, offset) = (&entry.shape, &entry.strides, entry.offset);
            let elements = tensor.shape();
            wrong(format!(
                "{name}: shape {shape:?}, strides {strides:?} and offset {offset} in a storage of shape {elements:?}"
            ))
        };
        let gathered = match tensor {
            Tensor::F32(array) => gathered(array, &entry).map(Tensor::from),
            Tensor::F64(array) => gathered(array, &entry).map(Tensor::from),
            Tensor::Bf16(array) => gathered(array, &entry).map(Tensor::from),
            Tensor::F16(array) => gathered(array, &entry).map(Tensor::from),
            Tensor::I64(array) => gathered(array, &entry).map(Tensor::I64),
            Tensor::U8(array) => gathered(array, &entry).map(Tensor::U8),
        };
        let gathered = gathered.ok_or_else(outside)?;
        tensors.insert(name.clone(), gathered);
        views.insert(name, view);
    }
    Ok(views)
}

/// The storage of an array.
fn spread<T: Pod>(array: &ArrayD<T>, placement: &Placement) -> ArrayD<T> {
    let poison: T = bytemuck::pod_read_unaligned(&POISON[..size_of::<T>()]);
    let mut storage = ArrayD::from_elem(IxDyn(&[placement.elements]), poison);
    for (index, value) in array.indexed_iter() {
        let at = (0..array.ndim()).map(|axis| index[axis] * placement.strides[axis]);
        storage[placement.offset + at.sum::<usize>()] = *value;
    }
    storage
}

/// The array in a storage; none if it is not all there.
fn gathered<T: Copy>(storage: &ArrayD<T>, entry: &Entry) -> Option<ArrayD<T>> {
    let storage = storage.as_slice().filter(|_| storage.ndim() == 1)?;
    if entry.shape.len() != entry.strides.len() {
        return None;
    }
    let elements = entry
        .shape
        .iter()
        .try_fold(1usize, |product, size| product.checked_mul(*size))?;
    if elements > storage.len() {
        return None;
    }
    let mut values = Vec::with_capacity(elements);
    for flat in 0..elements {
        let (mut rest, mut at) = (flat, entry.offset);
        for (size, stride) in entry.shape.iter().zip(&entry.strides).rev() {
            at = at.checked_add((rest % size).checked_mul(*stride)?)?;
            rest /= size;
        }
        values.push(*storage.get(at)?);
    }
    ArrayD::from_shape_vec(IxDyn(&entry.shape), values).ok()
}
