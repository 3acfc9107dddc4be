//! How tensors lie in memory where a kernel gets them.

use std::collections::BTreeMap;

use crate::named::named;

named! {
    /// How a tensor lies in its storage. Only [`Contiguous`](View::Contiguous) has no other elements around its own.
    pub enum View, "view" {
        /// In row-major order from the first element on.
        #[default]
        Contiguous = "contiguous",
        /// The first columns of a tensor with three more of them: rows are further apart than they are long.
        Strided = "strided",
        /// Every other column of a tensor with twice as many: the last stride is 2.
        Stepped = "stepped",
        /// All but the first and the last entry of the first axis of a tensor with two more of them: there is an offset.
        Offset = "offset",
        /// A tensor whose last two axes are the other way round, transposed: the last stride is that of the rows.
        Transposed = "transposed",
    }
}

/// The views that the tensors of a [`Problem`](crate::Problem) are handed over as, by their names in a file; all others
/// are contiguous.
pub type Views = BTreeMap<String, View>;

/// Where the elements of a tensor are in its storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Elements from one entry of an axis to the next, by axis.
    pub strides: Vec<usize>,
    /// The element of the storage that is the first of the tensor.
    pub offset: usize,
    /// Elements of the storage.
    pub elements: usize,
}

impl View {
    /// Columns that a tensor of strided rows has more.
    const MORE_COLUMNS: usize = 3;
    /// Columns of which every one is taken.
    const STEP: usize = 2;

    /// Where a tensor of this shape lies. One of fewer than two axes, or without an element, is contiguous.
    pub fn placement(self, shape: &[usize]) -> Placement {
        let [.., rows, columns] = *shape else {
            return Placement::row_major(shape);
        };
        if shape.contains(&0) {
            return Placement::row_major(shape);
        }
        let last = shape.len() - 1;
        let within = |rows: usize, columns: usize| {
            let mut whole = shape.to_vec();
            (whole[last - 1], whole[last]) = (rows, columns);
            Placement::row_major(&whole)
        };
        match self {
            View::Contiguous => Placement::row_major(shape),
            View::Strided => within(rows, columns + View::MORE_COLUMNS),
            View::Stepped => {
                let mut placement = within(rows, View::STEP * columns);
                placement.strides[last] = View::STEP;
                placement
            }
            View::Offset => {
                let own = Placement::row_major(shape);
                Placement {
                    offset: own.strides[0],
                    elements: own.elements + 2 * own.strides[0],
                    ..own
                }
            }
            View::Transposed => {
                let mut placement = within(columns, rows);
                placement.strides.swap(last - 1, last);
                placement
            }
        }
    }
}

impl Placement {
    fn row_major(shape: &[usize]) -> Placement {
        let mut strides = vec![1usize; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
        }
        Placement {
            strides,
            offset: 0,
            elements: shape
                .iter()
                .fold(1, |product: usize, size| product.saturating_mul(*size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(view: View) -> (Vec<usize>, usize, usize) {
        let Placement {
            strides,
            offset,
            elements,
        } = view.placement(&[2, 3, 4]);
        (strides, offset, elements)
    }

    #[test]
    fn views_are_those_of_larger_tensors() {
        assert_eq!(placed(View::Contiguous), (vec![12, 4, 1], 0, 24));
        assert_eq!(placed(View::Strided), (vec![21, 7, 1], 0, 42));
        assert_eq!(placed(View::Stepped), (vec![24, 8, 2], 0, 48));
        assert_eq!(placed(View::Offset), (vec![12, 4, 1], 12, 48));
        assert_eq!(placed(View::Transposed), (vec![12, 1, 3], 0, 24));
    }

    #[test]
    fn no_element_is_outside_its_storage() {
        for shape in [
            &[2, 3, 4][..],
            &[5, 1],
            &[1, 1],
            &[0, 3],
            &[3, 0],
            &[2, 2, 1, 3],
            &[7],
            &[],
        ] {
            for &view in View::ALL {
                let placement = view.placement(shape);
                let last = shape
                    .iter()
                    .zip(&placement.strides)
                    .map(|(size, stride)| size.saturating_sub(1) * stride);
                let last = placement.offset + last.sum::<usize>();
                assert!(
                    shape.contains(&0) || last < placement.elements,
                    "{view} {shape:?}: {placement:?}"
                );
            }
        }
    }
}
