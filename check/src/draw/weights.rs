//! The dense routing weights from a profile.

use ndarray::{Array2, Array3};

use super::numbers::Stream;
use crate::case::{CaseSpec, WeightProfile};

/// `[B,S,E]`.
pub(super) fn routing_weights(spec: &CaseSpec, router_indices: &Array2<i64>) -> Array3<f64> {
    let draw = spec.draw(Stream::Weights);
    let token = |b: usize, s: usize| b * spec.sequence + s;
    let mut weights = Array3::from_shape_fn((spec.batch, spec.sequence, spec.experts), |(b, s, e)| {
        let at = [token(b, s), e, 0];
        match spec.weights {
            WeightProfile::Normalised => draw.unit(at) + 1.0 / 16.0,
            WeightProfile::Unnormalised => 3.0 * draw.unit(at) + 0.125,
            WeightProfile::Negative => draw.normal(at),
            WeightProfile::SomeZero if draw.bits(at).is_multiple_of(2) => 0.0,
            WeightProfile::SomeZero => draw.unit(at) + 1.0 / 16.0,
            WeightProfile::OneHot => 0.0,
        }
    });
    match spec.weights {
        WeightProfile::Normalised => {
            for mut row in weights.rows_mut() {
                let sum = row.sum();
                row.mapv_inplace(|weight| weight / sum);
            }
        }
        WeightProfile::OneHot => {
            for (token, ids) in router_indices.rows().into_iter().enumerate() {
                let slot = draw.below(spec.top_k, [token, 0, 1]);
                weights[[token / spec.sequence, token % spec.sequence, ids[slot] as usize]] =
                    0.5 + draw.unit([token, 0, 2]);
            }
        }
        _ => {}
    }
    weights
}
