//! T, H, I, E and K.

use super::inside::{around, lowered, near, raised, small};
use super::{MAX_ASSIGNMENTS, Source, USUAL_WORK};
use crate::case::{CaseSpec, DEEP, Place, RoutingProfile, SizeProfile, ValueProfile, Warmup};
use crate::domain::{Axes, Sizes};
use crate::draw::TILES;

/// Above this I such a kernel may cut a sum in more than two parts.
const LONG: usize = 128;
/// More rows than the eight panels of 128 that such a kernel takes together.
const MANY_ROWS: usize = 9 * 128;

impl Source<'_> {
    pub(super) fn size(&mut self) -> SizeProfile {
        let size = match self.below(32) {
            0..=11 => SizeProfile::Tiny,
            12..=26 => SizeProfile::TileEdges,
            27..=28 => SizeProfile::ManyExperts,
            29..=30 => SizeProfile::ManyAssignments,
            // A fuzzer would spend its time on them.
            _ if self.selection.work >= USUAL_WORK && self.below(4) == 3 => SizeProfile::ManyRows,
            _ => SizeProfile::NoTokens,
        };
        if self.rules.allow_size(size) {
            return size;
        }
        let others = [SizeProfile::TileEdges, SizeProfile::NoTokens];
        self.allowed(&others, |rules, size| rules.allow_size(size))[0]
    }

    pub(super) fn sizes(&mut self, spec: &mut CaseSpec, size: SizeProfile) {
        let axes = self.rules.axes().clone();
        let some_tokens = axes.tokens.from(1);
        match size {
            SizeProfile::Tiny | SizeProfile::NoTokens => {
                spec.hidden = small(&axes.hidden, 1 + self.below(8));
                spec.intermediate = small(&axes.intermediate, 1 + self.below(8));
                spec.experts = small(&axes.experts, 1 + self.below(6));
                spec.top_k = small(&axes.top_k, 1 + self.below(4));
                spec.sequence = if size == SizeProfile::Tiny {
                    small(&some_tokens, 1 + self.below(8))
                } else {
                    0
                };
            }
            SizeProfile::TileEdges => self.tile_edges(spec, &axes, &some_tokens),
            SizeProfile::ManyRows => {
                spec.hidden = raised(&axes.hidden, near(&axes.hidden, DEEP + self.below(2)), DEEP);
                spec.intermediate = raised(&axes.intermediate, near(&axes.intermediate, 65 + self.below(2)), 65);
                spec.experts = near(&axes.experts, 1 + self.below(3));
                spec.top_k = near(&axes.top_k, [1, 2, 4][self.below(3)]);
                // The last panel has at most 64 rows, or just more.
                let rows = MANY_ROWS + [1, 30, 64, 65][self.below(4)];
                let tokens = if axes.distinct { rows } else { rows.div_ceil(spec.top_k) };
                spec.sequence = near(&some_tokens, tokens);
            }
            SizeProfile::ManyExperts => {
                spec.hidden = small(&axes.hidden, 1 + self.below(16));
                spec.intermediate = small(&axes.intermediate, 1 + self.below(16));
                let experts = [127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025][self.below(12)];
                spec.experts = near(&axes.experts, experts);
                spec.top_k = self.top_k(&axes.top_k, spec.experts);
                spec.sequence = self.edge(&some_tokens, 1024 / spec.top_k);
            }
            SizeProfile::ManyAssignments => {
                spec.hidden = small(&axes.hidden, 1 + self.below(4));
                spec.intermediate = small(&axes.intermediate, 1 + self.below(3));
                spec.experts = near(&axes.experts, [1, 2, 3, 8, 32, 64, 65][self.below(7)]);
                spec.top_k = near(&axes.top_k, [1, 2, 4, 8, 16][self.below(5)]);
                let boundaries = [8_192, 16_384, 32_768, 65_536, 131_072, MAX_ASSIGNMENTS - 1];
                let assignments = boundaries[self.below(6)] + [0, 1, 65][self.below(3)] - self.below(2);
                let tokens = (assignments / spec.top_k).min(MAX_ASSIGNMENTS / spec.top_k);
                spec.sequence = near(&some_tokens, tokens);
            }
        }
        if axes.square {
            spec.intermediate = spec.hidden;
        }
    }

    fn tile_edges(&mut self, spec: &mut CaseSpec, axes: &Axes, some_tokens: &Sizes) {
        let usual = (self.selection.work / 48).isqrt().clamp(2, 257);
        let (widest_hidden, widest_inner) = (self.widest(&axes.hidden, usual), self.widest(&axes.intermediate, usual));
        spec.hidden = self.edge(&axes.hidden, widest_hidden);
        spec.intermediate = self.related(&axes.intermediate, spec.hidden, widest_inner);
        if axes.square {
            spec.intermediate = spec.hidden;
        }
        let is_deep = widest_hidden.min(widest_inner) > DEEP && self.below(4) == 3;
        let experts = [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33][self.below(11)];
        spec.experts = near(&axes.experts, experts);
        if is_deep {
            spec.hidden = deep(&axes.hidden, spec.hidden);
            spec.intermediate = deep(&axes.intermediate, spec.intermediate);
            // Few experts, so that some have more rows than a warp has lanes although there are fewer tokens.
            spec.experts = lowered(&axes.experts, spec.experts, 4);
        }
        spec.top_k = self.top_k(&axes.top_k, spec.experts);
        spec.sequence = self.edge(some_tokens, if is_deep { 129 } else { 385 });
        if spec.hidden.min(spec.intermediate) >= DEEP && spec.intermediate > LONG {
            // In a second run the parts are added in another order.
            spec.warmup.get_or_insert(Warmup::Same);
        }
    }

    /// Lowers the numbers of experts and tokens to what the selection allows. Where lowering either would do, the seed
    /// decides.
    pub(super) fn fit(&self, spec: &mut CaseSpec, size: SizeProfile) {
        let axes = self.rules.axes();
        let (work, elements) = (self.work(size), self.elements(size));
        let most_experts = elements / (2 * spec.hidden * spec.intermediate);
        let most_experts = most_experts.max(2).min(self.selection.assignments);
        spec.experts = lowered(&axes.experts, spec.experts, most_experts);
        self.lower_weights(spec, elements);
        let per_token = spec.top_k * spec.hidden * 3 * spec.intermediate;
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

    /// A size at the edge of a tile or next to it, at most `max`.
    fn edge(&mut self, sizes: &Sizes, max: usize) -> usize {
        let pick = self.below(4);
        let tile = TILES[self.below(TILES.len())];
        let offset = self.below(3);
        let any = lowered(sizes, near(sizes, 1 + self.below(max.max(1))), max);
        let size = match pick {
            0 if sizes.admits(1) => near(sizes, 1 + offset),
            0 => small(sizes, 1 + 3 * offset),
            1 | 2 => around(sizes, tile, offset),
            _ => any,
        };
        if size <= max { size } else { any }
    }

    /// An I for an H: equal, half or double, which kernels confuse, or any.
    fn related(&mut self, sizes: &Sizes, hidden: usize, widest: usize) -> usize {
        let any = self.edge(sizes, widest);
        let size = match self.below(6) {
            0 => hidden,
            1 => (hidden / 2).max(1),
            2 if 2 * hidden <= widest => 2 * hidden,
            _ => any,
        };
        near(sizes, size)
    }

    fn top_k(&mut self, sizes: &Sizes, experts: usize) -> usize {
        let k = [1, 2, 2, 3, 4, 4, 6, 7, 8, 9, 10, 16][self.below(12)];
        let k = if self.below(8) == 7 && experts <= 64 {
            experts
        } else {
            k
        };
        near(sizes, k)
    }

    /// Splits T into B and S if B divides it.
    pub(super) fn split_batch(&mut self, spec: &mut CaseSpec) {
        let batch = [1, 1, 2, 3, 4][self.below(5)];
        if spec.sequence.is_multiple_of(batch) {
            spec.batch = batch;
            spec.sequence /= batch;
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

/// A size of at least `DEEP`: the given one, or `DEEP` or one more.
fn deep(sizes: &Sizes, size: usize) -> usize {
    if size >= DEEP {
        return size;
    }
    raised(sizes, near(sizes, DEEP + size % 2), DEEP)
}
