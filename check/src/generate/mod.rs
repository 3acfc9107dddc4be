//! The generator: from bytes to a case.
//!
//! One generator serves three callers: libFuzzer hands it its input, proptest a vector of bytes, and a seed number is
//! expanded into bytes. It never rejects: bytes that run out read as zeros, and no bytes at all give the smallest case.
//! Every case is valid and bounded in size. Its parts are those that have broken kernels before.

mod inside;
mod large;
mod room;
mod selection;
mod sizes;

use arbitrary::{Result, Unstructured};

pub use self::selection::Selection;
use self::selection::USUAL_WORK;
use crate::case::{
    Against, CapacityProfile, CaseSpec, CaseViews, ElementType, Foreign, ForeignIds, LayerSpec, Named, OrderProfile,
    Place, Routing, RoutingProfile, SizeProfile, Special, ValueProfile, Warmup, WeightProfile,
};
use crate::domain::{Rules, fullest_expert};
use crate::draw::mix;

/// The most assignments.
const MAX_ASSIGNMENTS: usize = 150_000;
/// The most multiplications of a case all of whose tokens are judged by the definition. No case that is drawn without a
/// domain has as many.
const MOST_WHOLE_WORK: usize = 1 << 33;
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
            rules: Rules::new(&selection.domain),
        };
        source.case()
    }
}

/// Makes choices from bytes. Where the bytes have run out, it chooses the first of everything.
struct Source<'a> {
    bytes: Unstructured<'a>,
    selection: &'a Selection,
    rules: Rules,
}

