//! The experts' two products.

use ndarray::{ArrayView2, ArrayView3, Axis};

use crate::problem::expect_shape;
use crate::{Binned, Element, Error, ExpertWeights};

/// x `[·,H]` · `gate_up_proj` `[E,H,2I]` + `gate_up_proj_bias` `[E,2I]`, expert by expert. The product is rounded to the
/// element type, and so is its sum with the bias, whatever the type of the bias: PyTorch has no operation that adds a wider
/// bias to a product and gives the product's type, but what follows takes that type.
///
/// # Errors
/// [`Error::Shape`] if `x` does not fit the weights; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn gate_up<T: Element>(x: &Binned<T>, weights: &ExpertWeights<T>) -> Result<Binned<T>, Error> {
    affine(
        "gate_up",
        x,
        weights.gate_up_proj().view(),
        weights.gate_up_proj_bias().view(),
    )
}

/// x `[·,I]` · `down_proj` `[E,I,H]` + `down_proj_bias` `[E,H]`, expert by expert.
///
/// # Errors
/// [`Error::Shape`] if `x` does not fit the weights; [`Error::SizeOverflow`] or [`Error::OutOfMemory`].
pub fn down<T: Element>(x: &Binned<T>, weights: &ExpertWeights<T>) -> Result<Binned<T>, Error> {
    affine("down", x, weights.down_proj().view(), weights.down_proj_bias().view())
}

fn affine<T: Element>(
    what: &'static str,
    x: &Binned<T>,
    matrices: ArrayView3<T>,
    biases: ArrayView2<T::Wide>,
) -> Result<Binned<T>, Error> {
    let (experts, _, width) = matrices.dim();
    expect_shape("experts", &[experts], &[x.experts()])?;
    expect_shape(what, &[x.rows().nrows(), matrices.dim().1], x.rows().shape())?;
    let mut out = x.zeros_like(what, width)?;
    for (expert, (matrix, bias)) in matrices.outer_iter().zip(biases.outer_iter()).enumerate() {
        let rows = x.expert(expert);
        if rows.nrows() == 0 {
            continue;
        }
        let mut target = out.expert_mut(expert);
        T::matmul(rows, matrix, target.view_mut())?;
        for mut row in target.axis_iter_mut(Axis(0)) {
            row.zip_mut_with(&bias, |value, &bias| *value = T::narrow(value.widen() + bias));
        }
    }
    Ok(out)
}
