//! The sizes of a domain, with what one axis asks of another worked in.

use super::{Axis, Domain, Sizes, Taken};
use crate::case::{
    CaseSpec, CaseViews, ElementType, LONG, LayerSpec, MAX_SIZE, Routing, RoutingProfile, ValueProfile, WeightProfile,
};

/// The largest least size of an axis that is short beside a long one.
const MOST_SHORT: usize = 64;

/// The sizes that cases are drawn with. For every E there is a K that goes with it, and the other way round.
#[derive(Debug, Clone)]
pub(crate) struct Axes {
    pub(crate) tokens: Sizes,
    pub(crate) hidden: Sizes,
    pub(crate) intermediate: Sizes,
    pub(crate) experts: Sizes,
    pub(crate) top_k: Sizes,
    pub(crate) capacity: Sizes,
    /// I = H.
    pub(crate) square: bool,
    /// No token names an expert twice.
    pub(crate) distinct: bool,
    /// Assignments may be dropped.
    pub(crate) drops: bool,
}

/// The least size of each axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Least {
    pub(crate) tokens: usize,
    pub(crate) hidden: usize,
    pub(crate) intermediate: usize,
    pub(crate) experts: usize,
    pub(crate) top_k: usize,
}

impl Domain {
    /// The sizes that cases are drawn with.
    pub(crate) fn axes(&self) -> Axes {
        let square = self.intermediate.equals.is_some();
        let (tokens, experts) = (self.tokens.to(MAX_SIZE), self.experts.to(MAX_SIZE));
        let (hidden, intermediate) = (self.in_blocks(&self.hidden), self.in_blocks(&self.intermediate));
        let intermediate = intermediate.to(self.most_intermediate());
        let both = hidden.meet(&intermediate);
        let (hidden, intermediate) = if square {
            (&both, &both)
        } else {
            (&hidden, &intermediate)
        };
        let distinct = !self.takes_duplicates();
        let (mut experts, mut top_k) = (experts.from(1), self.top_k.to(MAX_SIZE).from(1));
        if distinct {
            experts = experts.from(top_k.at_least(1).unwrap_or(usize::MAX));
            top_k = top_k.to(experts.at_most(usize::MAX).unwrap_or(0));
        }
        Axes {
            tokens,
            hidden: hidden.to(MAX_SIZE).from(1),
            intermediate: intermediate.from(1),
            experts,
            top_k,
            capacity: self.capacity.clone(),
            square,
            distinct,
            drops: self.takes_drops(),
        }
    }

    /// The cases of one of its layers.
    pub(crate) fn with_layer(&self, layer: LayerSpec) -> Domain {
        Domain {
            layers: Some(Taken::Listed(vec![layer])),
            ..self.clone()
        }
    }

    /// The largest I of some layer. Its shared experts, as one, have no longer axis than others.
    pub(super) fn most_intermediate(&self) -> usize {
        let shared = self.drawn_layers().into_iter().map(|layer| layer.shared_experts);
        MAX_SIZE / shared.min().unwrap_or(0).max(1)
    }

    /// Those sizes of H or I that some layer can have.
    pub(super) fn in_blocks(&self, sizes: &Sizes) -> Sizes {
        let blocks = self.drawn_layers().into_iter().map(|layer| layer.projections.block());
        match blocks.min() {
            None | Some(1) => sizes.clone(),
            Some(block) => sizes.meet(&Sizes::multiples_of(block)),
        }
    }
}

impl Axes {
    pub(crate) fn least(&self) -> Least {
        let least = |sizes: &Sizes, axis: Axis| sizes.at_least(axis.least()).unwrap_or(axis.least());
        Least {
            tokens: least(&self.tokens, Axis::Tokens),
            hidden: least(&self.hidden, Axis::Hidden),
            intermediate: least(&self.intermediate, Axis::Intermediate),
            experts: least(&self.experts, Axis::Experts),
            top_k: least(&self.top_k, Axis::TopK),
        }
    }

    /// The most assignments of a case, or of one expert.
    pub(crate) fn most_assignments(&self) -> usize {
        let most = |sizes: &Sizes| sizes.at_most(usize::MAX).unwrap_or(0);
        most(&self.tokens).saturating_mul(most(&self.top_k))
    }

    /// The most assignments that one expert can have.
    pub(crate) fn most_on_one_expert(&self) -> usize {
        let tokens = self.tokens.at_most(usize::MAX).unwrap_or(0);
        if self.distinct { tokens } else { self.most_assignments() }
    }

    /// Whether H can be long beside a short I, and I beside a short H.
    pub(crate) fn has_long_sides(&self) -> [bool; 2] {
        let (hidden, intermediate) = (&self.hidden, &self.intermediate);
        [(hidden, intermediate), (intermediate, hidden)].map(|(long, short)| {
            let least = short.at_least(1).unwrap_or(usize::MAX);
            long.inside(&LONG).is_some() && least <= MOST_SHORT
        })
    }

    /// The case of the least sizes.
    pub(super) fn least_case(&self, layer: LayerSpec) -> CaseSpec {
        let least = self.least();
        CaseSpec {
            element: ElementType::F32,
            batch: 1,
            sequence: least.tokens,
            hidden: least.hidden,
            intermediate: least.intermediate,
            experts: least.experts,
            top_k: least.top_k,
            capacity: 0,
            alpha: 1.702,
            limit: 7.0,
            seed: 0,
            routing: Routing::Profile(RoutingProfile::Uniform),
            distinct: self.distinct,
            values: ValueProfile::Gentle,
            weights: WeightProfile::Normalised,
            special: None,
            against: None,
            warmup: None,
            order: None,
            larger: None,
            layer,
            foreign: None,
            views: CaseViews::new(),
            sampled: false,
        }
    }
}
