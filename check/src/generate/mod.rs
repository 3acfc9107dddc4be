//! The generator: from bytes to a case.
//!
//! One generator serves three callers: libFuzzer hands it its input, proptest a vector of bytes, and a seed number is
//! expanded into bytes. It never rejects: bytes that run out read as zeros, and no bytes at all give the smallest case.
//! Every case is valid and bounded in size. Its parts are those that have broken kernels before.

mod selection;
mod sizes;

use arbitrary::{Result, Unstructured};

pub use self::selection::Selection;
use self::selection::USUAL_WORK;
use self::sizes::make_room;
use crate::case::{
    CapacityProfile, CaseSpec, OrderProfile, Place, Routing, RoutingProfile, SizeProfile, Special, ValueProfile, Warmup,
};
use crate::draw::mix;
use crate::named::Named;
use crate::tensor::ElementType;

/// The most assignments.
const MAX_ASSIGNMENTS: usize = 150_000;
/// Bytes that a seed is expanded into; more than the generator reads.
const SEED_BYTES: usize = 256;

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

/// Makes choices from bytes. Where the bytes have run out, it chooses the first of everything.
struct Source<'a> {
    bytes: Unstructured<'a>,
    selection: &'a Selection,
}

impl Source<'_> {
    fn case(&mut self) -> CaseSpec {
        let element = self.element();
        let selection = self.selection;
        let size = self.one_of(&selection.sizes);
        let size = size.unwrap_or_else(|| self.size());
        let routing = self.one_of(&selection.routings);
        let special = self.special();
        let routing = match (routing, special.map(|special| special.place)) {
            (Some(routing), _) => routing,
            (None, _) if size == SizeProfile::ManyExperts => self.routing_to_last(),
            (None, _) if size == SizeProfile::ManyRows => self.routing_to_one(),
            (None, Some(Place::UnusedExpert)) => [RoutingProfile::EmptyRuns, RoutingProfile::AllToLast][self.below(2)],
            (None, _) => self.any(),
        };
        let values = self.one_of(&selection.values);
        let values = values.unwrap_or_else(|| self.any());
        let weights = self.one_of(&selection.weights);
        let weights = weights.unwrap_or_else(|| self.any());
        let warmup = self.warmup();
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
            warmup,
            order: None,
        };
        self.sizes(&mut spec, size);
        if size != SizeProfile::ManyRows {
            self.fit(&mut spec);
        }
        make_room(&mut spec, routing);
        self.split_batch(&mut spec);
        self.capacity(&mut spec);
        // The last choice, so that the others do not depend on it.
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
            .iter()
            .copied()
            .filter(|e| allowed.is_empty() || allowed.contains(e))
            .collect();
        let pick = self.below(16);
        if pick < 12 {
            ElementType::F32
        } else {
            others[pick % others.len()]
        }
    }

    /// One of the profiles that the selection names; none if it names none.
    fn one_of<P: Copy>(&mut self, named: &[P]) -> Option<P> {
        if named.is_empty() {
            return None;
        }
        Some(named[self.below(named.len())])
    }

    /// A routing that uses the last of many experts.
    fn routing_to_last(&mut self) -> RoutingProfile {
        let reaching: Vec<RoutingProfile> = RoutingProfile::ALL
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
        let named = self.one_of(&self.selection.specials);
        if named.is_some() {
            return named;
        }
        let wanted = self.below(4) == 3;
        let special = Special {
            value: self.any(),
            place: self.any(),
        };
        wanted.then_some(special)
    }

    fn warmup(&mut self) -> Option<Warmup> {
        let named = self.one_of(&self.selection.warmups);
        if named.is_some() {
            return named;
        }
        let wanted = self.below(8) == 7;
        let warmup = self.any();
        wanted.then_some(warmup)
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
        let named = self.one_of(&self.selection.orders);
        if named.is_some() {
            return named;
        }
        let wanted = self.below(10) == 9 && self.selection.draws_orders;
        let order = self.any();
        wanted.then_some(order)
    }

    fn capacity(&mut self, spec: &mut CaseSpec) {
        let profile = self.one_of(&self.selection.capacities);
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

    fn any<P: Named>(&mut self) -> P {
        P::ALL[self.below(P::ALL.len())]
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
