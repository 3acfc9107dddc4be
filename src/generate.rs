//! The generator: from bytes to a case.
//!
//! One generator serves three callers: libFuzzer hands it its input, proptest a vector of bytes, and a seed number is
//! expanded into bytes. It never rejects: bytes that run out read as zeros, and no bytes at all give the smallest case.
//! Every case is valid, bounded in size, and made of what has broken kernels before.

mod sizes;

use arbitrary::{Result, Unstructured};
use clap::ValueEnum;

use self::sizes::make_room;
use crate::case::{
    After, CapacityProfile, CaseSpec, OrderProfile, Place, Profile, Routing, RoutingProfile, SizeProfile, Special,
    SpecialValue, ValueProfile, mix,
};
use crate::tensor::ElementType;

/// The most assignments.
const MAX_ASSIGNMENTS: usize = 150_000;
/// The work of a case outside a fuzzer.
const USUAL_WORK: usize = 1 << 22;
/// Bytes that a seed is expanded into; more than the generator reads.
const SEED_BYTES: usize = 256;

/// What cases are drawn from: an empty list stands for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Element types.
    pub elements: Vec<ElementType>,
    /// Profiles; an axis of which none is named is drawn freely.
    pub profiles: Vec<Profile>,
    /// About how many multiplications a case may take, T·K·H·3I, and four times as many as a tensor has elements. What
    /// a profile needs to be what its name says may exceed it.
    pub work: usize,
    /// The most assignments and the most experts; exceeded as `work` is.
    pub assignments: usize,
    /// The most experts that have rows, each of which takes tiles of its own in the products; one case in eight exceeds
    /// it.
    pub busy_experts: usize,
    /// Whether one case in ten has an explicit order of the assignments; the cases are the same but for it. A profile
    /// that is named is taken in any case.
    pub orders: bool,
}

impl Default for Selection {
    /// Everything, with sizes around tiles of up to 256.
    fn default() -> Selection {
        Selection {
            elements: Vec::new(),
            profiles: Vec::new(),
            work: USUAL_WORK,
            assignments: MAX_ASSIGNMENTS,
            busy_experts: usize::MAX,
            orders: true,
        }
    }
}

impl Selection {
    /// Everything, in sizes that suit a fuzzer: just beyond a depth of 16, a tile of 256 assignments and the lanes of a
    /// warp in experts. More busy experts would take half of its time.
    pub fn small() -> Selection {
        Selection {
            work: 1 << 13,
            assignments: 300,
            busy_experts: 34,
            ..Selection::default()
        }
    }
}

impl CaseSpec {
    /// The case of a seed number.
    pub fn from_seed(seed: u64, selection: &Selection) -> CaseSpec {
        let bytes: Vec<u8> = (0..SEED_BYTES as u64 / 8)
            .flat_map(|word| mix(mix(seed) ^ word).to_le_bytes())
            .collect();
        CaseSpec::from_bytes(&bytes, selection)
    }

    /// The case of a fuzzer's bytes.
    pub fn from_bytes(bytes: &[u8], selection: &Selection) -> CaseSpec {
        let mut source = Source {
            bytes: Unstructured::new(bytes),
            selection,
        };
        source.case()
    }
}

/// Choices out of bytes; bytes that have run out choose the first of everything.
struct Source<'a> {
    bytes: Unstructured<'a>,
    selection: &'a Selection,
}

