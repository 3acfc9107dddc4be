//! The profiles that a domain rules out.

use super::Domain;
use super::axes::Axes;
use crate::case::{
    Against, CapacityProfile, DEEP, MEDIUM, OrderProfile, PANEL, Place, Profile, RoutingProfile, SizeProfile, Special,
    SpecialValue, ValueProfile, Warmup,
};

/// From this limit on few gates are clamped.
const HIGH_LIMIT: f64 = 1e4;
/// The fewest assignments that are many.
const MANY_ASSIGNMENTS: usize = 1024;
/// The fewest experts that are many.
const MANY_EXPERTS: usize = 34;
/// The fewest rows on one expert that are many.
const MANY_ROWS: usize = 9 * PANEL + 1;

impl Domain {
    /// The profiles of which no case inside can be.
    pub fn ruled_out(&self) -> Vec<Profile> {
        let rules = Rules::new(self);
        Profile::all()
            .into_iter()
            .filter(|profile| !rules.allow(*profile))
            .collect()
    }
}

/// What profiles a domain leaves.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    domain: Domain,
    axes: Axes,
}

impl Rules {
    pub(crate) fn new(domain: &Domain) -> Rules {
        Rules {
            axes: domain.axes(),
            domain: domain.clone(),
        }
    }

    pub(crate) fn axes(&self) -> &Axes {
        &self.axes
    }

    pub(crate) fn domain(&self) -> &Domain {
        &self.domain
    }

    pub(crate) fn allow(&self, profile: Profile) -> bool {
        match profile {
            Profile::Size(profile) => self.allow_size(profile),
            Profile::Routing(profile) => self.allow_routing(profile),
            Profile::Capacity(profile) => self.allow_capacity(profile),
            Profile::Values(profile) => self.allow_values(profile),
            Profile::Weights(_) => true,
            Profile::Special(special) => self.allow_special(special),
            Profile::Against(profile) => self.allow_against(profile),
            Profile::Warmup(profile) => self.allow_warmup(profile),
            Profile::Order(profile) => self.allow_order(profile),
        }
    }

    pub(crate) fn allow_size(&self, profile: SizeProfile) -> bool {
        let axes = &self.axes;
        match profile {
            SizeProfile::Tiny | SizeProfile::TileEdges => axes.tokens.at_least(1).is_some(),
            SizeProfile::ManyAssignments => axes.most_assignments() >= MANY_ASSIGNMENTS,
            SizeProfile::ManyExperts => {
                axes.experts.at_least(MANY_EXPERTS).is_some() && axes.tokens.at_least(1).is_some()
            }
            SizeProfile::ManyRows => {
                axes.hidden.at_least(DEEP).is_some()
                    && axes.intermediate.at_least(65).is_some()
                    && axes.most_on_one_expert() >= MANY_ROWS
            }
            SizeProfile::Long => {
                axes.tokens.at_least(1).is_some() && !axes.square && axes.has_long_sides() != [false; 2]
            }
            SizeProfile::Medium => {
                axes.hidden.inside(&MEDIUM).is_some()
                    && axes.intermediate.inside(&MEDIUM).is_some()
                    && axes.most_on_one_expert() > PANEL
            }
            SizeProfile::NoTokens => axes.tokens.admits(0),
        }
    }

    pub(crate) fn allow_routing(&self, profile: RoutingProfile) -> bool {
        let axes = &self.axes;
        let has_experts = |number: usize| axes.experts.at_least(number).is_some();
        let has_slots = |number: usize| axes.top_k.at_least(number).is_some();
        match profile {
            RoutingProfile::Uniform => !axes.distinct,
            RoutingProfile::TwoEqual | RoutingProfile::AllEqual => !axes.distinct && has_slots(2),
            RoutingProfile::ApartEqual => !axes.distinct && has_slots(3) && has_experts(2),
            RoutingProfile::EmptyRuns => has_experts(5) && (!axes.distinct || has_experts(self.least_top_k() + 2)),
            RoutingProfile::TileCounts => {
                has_experts(4)
                    && axes.most_assignments() >= 48
                    && (!axes.distinct || has_experts(self.least_top_k() + 3) && axes.tokens.at_least(17).is_some())
            }
            RoutingProfile::Distinct => has_experts(self.least_top_k()),
            RoutingProfile::Zipf
            | RoutingProfile::AllToFirst
            | RoutingProfile::AllToMiddle
            | RoutingProfile::AllToLast
            | RoutingProfile::FirstFull
            | RoutingProfile::Sorted
            | RoutingProfile::Reversed => true,
        }
    }

    pub(crate) fn allow_capacity(&self, profile: CapacityProfile) -> bool {
        let capacity = &self.axes.capacity;
        match profile {
            CapacityProfile::CapacityZero => self.axes.drops && capacity.admits(0),
            CapacityProfile::CapacityOne => self.axes.drops && capacity.admits(1),
            CapacityProfile::OneOver | CapacityProfile::FarOver => self.axes.drops,
            CapacityProfile::ExactlyFull | CapacityProfile::CapacityRule | CapacityProfile::CapacityHuge => true,
        }
    }

    pub(crate) fn allow_values(&self, profile: ValueProfile) -> bool {
        let limits = || self.domain.limit.iter().flatten();
        match profile {
            ValueProfile::Cancelling => {
                self.axes.hidden.at_least(2).is_some() && self.axes.intermediate.at_least(2).is_some()
            }
            ValueProfile::HugeGates => self.domain.limit.is_none() || limits().any(|limit| *limit >= HIGH_LIMIT),
            _ => true,
        }
    }

    pub(crate) fn allow_special(&self, special: Special) -> bool {
        self.allow_value(special.value) && self.allow_place(special.place)
    }

    pub(crate) fn allow_value(&self, value: SpecialValue) -> bool {
        match value {
            SpecialValue::Nan | SpecialValue::Inf | SpecialValue::NegativeInf => self.domain.takes_specials(),
            SpecialValue::Subnormal | SpecialValue::NegativeZero | SpecialValue::NearOverflow => true,
        }
    }

    pub(crate) fn allow_place(&self, place: Place) -> bool {
        match place {
            Place::DroppedToken => self.axes.drops,
            Place::UnusedExpert => {
                let apart = if self.axes.distinct { self.least_top_k() } else { 1 };
                self.axes.experts.at_least(apart + 1).is_some() && self.has_place_in_weights()
            }
            Place::Expert => self.has_place_in_weights(),
            Place::Token | Place::Weight => true,
        }
    }

    /// Whether the weights of some layer can hold any value. Blocks hold none but their codes.
    fn has_place_in_weights(&self) -> bool {
        let layers = self.domain.drawn_layers();
        layers.iter().any(|layer| !layer.has_blocks() || layer.bias)
    }

    pub(crate) fn allow_against(&self, profile: Against) -> bool {
        let axes = &self.axes;
        self.domain.takes_specials()
            && match profile {
                Against::Zero => true,
                Against::Opposite => axes.top_k.at_least(2).is_some() && axes.experts.at_least(2).is_some(),
            }
    }

    pub(crate) fn allow_warmup(&self, profile: Warmup) -> bool {
        match profile {
            Warmup::Larger => self.axes.tokens.at_least(self.axes.least().tokens + 1).is_some(),
            Warmup::Same | Warmup::OtherValues | Warmup::ThreeOthers => true,
        }
    }

    pub(crate) fn allow_order(&self, _: OrderProfile) -> bool {
        self.domain.takes_order()
    }

    fn least_top_k(&self) -> usize {
        self.axes.least().top_k
    }
}
