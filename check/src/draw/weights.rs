//! The dense routing weights from a profile.

use binned_experts_reference::TensorType;
use ndarray::{Array2, Array3};

use super::numbers::{Draw, Stream};
use crate::case::{CaseSpec, WeightProfile};

/// The most slots of one expert whose weight is not 0, where weights are powers of two. So the sum over the slots has
/// few bits.
const MOST_EQUAL_SLOTS: usize = 64;

/// `[B,S,E]`. `kept` says of each flat index whether the capacity keeps it.
pub(super) fn routing_weights(spec: &CaseSpec, router_indices: &Array2<i64>, kept: &[bool]) -> Array3<f64> {
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
            WeightProfile::PowersOfTwo => expert_scale(e),
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
                let at = [token / spec.sequence, token % spec.sequence, ids[slot] as usize];
                // There is none for an expert that is not local.
                if let Some(weight) = weights.get_mut(at) {
                    *weight = 0.5 + draw.unit([token, 0, 2]);
                }
            }
        }
        WeightProfile::PowersOfTwo => {
            for (token, ids) in router_indices.rows().into_iter().enumerate() {
                let kept = &kept[token * spec.top_k..][..spec.top_k];
                let experts = ids
                    .iter()
                    .zip(kept)
                    .filter(|(_, kept)| **kept)
                    .map(|(id, _)| *id as usize);
                let cancels = spec.layer.output_type == TensorType::Element;
                for (expert, power) in powers(experts, token, draw, cancels) {
                    weights[[token / spec.sequence, token % spec.sequence, expert]] = power * expert_scale(expert);
                }
            }
        }
        _ => {}
    }
    weights
}

/// What the weights of an expert that are powers of two have in common.
pub(super) fn expert_scale(e: usize) -> f64 {
    [1.0, 0.5, 2.0][e % 3]
}

/// The power of two, or 0, of each expert that keeps slots of a token. Two experts of equally many slots, the first and
/// the last such where there are more, get large ones, which are opposite where the sum is to have few bits. The others get
/// small ones of alternating sign.
fn powers(experts: impl Iterator<Item = usize>, token: usize, draw: Draw, cancels: bool) -> Vec<(usize, f64)> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for expert in experts {
        match groups.iter_mut().find(|(other, _)| *other == expert) {
            Some((_, slots)) => *slots += 1,
            None => groups.push((expert, 1)),
        }
    }
    let partner = |first: usize| {
        let is_partner = |other: &usize| groups[*other].1 == groups[first].1;
        (first + 1..groups.len()).rev().find(is_partner)
    };
    let pair = (0..groups.len()).find_map(|first| Some((first, partner(first)?)));
    let small = [0.5, 1.0, 2.0][draw.below(3, [token, 0, 3])];
    let large = small * f64::from(256 << draw.below(5, [token, 0, 4]));
    let large = if draw.bits([token, 0, 5]).is_multiple_of(2) {
        large
    } else {
        -large
    };
    let mut rest = 0;
    let mut power = |at: usize, slots: usize| match pair {
        _ if slots > MOST_EQUAL_SLOTS => 0.0,
        Some((first, _)) if at == first => large,
        Some((_, last)) if at == last && cancels => -large,
        Some((_, last)) if at == last => large,
        _ if rest > 0 => {
            rest -= slots as i64;
            -small
        }
        _ => {
            rest += slots as i64;
            small
        }
    };
    let powers = groups.iter().enumerate();
    powers
        .map(|(at, &(expert, slots))| (expert, power(at, slots)))
        .collect()
}
