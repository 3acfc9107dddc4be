//! What cases are drawn from.

use super::MAX_ASSIGNMENTS;
use crate::case::{
    CapacityProfile, OrderProfile, Profile, RoutingProfile, SizeProfile, Special, ValueProfile, Warmup, WeightProfile,
};
use crate::tensor::ElementType;

/// The work of a case outside a fuzzer.
pub(super) const USUAL_WORK: usize = 1 << 22;

/// What cases are drawn from: a list for each axis, where an empty one stands for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// Element types.
    pub elements: Vec<ElementType>,
    /// How sizes are drawn.
    pub sizes: Vec<SizeProfile>,
    /// Which experts the tokens choose.
    pub routings: Vec<RoutingProfile>,
    /// How the capacity lies to the fullest expert.
    pub capacities: Vec<CapacityProfile>,
    /// Hidden states, projections and biases.
    pub values: Vec<ValueProfile>,
    /// Routing weights.
    pub weights: Vec<WeightProfile>,
    /// Special values in their places.
    pub specials: Vec<Special>,
    /// Calls before the case.
    pub warmups: Vec<Warmup>,
    /// Explicit orders of the assignments.
    pub orders: Vec<OrderProfile>,
    /// Whether one case in ten has an explicit order where none is named; the cases are the same but for it.
    pub draws_orders: bool,
    /// About how many multiplications a case may take, T·K·H·3I, and four times as many as a tensor has elements. What
    /// a profile needs to be what its name says may exceed it.
    pub work: usize,
    /// The most assignments and the most experts; exceeded as `work` is.
    pub assignments: usize,
    /// The most experts that have rows, each of which takes tiles of its own in the products; one case in eight exceeds
    /// it.
    pub busy_experts: usize,
}

impl Default for Selection {
    /// Everything, with sizes around tiles of up to 256.
    fn default() -> Selection {
        Selection {
            elements: Vec::new(),
            sizes: Vec::new(),
            routings: Vec::new(),
            capacities: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
            specials: Vec::new(),
            warmups: Vec::new(),
            orders: Vec::new(),
            draws_orders: true,
            work: USUAL_WORK,
            assignments: MAX_ASSIGNMENTS,
            busy_experts: usize::MAX,
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

    /// The same with these profiles only, on each axis of which one is named.
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
                Profile::Warmup(profile) => self.warmups.push(profile),
                Profile::Order(profile) => self.orders.push(profile),
            }
        }
        self
    }
}
