//! T, H, I, E and K.

use super::{MAX_ASSIGNMENTS, Source, USUAL_WORK};
use crate::case::{CaseSpec, DEEP, Place, RoutingProfile, SizeProfile, ValueProfile, Warmup};
use crate::draw::TILES;
use crate::tensor::ElementType;

/// Above this I such a kernel may cut a sum in more than two parts.
const LONG: usize = 128;
/// What kernels in 16 bits may ask H and I to be multiples of: 16 bytes.
const IN_16_BITS: usize = 8;
/// More rows than the eight panels of 128 that such a kernel takes together.
const MANY_ROWS: usize = 9 * 128;

impl Source<'_> {
    pub(super) fn size(&mut self) -> SizeProfile {
        match self.below(32) {
            0..=11 => SizeProfile::Tiny,
            12..=26 => SizeProfile::TileEdges,
            27..=28 => SizeProfile::ManyExperts,
            29..=30 => SizeProfile::ManyAssignments,
            // A fuzzer would spend its time on them.
            _ if self.selection.work >= USUAL_WORK && self.below(4) == 3 => SizeProfile::ManyRows,
            _ => SizeProfile::NoTokens,
        }
    }

    pub(super) fn sizes(&mut self, spec: &mut CaseSpec, size: SizeProfile) {
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
                let is_deep = widest > DEEP && self.below(4) == 3;
                spec.experts = [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33][self.below(11)];
                if is_deep {
                    spec.hidden = deep(spec.hidden);
                    spec.intermediate = deep(spec.intermediate);
                    // Few experts, so that some have more rows than a warp has lanes although there are fewer tokens.
                    spec.experts = spec.experts.min(4);
                }
                spec.top_k = self.top_k(spec.experts);
                spec.sequence = self.edge(if is_deep { 129 } else { 385 });
                if spec.hidden.min(spec.intermediate) >= DEEP && spec.intermediate > LONG {
                    // In a second run the parts are added in another order.
                    spec.warmup.get_or_insert(Warmup::Same);
                }
            }
            SizeProfile::ManyRows => {
                spec.hidden = DEEP + self.below(2);
                spec.intermediate = 65 + self.below(2);
                spec.experts = 1 + self.below(3);
                spec.top_k = [1, 2, 4][self.below(3)];
                // The last panel has at most 64 rows, or just more.
                let rows = MANY_ROWS + [1, 30, 64, 65][self.below(4)];
                spec.sequence = rows.div_ceil(spec.top_k);
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
        let is_16_bits = matches!(spec.element, ElementType::Bf16 | ElementType::F16);
        if is_16_bits && spec.seed % 4 != 3 {
            spec.hidden = spec.hidden.next_multiple_of(IN_16_BITS);
            spec.intermediate = spec.intermediate.next_multiple_of(IN_16_BITS);
        }
    }

    /// Lowers the numbers of experts and tokens to what the selection allows. Where lowering either would do, the seed
    /// decides.
    pub(super) fn fit(&self, spec: &mut CaseSpec) {
        let (work, elements) = (self.selection.work, self.selection.work / 4);
        let most_experts = elements / (2 * spec.hidden * spec.intermediate);
        spec.experts = spec.experts.min(most_experts.max(2)).min(self.selection.assignments);
        let per_token = spec.top_k * spec.hidden * 3 * spec.intermediate;
        let most_tokens = (work / per_token).min(self.selection.assignments / spec.top_k);
        spec.sequence = spec.sequence.min(most_tokens.max(1));
        spec.experts = spec.experts.min((2 * elements / spec.sequence.max(1)).max(1));
        let busy = self.selection.busy_experts;
        if spec.experts.min(spec.sequence * spec.top_k) <= busy || spec.seed % 8 == 7 {
            return;
        }
        // Many experts for few assignments, or the other way round.
        if spec.seed.is_multiple_of(2) {
            spec.experts = busy;
        } else {
            spec.sequence = (busy / spec.top_k).max(1);
        }
    }

    /// A size at the edge of a tile or next to it, at most `max`.
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

    /// An I for an H: equal, half or double, which kernels confuse, or any.
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

    /// Splits T into B and S if B divides it.
    pub(super) fn split_batch(&mut self, spec: &mut CaseSpec) {
        let batch = [1, 1, 2, 3, 4][self.below(5)];
        if spec.sequence.is_multiple_of(batch) {
            spec.batch = batch;
            spec.sequence /= batch;
        }
    }
}

/// A size of at least `DEEP`: the given one, or `DEEP` or one more.
fn deep(size: usize) -> usize {
    if size < DEEP { DEEP + size % 2 } else { size }
}

/// Enlarges sizes where a profile or a special place needs more than was drawn.
pub(super) fn make_room(spec: &mut CaseSpec, routing: RoutingProfile) {
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
