//! Router indices from a profile, with no expert twice in a token.
//!
//! Each profile keeps its distribution over the experts as far as K different ones a token allow: what would go to one
//! expert goes to K neighbours.

use ndarray::Array2;

use super::numbers::{Draw, shuffled};
use super::routing::{MANY, distinct, first_of_zipf, reach_last, used_in_runs};
use crate::case::{RoutingProfile, TILES};

/// `router_indices` `[T,K]`. E must be K or more.
pub(super) fn distinct_indices(
    profile: RoutingProfile,
    (tokens, experts, top_k): (usize, usize, usize),
    draw: Draw,
) -> Array2<i64> {
    let counted = (profile == RoutingProfile::TileCounts).then(|| tile_counts((tokens, experts, top_k), draw));
    let mut ids = counted.flatten().unwrap_or_else(|| {
        let row = |token| row(profile, token, (tokens, experts, top_k), draw);
        (0..tokens).flat_map(row).collect()
    });
    if experts > MANY && !profile.names_experts() {
        reach_last(&mut ids, experts);
    }
    Array2::from_shape_fn((tokens, top_k), |(token, slot)| ids[token * top_k + slot] as i64)
}

/// The experts of one token.
fn row(
    profile: RoutingProfile,
    token: usize,
    (tokens, experts, top_k): (usize, usize, usize),
    draw: Draw,
) -> Vec<usize> {
    // The first expert of the last K.
    let last = experts - top_k;
    let from = |first: usize| Vec::from_iter(first..first + top_k);
    let turned = |mut row: Vec<usize>| {
        row.rotate_left(draw.below(top_k.max(1), [token, 0, 6]));
        row
    };
    match profile {
        RoutingProfile::AllToFirst => turned(from(0)),
        RoutingProfile::AllToMiddle => turned(from((experts / 2).min(last))),
        RoutingProfile::AllToLast => turned(from(last)),
        RoutingProfile::Sorted => from(token * (last + 1) / tokens),
        RoutingProfile::Reversed => from(last - token * (last + 1) / tokens).into_iter().rev().collect(),
        RoutingProfile::FirstFull if draw.below(16, [token, 0, 1]) != 0 || last == 0 => {
            let others = distinct(token, experts - 1, top_k.saturating_sub(1), draw)
                .into_iter()
                .map(|other| other + 1);
            turned(std::iter::once(0).chain(others).collect())
        }
        RoutingProfile::EmptyRuns => {
            let mut used = used_in_runs(experts);
            if used.len() < top_k {
                used = from(last.min(1));
            }
            let places = distinct(token, used.len(), top_k, draw);
            places.into_iter().map(|place| used[place]).collect()
        }
        RoutingProfile::Zipf => zipf(token, experts, top_k, draw),
        _ => distinct(token, experts, top_k, draw),
    }
}

/// K experts, one after the other out of those that remain, expert e with a weight of 1 / (e + 1).
fn zipf(token: usize, experts: usize, top_k: usize, draw: Draw) -> Vec<usize> {
    let mut remaining: Vec<usize> = (0..experts).collect();
    let take = |slot| remaining.remove(first_of_zipf(&remaining, draw.unit([token, slot, 0])));
    (0..top_k).map(take).collect()
}

/// Counts b − 1, b and b + 1 on the first three experts, the rest of the assignments even on the others; none where the
/// sizes allow no such counts.
fn tile_counts((tokens, experts, top_k): (usize, usize, usize), draw: Draw) -> Option<Vec<usize>> {
    let assignments = tokens * top_k;
    let others = experts.checked_sub(3)?;
    let fits = |tile: &usize| {
        let rest = assignments.checked_sub(3 * tile);
        *tile < tokens && rest.is_some_and(|rest| rest <= others * tokens)
    };
    let fitting: Vec<usize> = TILES.into_iter().filter(fits).collect();
    let tile = *fitting.get(draw.below(fitting.len().max(1), [0, 0, 3]))?;
    let rest = assignments - 3 * tile;
    let even = |other: usize| rest / others + usize::from(other < rest % others);
    let counts = [tile - 1, tile, tile + 1].into_iter().chain((0..others).map(even));
    let by_expert = counts
        .enumerate()
        .flat_map(|(expert, count)| std::iter::repeat_n(expert, count));
    // The assignments of one expert are one after the other and not more than the tokens, so no token gets two.
    let mut rows = vec![Vec::with_capacity(top_k); tokens];
    for (at, expert) in by_expert.enumerate() {
        rows[at % tokens].push(expert);
    }
    let order = shuffled((0..tokens).collect(), draw);
    Some(order.into_iter().flat_map(|token| rows[token].clone()).collect())
}