impl Source<'_> {
    fn case(&mut self) -> CaseSpec {
        let layer = self.layer();
        // Sizes and special values depend on it.
        self.rules = Rules::new(&self.rules.domain().with_layer(layer));
        let element = self.element();
        let selection = self.selection;
        let size = self.one_of(&selection.sizes, Rules::allow_size);
        let size = size.unwrap_or_else(|| self.size());
        let routing = self.one_of(&selection.routings, Rules::allow_routing);
        let (special, against) = self.special(layer);
        let routing = match (routing, special.map(|special| special.place)) {
            (Some(routing), _) => routing,
            (None, _) if size == SizeProfile::ManyExperts => self.routing_to_last(),
            (None, _) if size == SizeProfile::ManyRows => self.routing_to_one(),
            (None, _) if size == SizeProfile::Medium => self.routing_to_one_or_nearly(),
            (None, Some(Place::UnusedExpert)) => self.routing_beside_one(),
            (None, _) => self.any(Rules::allow_routing),
        };
        let values = self.one_of(&selection.values, Rules::allow_values);
        let values = values.unwrap_or_else(|| self.values(size));
        let weights = self.one_of(&selection.weights, |_, _| true);
        let weights = weights.unwrap_or_else(|| match values {
            ValueProfile::Exact => WeightProfile::PowersOfTwo,
            _ => self.any(|_, _| true),
        });
        let warmup = self.warmup();
        let (alpha, limit) = self.activation(element, values, layer);
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
            distinct: self.rules.axes().distinct,
            values,
            weights,
            special,
            against,
            warmup,
            order: None,
            larger: None,
            layer,
            foreign: None,
            views: CaseViews::new(),
            sampled: false,
        };
        self.sizes(&mut spec, size);
        if !matches!(size, SizeProfile::ManyRows | SizeProfile::Medium) {
            self.fit(&mut spec, size);
        }
        self.make_room(&mut spec, routing);
        self.keep_buildable(&mut spec);
        if is_large(&spec) {
            // Such a case is one call, of plain values.
            spec.sampled = true;
            (spec.special, spec.against, spec.warmup) = (None, None, None);
        }
        self.split_batch(&mut spec);
        spec.foreign = self.foreign(spec.experts);
        self.capacity(&mut spec);
        self.settle_warmup(&mut spec);
        // The last choices, so that the others do not depend on them.
        spec.order = self.order();
        spec.views = self.views(&spec);
        spec
    }

    fn element(&mut self) -> ElementType {
        let named = &self.selection.elements;
        let all = if named.is_empty() { ElementType::ALL } else { named };
        let is_taken = |element: &ElementType| self.rules.domain().precision_on(*element).is_some();
        let mut taken: Vec<ElementType> = all.iter().copied().filter(is_taken).collect();
        if taken.is_empty() {
            taken = ElementType::ALL.iter().copied().filter(is_taken).collect();
        }
        if !taken.contains(&ElementType::F32) {
            return taken[self.below(taken.len())];
        }
        // f32 three times in four.
        taken.sort_unstable_by_key(|element| ElementType::ALL.iter().position(|known| known == element));
        let pick = self.below(16);
        if pick < 12 {
            ElementType::F32
        } else {
            taken[pick % taken.len()]
        }
    }

    /// One of the profiles that the selection names and the domain allows; none if there is none.
    fn one_of<P: Copy>(&mut self, named: &[P], allows: impl Fn(&Rules, P) -> bool) -> Option<P> {
        let named = self.allowed(named, allows);
        if named.is_empty() {
            return None;
        }
        Some(named[self.below(named.len())])
    }

    fn allowed<P: Copy>(&self, profiles: &[P], allows: impl Fn(&Rules, P) -> bool) -> Vec<P> {
        let allows = |profile: &P| allows(&self.rules, *profile);
        profiles.iter().copied().filter(allows).collect()
    }

    /// A routing that uses the last of many experts.
    fn routing_to_last(&mut self) -> RoutingProfile {
        self.any(|rules, profile: RoutingProfile| !profile.names_experts() && rules.allow_routing(profile))
    }

    fn routing_to_one(&mut self) -> RoutingProfile {
        [
            RoutingProfile::AllToFirst,
            RoutingProfile::AllToMiddle,
            RoutingProfile::AllToLast,
        ][self.below(3)]
    }

    fn routing_to_one_or_nearly(&mut self) -> RoutingProfile {
        if self.below(2) == 0 {
            return RoutingProfile::FirstFull;
        }
        self.routing_to_one()
    }

    /// A routing that leaves an expert unused.
    fn routing_beside_one(&mut self) -> RoutingProfile {
        let pair = [RoutingProfile::EmptyRuns, RoutingProfile::AllToLast];
        let pair = self.allowed(&pair, Rules::allow_routing);
        pair[self.below(pair.len())]
    }

    /// In a third of the long cases terms that cancel: what a long sum loses shows in them alone.
    fn values(&mut self, size: SizeProfile) -> ValueProfile {
        let cancelling = ValueProfile::Cancelling;
        if size == SizeProfile::Long && self.rules.allow_values(cancelling) && self.below(3) == 0 {
            return cancelling;
        }
        self.any(Rules::allow_values)
    }

    /// A special value, and what it meets.
    fn special(&mut self, layer: LayerSpec) -> (Option<Special>, Option<Against>) {
        let selection = self.selection;
        let against = self.one_of(&selection.against, Rules::allow_against);
        let named = self.one_of(&selection.specials, Rules::allow_special);
        if against.is_none() && named.is_none() && self.below(4) < 3 {
            return (None, None);
        }
        let others = self.allowed(Against::ALL, Rules::allow_against);
        let others = if self.below(4) == 3 { others } else { Vec::new() };
        if let Some(against) = against.or_else(|| self.one_of(&others, |_, _| true)) {
            let all = Special::all();
            let specials = if named.is_some() { &selection.specials } else { &all };
            let meets =
                |rules: &Rules, special| rules.allow_special(special) && against.meets(special, layer.has_blocks());
            if let Some(special) = self.one_of(specials, meets) {
                return (Some(special), Some(against));
            }
        }
        let special = named.unwrap_or_else(|| Special {
            value: self.any(Rules::allow_value),
            place: self.any(Rules::allow_place),
        });
        (Some(special), None)
    }

    fn warmup(&mut self) -> Option<Warmup> {
        let named = self.one_of(&self.selection.warmups, Rules::allow_warmup);
        if named.is_some() {
            return named;
        }
        let wanted = self.below(8) == 7;
        let warmup = self.any(Rules::allow_warmup);
        wanted.then_some(warmup)
    }

    fn layer(&mut self) -> LayerSpec {
        let layers = self.rules.domain().drawn_layers();
        layers[self.below(layers.len())]
    }

    /// Foreign ids in three of four cases, where the domain has any.
    fn foreign(&mut self, experts: usize) -> Option<Foreign> {
        let kinds = self.rules.domain().drawn_foreign().to_vec();
        if kinds.is_empty() || self.below(4) == 3 {
            return None;
        }
        let ids = kinds[self.below(kinds.len())];
        let first_expert = match ids {
            ForeignIds::MinusOne => 0,
            ForeignIds::OtherRanks => [0, 1, experts / 2, experts, 3 * experts][self.below(5)],
        };
        Some(Foreign { ids, first_expert })
    }

    /// Views of half of the tensors in three of four cases, where the domain has any, of one at least.
    fn views(&mut self, spec: &CaseSpec) -> CaseViews {
        let kinds = self.rules.domain().drawn_views().to_vec();
        if kinds.is_empty() || spec.sampled || self.below(4) == 3 {
            return CaseViews::new();
        }
        let tensors = spec.viewable();
        let first = tensors[self.below(tensors.len())];
        let mut views = CaseViews::new();
        for tensor in tensors {
            if self.below(2) == 1 || tensor == first {
                views.insert(tensor, kinds[self.below(kinds.len())]);
            }
        }
        views
    }

    /// alpha and limit; the usual ones where the activation does not have them.
    fn activation(&mut self, element: ElementType, values: ValueProfile, layer: LayerSpec) -> (f64, f64) {
        let (alpha, limit) = self.any_activation(element, values);
        (
            if layer.activation.has_alpha() { alpha } else { 1.702 },
            if layer.activation.has_limit() { limit } else { 7.0 },
        )
    }

    fn any_activation(&mut self, element: ElementType, values: ValueProfile) -> (f64, f64) {
        // PyTorch refuses a finite limit beyond the largest value.
        let max = element.max();
        let high = [1e4, f64::min(1e10, max), max, f64::INFINITY];
        let usual = self.below(3) < 2;
        let (alpha, limit) = if usual && values != ValueProfile::HugeGates {
            (1.702, 7.0)
        } else {
            let alpha = [1.702, 1.0, 0.5, 3.0][self.below(4)];
            let pick = self.below(8);
            let is_high = pick >= 4 || values == ValueProfile::HugeGates;
            let limit = if is_high {
                high[pick % 4]
            } else {
                [7.0, 1.0, 0.25, 0.0625][pick]
            };
            (alpha, limit)
        };
        self.activation_inside(alpha, limit, values)
    }

    fn order(&mut self) -> Option<OrderProfile> {
        let named = self.one_of(&self.selection.orders, Rules::allow_order);
        if named.is_some() {
            return named;
        }
        let wanted = self.below(10) == 9 && self.rules.domain().takes_order();
        let order = self.any(|_, _| true);
        wanted.then_some(order)
    }

    fn capacity(&mut self, spec: &mut CaseSpec) {
        let profile = self.one_of(&self.selection.capacities, Rules::allow_capacity);
        let wants_drops = spec.special.is_some_and(|special| special.place == Place::DroppedToken);
        let pick = self.below(16);
        let profile = match (profile, pick) {
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
        let profile = self.capacity_profile_inside(profile, pick);
        self.lower_to_capacity(spec);
        let assignments = spec.tokens() * spec.top_k;
        let fullest = fullest_of(spec);
        let capacity = match profile {
            CapacityProfile::CapacityZero => 0,
            CapacityProfile::CapacityOne => 1,
            CapacityProfile::ExactlyFull => fullest,
            CapacityProfile::OneOver => fullest.saturating_sub(1),
            CapacityProfile::FarOver => fullest / 4,
            CapacityProfile::CapacityRule => 2 * assignments / spec.experts,
            CapacityProfile::CapacityHuge => assignments + [1, 7, 70_000][self.below(3)],
        };
        spec.capacity = self.capacity_inside(capacity, spec, fullest);
    }

    /// Any profile that the domain allows.
    fn any<P: Named>(&mut self, allows: impl Fn(&Rules, P) -> bool) -> P {
        let allowed = self.allowed(P::ALL, allows);
        allowed[self.below(allowed.len())]
    }

    fn below(&mut self, n: usize) -> usize {
        let pick: Result<usize> = self.bytes.int_in_range(0..=n - 1);
        pick.unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        self.bytes.arbitrary().unwrap_or(0)
    }
}

/// Whether a case cannot be built whole, or not be judged whole in a few seconds.
fn is_large(spec: &CaseSpec) -> bool {
    let experts = spec.top_k.saturating_add(spec.layer.shared_experts);
    let sizes = [spec.tokens(), experts, 3 * spec.hidden, spec.intermediate];
    let work = sizes.iter().fold(1, |work: usize, size| work.saturating_mul(*size));
    work > MOST_WHOLE_WORK || spec.check_sizes().is_err()
}

/// The largest number of assignments of an expert.
fn fullest_of(spec: &CaseSpec) -> usize {
    let local = |id| Some(spec.local_expert(id)).filter(|expert| *expert < spec.experts);
    spec.router_indices()
        .map_or(0, |ids| fullest_expert(ids.into_iter().filter_map(local)))
}
