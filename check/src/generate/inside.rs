//! What is drawn, moved into the domain.
//!
//! Nothing is drawn twice: a size that the domain does not admit becomes one near it. Sizes at the edge of a tile become
//! those that the domain has around that edge. Where the domain admits everything, nothing changes.

use super::{Source, fullest_of};
use crate::case::{CapacityProfile, CaseSpec, Larger, SizeProfile, ValueProfile, Warmup};
use crate::domain::{Rules, Sizes};

/// The size up to which three sizes are drawn from the least on, where the first of a tile edge is not admitted.
const SMALL: usize = 257;
/// The most multiplications of a case with many assignments in a domain without small sizes.
const MOST_WORK: usize = 1 << 30;
/// The most elements of a tensor with many experts in a domain without small sizes.
const MOST_ELEMENTS: usize = 1 << 24;

impl Source<'_> {
    /// Lowers H and I where the least number of experts is so large that the weights have too many elements.
    pub(super) fn lower_weights(&self, spec: &mut CaseSpec, elements: usize) {
        let axes = self.rules.axes();
        let is_large = |spec: &CaseSpec| {
            let sizes = [2, spec.experts, spec.hidden, spec.intermediate];
            sizes
                .iter()
                .fold(1, |product: usize, size| product.saturating_mul(*size))
                > elements
        };
        if spec.experts <= 2 || spec.experts > axes.least().experts || !is_large(spec) {
            return;
        }
        let most = elements / (2 * spec.experts);
        spec.hidden = lowered(&axes.hidden, spec.hidden, most.isqrt());
        spec.intermediate = if axes.square {
            spec.hidden
        } else {
            lowered(&axes.intermediate, spec.intermediate, most / spec.hidden)
        };
    }

    /// Takes the least sizes where those drawn cannot be built, but for T where that is no use: the case is then
    /// sampled.
    pub(super) fn keep_buildable(&self, spec: &mut CaseSpec) {
        let (least, tokens) = (self.rules.axes().least(), spec.sequence);
        if spec.check_sizes().is_err() {
            (spec.hidden, spec.intermediate) = (least.hidden, least.intermediate);
        }
        if spec.check_sizes().is_err() {
            spec.sequence = least.tokens;
            (spec.experts, spec.top_k) = (least.experts, least.top_k);
        }
        if spec.check_sizes().is_err() {
            spec.sequence = tokens;
        }
    }

    /// Alpha and limit, or others that the domain has instead.
    pub(super) fn activation_inside(&mut self, alpha: f64, limit: f64, values: ValueProfile) -> (f64, f64) {
        let domain = self.rules.domain();
        let (alphas, limits) = (domain.alpha.clone(), domain.limit.clone());
        let wants_high = values == ValueProfile::HugeGates;
        let limits = limits.map(|limits| {
            let highest = limits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if wants_high { vec![highest] } else { limits }
        });
        (self.number_inside(alpha, alphas), self.number_inside(limit, limits))
    }

    fn number_inside(&mut self, number: f64, admitted: Option<Vec<f64>>) -> f64 {
        match admitted {
            Some(admitted) if !admitted.contains(&number) => admitted[self.below(admitted.len())],
            _ => number,
        }
    }

    /// A profile that the domain allows.
    pub(super) fn capacity_profile_inside(&self, profile: CapacityProfile, pick: usize) -> CapacityProfile {
        if self.rules.allow_capacity(profile) {
            return profile;
        }
        let allowed = self.allowed(CapacityProfile::ALL, Rules::allow_capacity);
        allowed[pick % allowed.len()]
    }

    /// Leaves out tokens, and slots where that is not enough, if nothing may be dropped and the largest capacity is too
    /// small.
    pub(super) fn lower_to_capacity(&self, spec: &mut CaseSpec) {
        let axes = self.rules.axes();
        let most = axes.capacity.at_most(usize::MAX).unwrap_or(0);
        if axes.drops || self.needed_capacity(spec, fullest_of(spec)) <= most {
            return;
        }
        let tokens = if axes.distinct { most } else { most / spec.top_k };
        (spec.batch, spec.sequence) = (1, lowered(&axes.tokens, spec.tokens(), tokens));
        if !axes.distinct && spec.sequence > 0 {
            spec.top_k = lowered(&axes.top_k, spec.top_k, most / spec.sequence);
        }
    }

    /// A capacity near the one wanted; where nothing may be dropped, one that drops nothing.
    pub(super) fn capacity_inside(&self, wanted: usize, spec: &CaseSpec, fullest: usize) -> usize {
        let axes = self.rules.axes();
        if axes.drops {
            return near(&axes.capacity, wanted);
        }
        let needed = self.needed_capacity(spec, fullest);
        let capacity = near(&axes.capacity, wanted.max(needed));
        if capacity >= needed {
            return capacity;
        }
        axes.capacity.at_least(needed).unwrap_or(capacity)
    }

    /// The capacity at which nothing is dropped, in calls before of the same shape neither.
    fn needed_capacity(&self, spec: &CaseSpec, fullest: usize) -> usize {
        if spec.warmup == Some(Warmup::Larger) {
            return fullest;
        }
        spec.predecessors().iter().map(fullest_of).fold(fullest, usize::max)
    }

    /// Sets the sizes of a larger case before, where the usual ones are outside.
    pub(super) fn settle_warmup(&self, spec: &mut CaseSpec) {
        let is_outside = |spec: &CaseSpec| {
            let is_larger = spec.warmup == Some(Warmup::Larger);
            let is_outside = |before: &CaseSpec| self.rules.domain().admits(before).is_err();
            is_larger && spec.predecessors().iter().any(is_outside)
        };
        if !is_outside(spec) {
            return;
        }
        let axes = self.rules.axes();
        let most = match axes.capacity.at_most(usize::MAX) {
            Some(most) if !axes.drops && axes.distinct => most,
            Some(most) if !axes.drops => most / spec.top_k,
            _ => usize::MAX,
        };
        let more = |least: usize| axes.tokens.at_least(least).filter(|&tokens| tokens <= most);
        let Some(tokens) = more(2 * spec.tokens() + 3).or_else(|| more(spec.tokens() + 1)) else {
            spec.warmup = Some(Warmup::Same);
            return;
        };
        spec.larger = Some(Larger { tokens, capacity: 0 });
        let fullest = spec.predecessors().iter().map(fullest_of).max().unwrap_or(0);
        let capacity = self.capacity_inside(spec.capacity.saturating_add(5), spec, fullest);
        spec.larger = Some(Larger { tokens, capacity });
        if is_outside(spec) {
            (spec.warmup, spec.larger) = (Some(Warmup::Same), None);
        }
    }

    /// The most multiplications of a case.
    pub(super) fn work(&self, size: SizeProfile) -> usize {
        let least = self.least_work();
        if least == 3 {
            return self.selection.work;
        }
        let wanted = match size {
            SizeProfile::ManyAssignments => least.saturating_mul(70_000).min(MOST_WORK),
            _ => least
                .saturating_mul(1024)
                .min(1 << 24)
                .max(least.saturating_mul(64).min(1 << 26)),
        };
        self.selection.work.max(wanted)
    }

    /// The most elements of a tensor.
    pub(super) fn elements(&self, size: SizeProfile) -> usize {
        let usual = self.work(SizeProfile::TileEdges) / 4;
        if size == SizeProfile::ManyExperts && self.least_work() != 3 {
            return usual.max(self.least_work().saturating_mul(1025).min(MOST_ELEMENTS));
        }
        usual
    }

    /// The multiplications of an assignment of the least sizes.
    fn least_work(&self) -> usize {
        let least = self.rules.axes().least();
        least.hidden.saturating_mul(3 * least.intermediate)
    }

    /// The largest H or I of a tile's edge: next to the largest tile, or two steps from the least.
    pub(super) fn widest(&self, sizes: &Sizes, usual: usize) -> usize {
        let least = sizes.at_least(1).unwrap_or(1);
        if least == 1 && sizes.at_least(usual) == Some(usual) {
            return usual;
        }
        let edge = sizes.at_least(usual).unwrap_or(usual).min(2 * usual);
        edge.max(nth(sizes, 2).min(1024)).max(least)
    }
}

