//! Router indices from a profile.

use ndarray::Array2;

use super::numbers::{Draw, shuffled};
use crate::case::{RoutingProfile, TILES};

/// With more experts than this, a drawn routing always uses the last one.
pub(super) const MANY: usize = 64;

impl RoutingProfile {
    /// Whether the profile decides which experts are used. The last one need not be among them.
    pub(crate) fn names_experts(self) -> bool {
        matches!(
            self,
            RoutingProfile::AllToFirst | RoutingProfile::AllToMiddle | RoutingProfile::EmptyRuns
        )
    }
}

/// `router_indices` `[T,K]`. E must not be 0 where T is not.
pub(super) fn router_indices(
    profile: RoutingProfile,
    (tokens, experts, top_k): (usize, usize, usize),
    draw: Draw,
) -> Array2<i64> {
    if tokens == 0 {
        return Array2::zeros((0, top_k));
    }
    let mut ids = match profile {
        RoutingProfile::TileCounts => shuffled(tile_counts(tokens * top_k, experts, draw), draw),
        _ => (0..tokens)
            .flat_map(|token| match profile {
                RoutingProfile::Distinct => distinct(token, experts, top_k, draw),
                RoutingProfile::TwoEqual | RoutingProfile::AllEqual | RoutingProfile::ApartEqual => {
                    duplicates(profile, token, experts, top_k, draw)
                }
                _ => (0..top_k)
                    .map(|slot| single(profile, (token, slot), (tokens, experts, top_k), draw))
                    .collect(),
            })
            .collect(),
    };
    if experts > MANY && !profile.names_experts() {
        reach_last(&mut ids, experts);
    }
    Array2::from_shape_fn((tokens, top_k), |(token, slot)| ids[token * top_k + slot] as i64)
}

/// Replaces the highest expert that is used by the last one. Counts, duplicates and order stay the same.
pub(super) fn reach_last(ids: &mut [usize], experts: usize) {
    let highest = ids.iter().copied().max();
    for id in ids.iter_mut().filter(|id| Some(**id) == highest) {
        *id = experts - 1;
    }
}

/// One assignment, for a profile whose assignments are independent.
fn single(
    profile: RoutingProfile,
    (token, slot): (usize, usize),
    (tokens, experts, top_k): (usize, usize, usize),
    draw: Draw,
) -> usize {
    let at = [token, slot, 0];
    let rank = (token * top_k + slot) * experts / (tokens * top_k);
    match profile {
        RoutingProfile::AllToFirst => 0,
        RoutingProfile::AllToMiddle => experts / 2,
        RoutingProfile::AllToLast => experts - 1,
        RoutingProfile::Sorted => rank,
        RoutingProfile::Reversed => experts - 1 - rank,
        RoutingProfile::FirstFull if draw.below(16, [token, slot, 1]) != 0 => 0,
        RoutingProfile::EmptyRuns => {
            let used = used_in_runs(experts);
            used.get(draw.below(used.len().max(1), at))
                .copied()
                .unwrap_or(experts / 2)
        }
        RoutingProfile::Zipf => {
            let all: Vec<usize> = (0..experts).collect();
            first_of_zipf(&all, draw.unit(at))
        }
        _ => draw.below(experts, at),
    }
}

/// The experts between runs of unused ones.
pub(super) fn used_in_runs(experts: usize) -> Vec<usize> {
    let is_used = |e: &usize| matches!(e % 5, 2 | 3) && e + 1 < experts;
    (0..experts).filter(is_used).collect()
}

/// The place in `experts` of one that is drawn by a number in [0, 1), expert e with a weight of 1 / (e + 1).
pub(super) fn first_of_zipf(experts: &[usize], unit: f64) -> usize {
    let weight = |expert: &usize| 1.0 / (expert + 1) as f64;
    let total: f64 = experts.iter().map(weight).sum();
    let mut rest = unit * total;
    let reached = experts.iter().position(|expert| {
        rest -= weight(expert);
        rest < 0.0
    });
    reached.unwrap_or(experts.len() - 1)
}

/// K experts for one token, none twice where E ≥ K.
pub(super) fn distinct(token: usize, experts: usize, top_k: usize, draw: Draw) -> Vec<usize> {
    let mut chosen: Vec<usize> = Vec::with_capacity(top_k);
    for slot in 0..top_k {
        let mut taken: Vec<usize> = chosen[slot / experts * experts..].to_vec();
        taken.sort_unstable();
        let mut expert = draw.below(experts - taken.len(), [token, slot, 0]);
        for &other in &taken {
            expert += usize::from(other <= expert);
        }
        chosen.push(expert);
    }
    chosen
}

/// Distinct experts, then two slots made equal, or all of them.
fn duplicates(profile: RoutingProfile, token: usize, experts: usize, top_k: usize, draw: Draw) -> Vec<usize> {
    let mut chosen = distinct(token, experts, top_k, draw);
    match profile {
        RoutingProfile::TwoEqual if top_k >= 2 => chosen[1] = chosen[0],
        RoutingProfile::AllEqual => chosen = vec![chosen[0]; top_k],
        _ => chosen[top_k - 1] = chosen[0],
    }
    chosen
}

/// Counts b − 1, b and b + 1 on the first three experts, the rest of the assignments on the others.
fn tile_counts(assignments: usize, experts: usize, draw: Draw) -> Vec<usize> {
    let fitting: Vec<usize> = TILES.into_iter().filter(|tile| 3 * tile <= assignments).collect();
    let counts = match fitting.get(draw.below(fitting.len().max(1), [0, 0, 3])) {
        Some(tile) => [tile - 1, *tile, tile + 1],
        None => [0; 3],
    };
    let placed = counts.into_iter().take(experts.saturating_sub(1)).enumerate();
    let mut ids: Vec<usize> = placed
        .flat_map(|(expert, count)| std::iter::repeat_n(expert, count))
        .collect();
    let first_other = 3.min(experts - 1);
    for rest in ids.len()..assignments {
        ids.push(first_other + draw.below(experts - first_other, [rest, 0, 4]));
    }
    ids
}
