//! What the sizes of a case must leave room for, and what they must not exceed.

use super::inside::{lowered, raised};
use super::{MAX_ASSIGNMENTS, Source};
use crate::case::{Against, CaseSpec, Place, RoutingProfile, SizeProfile, TILES, ValueProfile};

impl Source<'_> {
    /// Lowers the numbers of experts and tokens to what the selection allows. Where lowering either would do, the seed
    /// decides.
    pub(super) fn fit(&self, spec: &mut CaseSpec, size: SizeProfile) {
        let axes = self.rules.axes();
        let (work, elements) = (self.work(size), self.elements(size));
        let most_experts = elements / (2 * spec.hidden * spec.intermediate);
        let most_experts = most_experts.max(2).min(self.selection.assignments);
        spec.experts = lowered(&axes.experts, spec.experts, most_experts);
        self.lower_weights(spec, elements);
        let per_token = (spec.top_k + spec.layer.shared_experts) * spec.hidden * 3 * spec.intermediate;
        let most_tokens = (work / per_token).min(self.selection.assignments / spec.top_k);
        self.lower_tokens(spec, most_tokens.max(1));
        let most_experts = (2 * elements / spec.sequence.max(1)).max(1);
        spec.experts = lowered(&axes.experts, spec.experts, most_experts);
        let busy = self.selection.busy_experts;
        if spec.experts.min(spec.sequence * spec.top_k) <= busy || spec.seed % 8 == 7 {
            return;
        }
        // Many experts for few assignments, or the other way round.
        if spec.seed.is_multiple_of(2) {
            spec.experts = lowered(&axes.experts, spec.experts, busy);
        } else {
            self.lower_tokens(spec, (busy / spec.top_k).max(1));
        }
    }

    /// At most `most` tokens, but not none where there are some.
    fn lower_tokens(&self, spec: &mut CaseSpec, most: usize) {
        if spec.sequence > 0 {
            spec.sequence = lowered(&self.rules.axes().tokens.from(1), spec.sequence, most);
        }
    }

    /// Enlarges sizes where a profile or a special place needs more than was drawn.
    pub(super) fn make_room(&self, spec: &mut CaseSpec, routing: RoutingProfile) {
        let axes = self.rules.axes();
        match routing {
            RoutingProfile::TwoEqual | RoutingProfile::AllEqual => spec.top_k = raised(&axes.top_k, spec.top_k, 2),
            RoutingProfile::ApartEqual => {
                spec.top_k = raised(&axes.top_k, spec.top_k, 3);
                spec.experts = raised(&axes.experts, spec.experts, 2);
            }
            RoutingProfile::EmptyRuns => spec.experts = raised(&axes.experts, spec.experts, 5),
            RoutingProfile::Distinct => self.keep_distinct(spec, 0),
            RoutingProfile::TileCounts if spec.sequence > 0 => {
                spec.experts = raised(&axes.experts, spec.experts, 4);
                let tokens = 3 * TILES[0].div_ceil(spec.top_k);
                let tokens = if axes.distinct {
                    tokens.max(TILES[0] + 1)
                } else {
                    tokens
                };
                spec.sequence = raised(&axes.tokens, spec.sequence, tokens);
            }
            // One expert has every assignment only where no token has two.
            RoutingProfile::AllToFirst | RoutingProfile::AllToMiddle | RoutingProfile::AllToLast
                if axes.distinct && spec.seed.is_multiple_of(2) =>
            {
                spec.top_k = lowered(&axes.top_k, spec.top_k, 1);
            }
            _ => {}
        }
        if spec.values == ValueProfile::Cancelling {
            spec.hidden = raised(&axes.hidden, spec.hidden, 2);
            spec.intermediate = raised(&axes.intermediate, spec.intermediate, 2);
        }
        match spec.special.map(|special| special.place) {
            Some(Place::DroppedToken) => spec.top_k = lowered(&axes.top_k, spec.top_k, 3),
            Some(Place::UnusedExpert) => spec.experts = raised(&axes.experts, spec.experts, 2),
            _ => {}
        }
        // The least number of slots, or experts, that shows what the values are for.
        let least = match (spec.values, spec.against) {
            (ValueProfile::Exact, _) => 3,
            (_, Some(Against::Opposite)) => 2,
            _ => 1,
        };
        spec.top_k = raised(&axes.top_k, spec.top_k, least);
        spec.experts = raised(&axes.experts, spec.experts, least);
        if axes.distinct {
            let is_beside = spec.special.is_some_and(|special| special.place == Place::UnusedExpert);
            let unused = match routing {
                RoutingProfile::TileCounts => 3,
                RoutingProfile::EmptyRuns => 2,
                _ => usize::from(is_beside),
            };
            self.keep_distinct(spec, unused);
        }
        if spec.sequence * spec.top_k > MAX_ASSIGNMENTS {
            self.lower_tokens(spec, MAX_ASSIGNMENTS / spec.top_k);
        }
    }

    /// Lowers K so that a token can have different experts and leave some unused; where the domain has no such K, raises
    /// E.
    fn keep_distinct(&self, spec: &mut CaseSpec, unused: usize) {
        let axes = self.rules.axes();
        let is_apart = |spec: &CaseSpec| spec.top_k + unused <= spec.experts;
        if !is_apart(spec) {
            spec.top_k = lowered(&axes.top_k, spec.top_k, spec.experts.saturating_sub(unused));
        }
        if !is_apart(spec) {
            spec.experts = raised(&axes.experts, spec.experts, spec.top_k + unused);
        }
        if spec.top_k > spec.experts {
            spec.top_k = lowered(&axes.top_k, spec.top_k, spec.experts);
        }
    }
}
