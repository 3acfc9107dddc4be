//! The generator: from bytes to a case.
//!
//! One generator serves three callers: libFuzzer hands it its input, proptest a vector of bytes, and a seed number is
//! expanded into bytes. It never rejects: bytes that run out read as zeros, and no bytes at all give the smallest case.
//! Every case is valid, bounded in size, and made of what has broken kernels before.

use arbitrary::{Result, Unstructured};
use clap::ValueEnum;

use crate::case::{
    After, CapacityProfile, CaseSpec, Place, Profile, Routing, RoutingProfile, SizeProfile, Special, SpecialValue,
    TILES, ValueProfile, mix,
};
use crate::tensor::ElementType;

/// The most assignments.
const MAX_ASSIGNMENTS: usize = 150_000;
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
}

impl Default for Selection {
    /// Everything, with sizes around tiles of up to 256.
    fn default() -> Selection {
        Selection {
            elements: Vec::new(),
            profiles: Vec::new(),
            work: 1 << 22,
            assignments: MAX_ASSIGNMENTS,
        }
    }
}

impl Selection {
    /// Everything, in sizes that suit a fuzzer: just beyond a depth of 16 and a tile of 256 assignments.
    pub fn small() -> Selection {
        Selection {
            work: 1 << 13,
            assignments: 300,
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
        let (alpha, limit) = self.activation();
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
        };
        self.sizes(&mut spec, size);
        self.fit(&mut spec);
        make_room(&mut spec, routing);
        self.split_batch(&mut spec);
        self.capacity(&mut spec);
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

    fn size(&mut self) -> SizeProfile {
        match self.below(32) {
            0..=11 => SizeProfile::Tiny,
            12..=26 => SizeProfile::TileEdges,
            27..=28 => SizeProfile::ManyExperts,
            29..=30 => SizeProfile::ManyAssignments,
            _ => SizeProfile::NoTokens,
        }
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

    fn activation(&mut self) -> (f64, f64) {
        if self.below(3) < 2 {
            return (1.702, 7.0);
        }
        let alpha = [1.702, 1.0, 0.5, 3.0][self.below(4)];
        let limit = [7.0, 1.0, 0.25, 0.0625][self.below(4)];
        (alpha, limit)
    }

    fn sizes(&mut self, spec: &mut CaseSpec, size: SizeProfile) {
        match size {
            SizeProfile::Tiny | SizeProfile::NoTokens => {
                spec.hidden = 1 + self.below(8);
                spec.intermediate = 1 + self.below(8);
                spec.experts = 1 + self.below(6);
                spec.top_k = 1 + self.below(4);
                spec.sequence = if size == SizeProfile::Tiny {
                    1 + self.below(8)
                } else {
                    0
                };
            }
            SizeProfile::TileEdges => {
                let widest = (self.selection.work / 48).isqrt().clamp(2, 257);
                spec.hidden = self.edge(widest);
                spec.intermediate = self.related(spec.hidden, widest);
                spec.experts = [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33][self.below(11)];
                spec.top_k = self.top_k(spec.experts);
                spec.sequence = self.edge(385);
            }
            SizeProfile::ManyExperts => {
                spec.hidden = 1 + self.below(16);
                spec.intermediate = 1 + self.below(16);
                spec.experts = [127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025][self.below(12)];
                spec.top_k = self.top_k(spec.experts);
                spec.sequence = self.edge(1024 / spec.top_k);
            }
            SizeProfile::ManyAssignments => {
                spec.hidden = 1 + self.below(4);
                spec.intermediate = 1 + self.below(3);
                spec.experts = [1, 2, 3, 8, 32, 64, 65][self.below(7)];
                spec.top_k = [1, 2, 4, 8, 16][self.below(5)];
                let boundaries = [8_192, 16_384, 32_768, 65_536, 131_072, MAX_ASSIGNMENTS - 1];
                let assignments = boundaries[self.below(6)] + [0, 1, 65][self.below(3)] - self.below(2);
                spec.sequence = (assignments / spec.top_k).min(MAX_ASSIGNMENTS / spec.top_k);
            }
        }
    }

    /// Lowers the numbers of experts and tokens to what the selection allows.
    fn fit(&self, spec: &mut CaseSpec) {
        let (work, elements) = (self.selection.work, self.selection.work / 4);
        let most_experts = elements / (2 * spec.hidden * spec.intermediate);
        spec.experts = spec.experts.min(most_experts.max(2)).min(self.selection.assignments);
        let per_token = spec.top_k * spec.hidden * 3 * spec.intermediate;
        let most_tokens = (work / per_token).min(self.selection.assignments / spec.top_k);
        spec.sequence = spec.sequence.min(most_tokens.max(1));
        spec.experts = spec.experts.min((2 * elements / spec.sequence.max(1)).max(1));
    }

    /// A size on or beside an edge of a tile, at most `max`.
    fn edge(&mut self, max: usize) -> usize {
        let pick = self.below(4);
        let tile = TILES[self.below(TILES.len())];
        let offset = self.below(3);
        let any = 1 + self.below(max);
        let size = match pick {
            0 => 1 + offset,
            1 | 2 => tile - 1 + offset,
            _ => any,
        };
        if size <= max { size } else { any }
    }

    /// I for an H: of the shapes that are taken for one another, or any.
    fn related(&mut self, hidden: usize, widest: usize) -> usize {
        let any = self.edge(widest);
        match self.below(6) {
            0 => hidden,
            1 => (hidden / 2).max(1),
            2 if 2 * hidden <= widest => 2 * hidden,
            _ => any,
        }
    }

    fn top_k(&mut self, experts: usize) -> usize {
        let k = [1, 2, 2, 3, 4, 4, 6, 7, 8, 9, 10, 16][self.below(12)];
        if self.below(8) == 7 && experts <= 64 {
            experts
        } else {
            k
        }
    }

    /// Splits T into B and S, where it divides.
    fn split_batch(&mut self, spec: &mut CaseSpec) {
        let batch = [1, 1, 2, 3, 4][self.below(5)];
        if spec.sequence.is_multiple_of(batch) {
            spec.batch = batch;
            spec.sequence /= batch;
        }
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

/// Enlarges sizes where a profile or a special place needs more than was drawn.
fn make_room(spec: &mut CaseSpec, routing: RoutingProfile) {
    match routing {
        RoutingProfile::TwoEqual | RoutingProfile::AllEqual => spec.top_k = spec.top_k.max(2),
        RoutingProfile::ApartEqual => {
            spec.top_k = spec.top_k.max(3);
            spec.experts = spec.experts.max(2);
        }
        RoutingProfile::EmptyRuns => spec.experts = spec.experts.max(5),
        RoutingProfile::Distinct => spec.top_k = spec.top_k.min(spec.experts),
        RoutingProfile::TileCounts if spec.sequence > 0 => {
            spec.experts = spec.experts.max(4);
            spec.sequence = spec.sequence.max(3 * TILES[0].div_ceil(spec.top_k));
        }
        _ => {}
    }
    if spec.values == ValueProfile::Cancelling {
        spec.hidden = spec.hidden.max(2);
        spec.intermediate = spec.intermediate.max(2);
    }
    match spec.special.map(|special| special.place) {
        Some(Place::DroppedToken) => spec.top_k = spec.top_k.min(3),
        Some(Place::UnusedExpert) => spec.experts = spec.experts.max(2),
        _ => {}
    }
    if spec.sequence * spec.top_k > MAX_ASSIGNMENTS {
        spec.sequence = MAX_ASSIGNMENTS / spec.top_k;
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
