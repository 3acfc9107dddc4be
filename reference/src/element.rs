//! Element types and their rounding.

use half::{bf16, f16};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, NdFloat};

use crate::Error;
use crate::memory::try_filled;

/// A tensor's element type: `f32`, `f64`, `bf16` or `f16`.
///
/// PyTorch computes each operation on the 16-bit types in `f32` and rounds its result once. `Wide` is the type
/// an operation computes in; [`narrow`](Element::narrow) is the rounding after it.
pub trait Element: sealed::Sealed + Copy + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// The type that one operation computes in: `f32` for the 16-bit types, else the type itself.
    type Wide: NdFloat + Element<Wide = Self::Wide>;

    /// Zero.
    const ZERO: Self;

    /// The exact value in the wide type.
    fn widen(self) -> Self::Wide;

    /// Rounds to nearest, ties to even.
    fn narrow(wide: Self::Wide) -> Self;

    /// Whether a value of the wide type is one of this type.
    fn holds(wide: Self::Wide) -> bool {
        let narrowed = Self::narrow(wide).widen();
        narrowed == wide || (is_nan(narrowed) && is_nan(wide))
    }

    /// A scalar parameter, as PyTorch passes it to an operation on this type.
    fn scalar(value: f64) -> Self::Wide;

    /// out `[M,N]` = a `[M,P]` · b `[P,N]`, accumulated in the wide type and rounded once.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] where the widened operands of a 16-bit type cannot be allocated.
    ///
    /// # Panics
    /// If the shapes do not fit; callers check them.
    fn matmul(a: ArrayView2<Self>, b: ArrayView2<Self>, out: ArrayViewMut2<Self>) -> Result<(), Error>;
}

impl Element for f32 {
    type Wide = f32;
    const ZERO: f32 = 0.0;

    fn widen(self) -> f32 {
        self
    }

    fn narrow(wide: f32) -> f32 {
        wide
    }

    fn scalar(value: f64) -> f32 {
        value as f32
    }

    fn matmul(a: ArrayView2<f32>, b: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) -> Result<(), Error> {
        general_mat_mul(1.0, &a, &b, 0.0, &mut out);
        Ok(())
    }
}

impl Element for f64 {
    type Wide = f64;
    const ZERO: f64 = 0.0;

    fn widen(self) -> f64 {
        self
    }

    fn narrow(wide: f64) -> f64 {
        wide
    }

    fn scalar(value: f64) -> f64 {
        value
    }

    fn matmul(a: ArrayView2<f64>, b: ArrayView2<f64>, mut out: ArrayViewMut2<f64>) -> Result<(), Error> {
        general_mat_mul(1.0, &a, &b, 0.0, &mut out);
        Ok(())
    }
}

impl Element for bf16 {
    type Wide = f32;
    const ZERO: bf16 = bf16::ZERO;

    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(wide: f32) -> bf16 {
        bf16::from_f32(wide)
    }

    fn scalar(value: f64) -> f32 {
        value as f32
    }

    fn matmul(a: ArrayView2<bf16>, b: ArrayView2<bf16>, out: ArrayViewMut2<bf16>) -> Result<(), Error> {
        matmul_through_f32(a, b, out)
    }
}

impl Element for f16 {
    type Wide = f32;
    const ZERO: f16 = f16::ZERO;

    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(wide: f32) -> f16 {
        f16::from_f32(wide)
    }

    fn scalar(value: f64) -> f32 {
        value as f32
    }

    fn matmul(a: ArrayView2<f16>, b: ArrayView2<f16>, out: ArrayViewMut2<f16>) -> Result<(), Error> {
        matmul_through_f32(a, b, out)
    }
}

fn matmul_through_f32<T: Element<Wide = f32>>(
    a: ArrayView2<T>,
    b: ArrayView2<T>,
    mut out: ArrayViewMut2<T>,
) -> Result<(), Error> {
    let widened = |view: ArrayView2<T>| -> Result<Array2<f32>, Error> {
        let mut wide = try_filled("a widened matrix", view.raw_dim(), 0.0)?;
        wide.zip_mut_with(&view, |wide, &narrow| *wide = narrow.widen());
        Ok(wide)
    };
    let mut product = try_filled("a widened product", out.raw_dim(), 0.0)?;
    general_mat_mul(1.0, &widened(a)?, &widened(b)?, 0.0, &mut product);
    out.zip_mut_with(&product, |narrow, &wide| *narrow = T::narrow(wide));
    Ok(())
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for half::bf16 {}
    impl Sealed for half::f16 {}
}

/// The exact value in f64.
pub(crate) fn widened<W: NdFloat>(wide: W) -> f64 {
    // Every wide type is f32 or f64, so there is always a value.
    wide.to_f64().unwrap_or(f64::NAN)
}

/// Whether a value is NaN.
pub(crate) fn is_nan<T: Element>(value: T) -> bool {
    value.widen() != value.widen()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn sixteen_bit_products_round_once() {
        // 1 + 2^-9 is not a bf16; the sum of both products, 2 + 2^-7, is not one either, but 2 is its nearest.
        let step = bf16::from_f32(0.0078125);
        let a = array![[bf16::ONE, step, bf16::ONE]];
        let b = array![[bf16::ONE], [bf16::ONE], [bf16::ONE]];
        let mut out = array![[bf16::ZERO]];
        bf16::matmul(a.view(), b.view(), out.view_mut()).unwrap();
        assert_eq!(out[[0, 0]].to_f32(), 2.0);
    }

    #[test]
    fn a_type_holds_its_own_values_alone() {
        for value in [0.0, -0.0, 1.0, 1.0078125, f32::INFINITY, f32::NAN] {
            assert!(bf16::holds(value) && f32::holds(value), "{value}");
        }
        assert!(!bf16::holds(1.0 + 1.0 / 256.0) && f16::holds(1.0 + 1.0 / 256.0));
        assert!(!f16::holds(1e5) && !f16::holds(1e-9) && bf16::holds(65536.0));
    }

    #[test]
    fn a_product_over_an_empty_axis_is_zero() {
        let mut out = array![[f32::NAN, f32::NAN]];
        f32::matmul(
            Array2::zeros((1, 0)).view(),
            Array2::zeros((0, 2)).view(),
            out.view_mut(),
        )
        .unwrap();
        assert_eq!(out, array![[0.0, 0.0]]);
    }

    #[test]
    fn a_nan_row_stays_in_its_row() {
        let a = array![[f32::NAN, 1.0], [1.0, 1.0]];
        let mut out = Array2::zeros((2, 2));
        f32::matmul(a.view(), Array2::ones((2, 2)).view(), out.view_mut()).unwrap();
        assert!(out.row(0).iter().all(|v| v.is_nan()));
        assert_eq!(out.row(1).to_vec(), [2.0, 2.0]);
    }
}
