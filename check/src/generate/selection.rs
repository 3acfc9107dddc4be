//! The profiles that cases are drawn from.

use super::MAX_ASSIGNMENTS;
use crate::case::{
    Against, CapacityProfile, ElementType, OrderProfile, Profile, RoutingProfile, SizeProfile, Special, ValueProfile,
    Warmup, WeightProfile,
};
use crate::domain::{Domain, Rules};

/// The work of a case outside a fuzzer.
pub(super) const USUAL_WORK: usize = 1 << 22;

/// The profiles that cases are drawn from: a list for each axis. An empty list means all.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// What every case and the call before it are inside of. Profiles that it rules out are not drawn, where they are
    /// named either.
    pub domain: Domain,
    /// Element types.
    pub elements: Vec<ElementType>,
    /// How sizes are drawn.
    pub sizes: Vec<SizeProfile>,
    /// Which experts the tokens choose.
    pub routings: Vec<RoutingProfile>,
    /// The capacity, relative to the fullest expert.
    pub capacities: Vec<CapacityProfile>,
    /// Hidden states, projections and biases.
    pub values: Vec<ValueProfile>,
    /// Routing weights.
    pub weights: Vec<WeightProfile>,
    /// Special values in their places.
    pub specials: Vec<Special>,
    /// What special values meet. A named special value that cannot meet any of them meets none.
    pub against: Vec<Against>,
    /// Calls before the case.
    pub warmups: Vec<Warmup>,
    /// Explicit orders of the assignments. If none is named and the domain takes them, one case in ten has one; nothing
    /// else in a case depends on it.
    pub orders: Vec<OrderProfile>,
    /// The most multiplications of a case, T·K·H·3I, and four times the most elements of a tensor; both approximate. A
    /// profile may exceed it to be what its name says.
    pub work: usize,
    /// The most assignments and the most experts. A profile may exceed it as it may exceed `work`.
    pub assignments: usize,
    /// The most experts that have rows; each takes tiles of its own in the products. One case in eight exceeds it.
    pub busy_experts: usize,
}

impl Default for Selection {
    /// Everything, with sizes around tiles of up to 256.
    fn default() -> Selection {
        Selection {
            domain: Domain::default(),
            elements: Vec::new(),
            sizes: Vec::new(),
            routings: Vec::new(),
            capacities: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            specials: Vec::new(),
            against: Vec::new(),
            warmups: Vec::new(),
            orders: Vec::new(),
            work: USUAL_WORK,
            assignments: MAX_ASSIGNMENTS,
            busy_experts: usize::MAX,
        }
    }
}

impl Selection {
    /// All profiles, in sizes that suit a fuzzer: just above a depth of 16, a tile of 256 assignments, and as many
    /// experts as a warp has lanes. More experts with rows would take half of the fuzzer's time.
    pub fn small() -> Selection {
        Selection {
            work: 1 << 13,
            assignments: 300,
            busy_experts: 34,
            ..Selection::default()
        }
    }

    /// The first profile that is named and that the domain rules out.
    pub fn ruled_out(&self) -> Option<Profile> {
        let rules = Rules::new(&self.domain);
        let named = std::iter::empty()
            .chain(self.sizes.iter().copied().map(Profile::Size))
            .chain(self.routings.iter().copied().map(Profile::Routing))
            .chain(self.capacities.iter().copied().map(Profile::Capacity))
            .chain(self.values.iter().copied().map(Profile::Values))
            .chain(self.specials.iter().copied().map(Profile::Special))
            .chain(self.against.iter().copied().map(Profile::Against))
            .chain(self.warmups.iter().copied().map(Profile::Warmup))
            .chain(self.orders.iter().copied().map(Profile::Order));
        named.into_iter().find(|profile| !rules.allow(*profile))
    }

    /// Restricts each axis of which a profile is named to the named ones.
    #[must_use]
    pub fn with_profiles(mut self, profiles: impl IntoIterator<Item = Profile>) -> Selection {
        for profile in profiles {
            match profile {
                Profile::Size(profile) => self.sizes.push(profile),
                Profile::Routing(profile) => self.routings.push(profile),
                Profile::Capacity(profile) => self.capacities.push(profile),
                Profile::Values(profile) => self.values.push(profile),
                Profile::Weights(profile) => self.weights.push(profile),
                Profile::Special(special) => self.specials.push(special),
                Profile::Against(profile) => self.against.push(profile),
                Profile::Warmup(profile) => self.warmups.push(profile),
                Profile::Order(profile) => self.orders.push(profile),
            }
        }
        self
    }
}
