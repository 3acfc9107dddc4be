//! Allocation that returns an error instead of aborting.

use ndarray::{Array, Dimension};

use crate::Error;

/// An array of `shape` filled with `value`.
pub(crate) fn try_filled<T: Copy, D: Dimension>(what: &'static str, shape: D, value: T) -> Result<Array<T, D>, Error> {
    let overflow = || Error::SizeOverflow {
        what,
        sizes: shape.slice().to_vec(),
    };
    let elements = shape.size_checked().ok_or_else(overflow)?;
    elements
        .checked_mul(size_of::<T>().max(1))
        .filter(|bytes| isize::try_from(*bytes).is_ok())
        .ok_or_else(overflow)?;
    let mut values = Vec::new();
    values
        .try_reserve_exact(elements)
        .map_err(|_| Error::OutOfMemory { what, elements })?;
    values.resize(elements, value);
    Array::from_shape_vec(shape.clone(), values).map_err(|_| overflow())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Dim;

    #[test]
    fn sizes_beyond_the_address_space_are_refused() {
        let error = try_filled("rows", Dim([usize::MAX, 2]), 0.0f32).unwrap_err();
        assert_eq!(
            error,
            Error::SizeOverflow {
                what: "rows",
                sizes: vec![usize::MAX, 2]
            }
        );
    }

    #[test]
    fn more_memory_than_there_is_is_refused() {
        let elements = isize::MAX as usize / 8;
        let error = try_filled("rows", Dim([elements]), 0.0f64).unwrap_err();
        assert_eq!(error, Error::OutOfMemory { what: "rows", elements });
    }
}
