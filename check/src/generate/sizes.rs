//! T, H, I, E and K.

use super::inside::{around, lowered, near, raised, small};
use super::{MAX_ASSIGNMENTS, Source, USUAL_WORK};
use crate::case::{CaseSpec, DEEP, Model, SizeProfile, TILES, Warmup};
use crate::domain::{Axes, Sizes};

/// Above this I such a kernel may cut a sum in more than two parts.
const LONG_SUM: usize = 128;
/// Numbers of experts of published models, each with a number of slots that such models have.
const MODELS: [(usize, usize); 20] = [
    Model::MIXTRAL_8X7B.experts_and_slots(),
    Model::DBRX.experts_and_slots(),
    Model::GPT_OSS_20B.experts_and_slots(),
    Model::GRANITE_3B.experts_and_slots(),
    Model::QWEN_1_5.experts_and_slots(),
    Model::DEEPSEEK_V2_LITE.experts_and_slots(),
    Model::OLMOE.experts_and_slots(),
    (72, 10),
    (96, 4),
    Model::GPT_OSS_120B.experts_and_slots(),
    Model::QWEN3_30B.experts_and_slots(),
    Model::DEEPSEEK_V2.experts_and_slots(),
    (192, 8),
    (256, 6),
    Model::DEEPSEEK_V3.experts_and_slots(),
    (288, 8),
    (384, 6),
    Model::KIMI_K2.experts_and_slots(),
    Model::QWEN3_NEXT.experts_and_slots(),
    (512, 22),
];
/// The first of them with more than 64 experts.
const LARGE_MODELS: usize = 7;
/// The largest K that is drawn for its own sake.
const MOST_SLOTS: usize = 32;

impl Source<'_> {
    pub(super) fn size(&mut self) -> SizeProfile {
        // A fuzzer would spend its time on large ones.
        let takes_large = self.selection.work >= USUAL_WORK;
        let size = match self.below(256) {
            0..=91 => SizeProfile::Tiny,
            92..=202 => SizeProfile::TileEdges,
            203..=222 => SizeProfile::ManyExperts,
            223..=236 => SizeProfile::ManyAssignments,
            237..=242 => SizeProfile::NoTokens,
            243..=252 if takes_large => SizeProfile::Long,
            253..=254 if takes_large => SizeProfile::ManyRows,
            255 if takes_large => SizeProfile::Medium,
            _ => SizeProfile::TileEdges,
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
            SizeProfile::ManyRows => self.many_rows(spec, &axes, &some_tokens),
            SizeProfile::Long => self.long(spec, &axes, &some_tokens),
            SizeProfile::Medium => self.medium(spec, &axes, &some_tokens),
            SizeProfile::ManyExperts => {
                spec.hidden = small(&axes.hidden, 1 + self.below(16));
                spec.intermediate = small(&axes.intermediate, 1 + self.below(16));
                if self.below(2) == 0 {
                    let experts = [127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025][self.below(12)];
                    spec.experts = near(&axes.experts, experts);
                    spec.top_k = self.top_k(&axes.top_k, spec.experts);
                } else {
                    self.model(spec, &axes, &MODELS[LARGE_MODELS..]);
                }
                spec.sequence = self.edge(&some_tokens, 1024 / spec.top_k);
            }
            SizeProfile::ManyAssignments => {
                spec.hidden = small(&axes.hidden, 1 + self.below(4));
                spec.intermediate = small(&axes.intermediate, 1 + self.below(3));
                spec.experts = near(&axes.experts, [1, 2, 3, 8, 32, 40, 60, 64, 65][self.below(9)]);
                spec.top_k = self.top_k(&axes.top_k, usize::MAX);
                if axes.distinct {
                    spec.top_k = lowered(&axes.top_k, spec.top_k, spec.experts);
                }
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
        let is_model = !is_deep && self.below(6) == 5;
        let experts = [1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 33][self.below(11)];
        spec.experts = near(&axes.experts, experts);
        if is_deep {
            spec.hidden = deep(&axes.hidden, spec.hidden);
            spec.intermediate = deep(&axes.intermediate, spec.intermediate);
            // Few experts, so that some have more rows than a warp has lanes although there are fewer tokens.
            spec.experts = lowered(&axes.experts, spec.experts, 4);
        }
        if is_model {
            self.model(spec, axes, &MODELS);
            self.narrow(spec, axes, widest_hidden.min(widest_inner));
        } else {
            spec.top_k = self.top_k(&axes.top_k, spec.experts);
        }
        spec.sequence = self.edge(some_tokens, if is_deep { 129 } else { 385 });
        if spec.hidden.min(spec.intermediate) >= DEEP && spec.intermediate > LONG_SUM {
            // In a second run the parts are added in another order.
            spec.warmup.get_or_insert(Warmup::Same);
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

    /// E and K of a model.
    fn model(&mut self, spec: &mut CaseSpec, axes: &Axes, models: &[(usize, usize)]) {
        let (experts, top_k) = models[self.below(models.len())];
        spec.experts = near(&axes.experts, experts);
        spec.top_k = near(&axes.top_k, top_k);
    }

    /// Makes H and I such that all experts fit: as drawn, or half of the time as wide as they can be.
    fn narrow(&mut self, spec: &mut CaseSpec, axes: &Axes, widest: usize) {
        let most = self.elements(SizeProfile::TileEdges) / (2 * spec.experts);
        let side = most.isqrt().min(widest);
        if self.below(2) == 1 {
            (spec.hidden, spec.intermediate) = (near(&axes.hidden, side), near(&axes.intermediate, side));
        }
        if spec.hidden * spec.intermediate > most {
            spec.hidden = lowered(&axes.hidden, spec.hidden, side);
            spec.intermediate = lowered(&axes.intermediate, spec.intermediate, (most / spec.hidden).max(1));
        }
    }

    pub(super) fn top_k(&mut self, sizes: &Sizes, experts: usize) -> usize {
        let k = match self.below(16) {
            0..=7 => [1, 2, 2, 3, 4, 4, 6, 7, 8, 9, 10, 16][self.below(12)],
            14..=15 if experts <= 64 => experts,
            _ => 1 + self.below(MOST_SLOTS),
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
}

/// A size of at least `DEEP`: the given one, or `DEEP` or one more.
fn deep(sizes: &Sizes, size: usize) -> usize {
    if size >= DEEP {
        return size;
    }
    raised(sizes, near(sizes, DEEP + size % 2), DEEP)
}