impl Source<'_> {
    fn case(&mut self) -> CaseSpec {
        let element = self.element();
        let size = self.profile(|profile| match profile {
            Profile::Size(profile) => Some(profile),
            _ => None,
        });
        let size = size.unwrap_or_else(|| self.size());
        let routing = self.profile(|profile| match profile {
            Profile::Routing(profile) => Some(profile),
            _ => None,
        });
        let special = self.special();
        let routing = match (routing, special.map(|special| special.place)) {
            (Some(routing), _) => routing,
            (None, _) if size == SizeProfile::ManyExperts => self.routing_to_last(),
            (None, _) if size == SizeProfile::ManyRows => self.routing_to_one(),
            (None, Some(Place::UnusedExpert)) => [RoutingProfile::EmptyRuns, RoutingProfile::AllToLast][self.below(2)],
            (None, _) => self.any(),
        };
        let values = self.profile(|profile| match profile {
            Profile::Values(profile) => Some(profile),
            _ => None,
        });
        let values = values.unwrap_or_else(|| self.any());
        let weights = self.profile(|profile| match profile {
            Profile::Weights(profile) => Some(profile),
            _ => None,
        });
        let weights = weights.unwrap_or_else(|| self.any());
        let after = self.after();
        let (alpha, limit) = self.activation(element, values);
        let seed = self.number();
        let mut spec = CaseSpec {
            element,
            batch: 1,
            sequence: 0,
            hidden: 1,
            intermediate: 1,
            experts: 1,
            top_k: 1,
            capacity: 0,
            alpha,
            limit,
            seed,
            routing: Routing::Profile(routing),
            values,
            weights,
            special,
            after,
            order: None,
        };
        self.sizes(&mut spec, size);
        if size != SizeProfile::ManyRows {
            self.fit(&mut spec);
        }
        make_room(&mut spec, routing);
        self.split_batch(&mut spec);
        self.capacity(&mut spec);
        // The last choice, so that none of the others hangs on it.
        spec.order = self.order();
        spec
    }

    fn element(&mut self) -> ElementType {
        let allowed = &self.selection.elements;
        if !allowed.is_empty() && !allowed.contains(&ElementType::F32) {
            return allowed[self.below(allowed.len())];
        }
        // f32 three times in four.
        let others: Vec<ElementType> = ElementType::ALL
            .into_iter()
            .filter(|e| allowed.is_empty() || allowed.contains(e))
            .collect();
        let pick = self.below(16);
        if pick < 12 {
            ElementType::F32
        } else {
            others[pick % others.len()]
        }
    }

    /// A profile of one axis, if the selection names any.
    fn profile<P>(&mut self, axis: impl Fn(Profile) -> Option<P>) -> Option<P> {
        let mut named: Vec<P> = self.selection.profiles.iter().copied().filter_map(axis).collect();
        if named.is_empty() {
            return None;
        }
        let pick = self.below(named.len());
        Some(named.swap_remove(pick))
    }

    /// A routing that uses the last of many experts.
    fn routing_to_last(&mut self) -> RoutingProfile {
        let reaching: Vec<RoutingProfile> = RoutingProfile::value_variants()
            .iter()
            .copied()
            .filter(|profile| !profile.names_experts())
            .collect();
        reaching[self.below(reaching.len())]
    }

    fn routing_to_one(&mut self) -> RoutingProfile {
        [
            RoutingProfile::AllToFirst,
            RoutingProfile::AllToMiddle,
            RoutingProfile::AllToLast,
        ][self.below(3)]
    }

    fn special(&mut self) -> Option<Special> {
        let named = self.profile(|profile| match profile {
            Profile::Special(special) => Some(special),
            _ => None,
        });
        if named.is_some() {
            return named;
        }
        let wanted = self.below(4) == 3;
        let special = Special {
            value: self.any::<SpecialValue>(),
            place: self.any::<Place>(),
        };
        wanted.then_some(special)
    }

    fn after(&mut self) -> Option<After> {
        let named = self.profile(|profile| match profile {
            Profile::After(after) => Some(after),
            _ => None,
        });
        if named.is_some() {
            return named;
        }
        let wanted = self.below(8) == 7;
        let after = self.any();
        wanted.then_some(after)
    }

    fn activation(&mut self, element: ElementType, values: ValueProfile) -> (f64, f64) {
        // PyTorch refuses a finite limit beyond the largest value.
        let max = element.max();
        let high = [1e4, f64::min(1e10, max), max, f64::INFINITY];
        let usual = self.below(3) < 2;
        if usual && values != ValueProfile::HugeGates {
            return (1.702, 7.0);
        }
        let alpha = [1.702, 1.0, 0.5, 3.0][self.below(4)];
        let pick = self.below(8);
        let limit = if pick >= 4 || values == ValueProfile::HugeGates {
            high[pick % 4]
        } else {
            [7.0, 1.0, 0.25, 0.0625][pick]
        };
        (alpha, limit)
    }

    fn order(&mut self) -> Option<OrderProfile> {
        let named = self.profile(|profile| match profile {
            Profile::Order(profile) => Some(profile),
            _ => None,
        });
        if named.is_some() {
            return named;
        }
        let wanted = self.below(10) == 9 && self.selection.orders;
        let order = self.any();
        wanted.then_some(order)
    }

    fn capacity(&mut self, spec: &mut CaseSpec) {
        let profile = self.profile(|profile| match profile {
            Profile::Capacity(profile) => Some(profile),
            _ => None,
        });
        let wants_drops = spec.special.is_some_and(|special| special.place == Place::DroppedToken);
        let profile = match (profile, self.below(16)) {
            (Some(profile), _) => profile,
            (None, pick) if wants_drops => [CapacityProfile::FarOver, CapacityProfile::CapacityOne][pick % 2],
            (None, 0) => CapacityProfile::CapacityZero,
            (None, 1) => CapacityProfile::CapacityOne,
            (None, 2..=3) => CapacityProfile::ExactlyFull,
            (None, 4..=5) => CapacityProfile::OneOver,
            (None, 6..=7) => CapacityProfile::FarOver,
            (None, 8..=12) => CapacityProfile::CapacityRule,
            (None, _) => CapacityProfile::CapacityHuge,
        };
        let assignments = spec.tokens() * spec.top_k;
        let fullest = fullest_expert(spec);
        spec.capacity = match profile {
            CapacityProfile::CapacityZero => 0,
            CapacityProfile::CapacityOne => 1,
            CapacityProfile::ExactlyFull => fullest,
            CapacityProfile::OneOver => fullest.saturating_sub(1),
            CapacityProfile::FarOver => fullest / 4,
            CapacityProfile::CapacityRule => 2 * assignments / spec.experts,
            CapacityProfile::CapacityHuge => assignments + [1, 7, 70_000][self.below(3)],
        };
    }

    fn any<P: ValueEnum + Clone>(&mut self) -> P {
        let variants = P::value_variants();
        variants[self.below(variants.len())].clone()
    }

    fn below(&mut self, n: usize) -> usize {
        let pick: Result<usize> = self.bytes.int_in_range(0..=n - 1);
        pick.unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        self.bytes.arbitrary().unwrap_or(0)
    }
}

/// The largest number of assignments of an expert.
fn fullest_expert(spec: &CaseSpec) -> usize {
    let mut counts = vec![0; spec.experts];
    for expert in spec.router_indices().into_iter().flatten() {
        counts[expert as usize] += 1;
    }
    counts.into_iter().max().unwrap_or(0)
}
