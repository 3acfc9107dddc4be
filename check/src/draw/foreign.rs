//! Ids of experts that are not local.
//!
//! Half of the slots are foreign, and all slots of one token in four; in one case of eight every slot is. Where ids count
//! the experts of all ranks, there are twice as many as local ones: an expert below the first local id keeps its number as
//! a foreign id, any other gets one above the last local id. So different experts of a token stay different.

use ndarray::Array2;

use super::numbers::Draw;
use crate::case::{Foreign, ForeignIds};

/// `router_indices` `[T,K]` of E experts, with some of them foreign.
pub(super) fn with_foreign(local: Array2<i64>, foreign: Foreign, experts: usize, draw: Draw) -> Array2<i64> {
    let is_all = draw.below(8, [0, 0, 1]) == 0;
    let is_foreign = |token, slot| is_all || draw.below(4, [token, 0, 2]) == 0 || draw.below(2, [token, slot, 3]) == 0;
    let (first, experts) = (foreign.first_expert as i64, experts as i64);
    let id = |((token, slot), &expert): ((usize, usize), &i64)| match foreign.ids {
        _ if !is_foreign(token, slot) => first + expert,
        ForeignIds::MinusOne => -1,
        ForeignIds::OtherRanks if expert < first => expert,
        ForeignIds::OtherRanks => first + experts + expert - first.min(experts),
    };
    let ids = local.indexed_iter().map(id).collect();
    Array2::from_shape_vec(local.raw_dim(), ids).expect("there is an id for each slot")
}
