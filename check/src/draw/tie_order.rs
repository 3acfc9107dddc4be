//! An explicit order of the assignments from a profile.

use std::cmp::Reverse;

use ndarray::Array2;

use super::numbers::Draw;
use crate::case::OrderProfile;

/// Flat indices of the assignments to experts below `experts`, sorted by expert. The order of two assignments of one expert depends on their positions alone.
pub(super) fn sorted_indices(
    profile: OrderProfile,
    router_indices: &Array2<i64>,
    number: usize,
    draw: Draw,
) -> Vec<usize> {
    let top_k = router_indices.ncols();
    let experts: Vec<i64> = router_indices.iter().copied().collect();
    let mut order: Vec<usize> = (0..experts.len())
        .filter(|flat| experts[*flat] < number as i64)
        .collect();
    match profile {
        OrderProfile::TiesReversed => order.sort_by_key(|&flat| (experts[flat], Reverse(flat))),
        OrderProfile::TiesShuffled => {
            order.sort_by_cached_key(|&flat| (experts[flat], draw.bits([flat / top_k, flat % top_k, 0])));
        }
    }
    order
}