/// The admitted size nearest to `size`.
pub(super) fn near(sizes: &Sizes, size: usize) -> usize {
    match (sizes.at_most(size), sizes.at_least(size)) {
        (Some(low), Some(high)) if size - low < high - size => low,
        (_, Some(high)) => high,
        (Some(low), None) => low,
        (None, None) => size,
    }
}

/// A small size: itself, or one of the least three.
pub(super) fn small(sizes: &Sizes, size: usize) -> usize {
    let least = sizes.at_least(1).unwrap_or(size);
    if size >= least {
        return near(sizes, size);
    }
    let other = nth(sizes, (size - 1) / 3);
    if other <= least.max(SMALL) { other } else { least }
}

/// The size at a tile's edge: the last below it, the one nearest to it, or the first above it.
pub(super) fn around(sizes: &Sizes, tile: usize, offset: usize) -> usize {
    let other = match offset {
        0 => sizes.at_most(tile - 1),
        1 => None,
        _ => sizes.at_least(tile + 1),
    };
    other.unwrap_or_else(|| near(sizes, tile))
}

/// At most `most`, if the domain has such a size.
pub(super) fn lowered(sizes: &Sizes, size: usize, most: usize) -> usize {
    if size <= most {
        return size;
    }
    sizes.at_most(most).or_else(|| sizes.at_least(0)).unwrap_or(size)
}

/// At least `least`, if the domain has such a size.
pub(super) fn raised(sizes: &Sizes, size: usize, least: usize) -> usize {
    if size >= least {
        return size;
    }
    sizes.at_least(least).unwrap_or(size)
}

/// The size after so many others from the least on; the last where there are fewer.
fn nth(sizes: &Sizes, place: usize) -> usize {
    let mut size = sizes.at_least(1).unwrap_or(1);
    for _ in 0..place {
        size = sizes.at_least(size.saturating_add(1)).unwrap_or(size);
    }
    size
}
