//! Which rows each expert gets, and with what weights.

use half::bf16;

use super::bug::Bug;
use super::case::Case;

/// The assignments by expert.
pub(super) struct Routing<'a> {
    bug: Bug,
    case: &'a Case,
    /// The weight of each assignment.
    pub(super) weights: Vec<f32>,
    order: Vec<usize>,
    pub(super) counts: Vec<usize>,
    /// Where the run of each expert ends in the order.
    pub(super) ends: Vec<usize>,
}

impl<'a> Routing<'a> {
    /// Of the run with a number; runs are counted from 0.
    pub(super) fn new(bug: Bug, case: &'a Case, run: u64) -> Routing<'a> {
        let counts = count(bug, case, run);
        Routing {
            bug,
            case,
            weights: selected_weights(bug, case),
            order: sorted(bug, &case.ids),
            ends: scanned(bug, &counts),
            counts,
        }
    }

    /// The assignments of an expert that are kept.
    pub(super) fn kept(&mut self, expert: usize) -> Vec<usize> {
        let run = self.run(expert);
        let run = match self.bug {
            Bug::DuplicatesOnce => {
                let token = |assignment: &usize| assignment / self.case.dims.top_k;
                let first = |at: usize| !run[..at].iter().any(|earlier| token(earlier) == token(&run[at]));
                (0..run.len()).filter(|at| first(*at)).map(|at| run[at]).collect()
            }
            Bug::RowListOfTokens => first(&run, self.case.dims.tokens),
            Bug::HeaviestKept => self.heaviest_first(run),
            _ => run,
        };
        let kept = self.within_capacity(&run);
        match self.bug {
            Bug::RowCountWraps => {
                let left = |row: usize| (kept.len() - row / 64 * 64) as i16;
                let rows = (0..kept.len()).filter(|row| i32::from(left(*row)) > (row % 64) as i32);
                rows.map(|row| kept[row]).collect()
            }
            Bug::OddCounts if kept.len() % 2 == 1 && kept.len() >= 3 => {
                let (before, after) = kept.split_at(kept.len() / 2);
                [before, &after[1..]].concat()
            }
            Bug::CountRoundedDown => first(&kept, (kept.len() / 16).max(1) * 16),
            _ => kept,
        }
    }

    /// The part of the order that an expert is given.
    fn run(&self, expert: usize) -> Vec<usize> {
        let (start, end) = (self.start(expert), self.ends[expert]);
        let (start, end) = match self.bug {
            Bug::RowsBoundedByTokens => (start, end.min(self.case.dims.tokens)),
            Bug::GridAxis => (start, end.min(65_535)),
            Bug::FirstExpertsOnly if expert >= 256 => (start, start),
            Bug::PrefixNotSkipped => (start + 1, end + 1),
            Bug::OffsetByCapacity => (start, start + self.counts[expert]),
            _ => (start, end),
        };
        let end = end.min(self.order.len());
        self.order.get(start..end).unwrap_or_default().to_vec()
    }

    fn start(&self, expert: usize) -> usize {
        match (self.bug, expert) {
            (Bug::OffsetByCapacity, _) => {
                let kept = |count: &usize| self.case.dims.capacity.min(*count);
                self.counts[..expert].iter().map(kept).sum()
            }
            (Bug::FirstBinWraps, 0) => self.ends[self.ends.len() - 1],
            (_, 0) => 0,
            _ => self.ends[expert - 1],
        }
    }

    fn within_capacity(&mut self, run: &[usize]) -> Vec<usize> {
        let capacity = self.case.dims.capacity;
        match self.bug {
            Bug::DroppedTimesZero => {
                for &dropped in run.iter().skip(capacity) {
                    self.weights[dropped] = 0.0;
                }
                run.to_vec()
            }
            Bug::CapacityOffByOne => first(run, capacity + 1),
            Bug::CapacityTimesExperts => first(run, capacity.saturating_mul(self.case.dims.experts)),
            Bug::CapacityInOneBranch if run.len() == self.order.len() => run.to_vec(),
            Bug::LastComeKept => run[run.len().saturating_sub(capacity)..].to_vec(),
            _ => first(run, capacity),
        }
    }

    /// NaN comes last.
    fn heaviest_first(&self, mut run: Vec<usize>) -> Vec<usize> {
        let weight = |assignment: &usize| self.weights[*assignment];
        run.sort_by(|a, b| {
            let (a, b) = (weight(a), weight(b));
            b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        });
        run
    }
}

/// The first so many, or all.
fn first(run: &[usize], count: usize) -> Vec<usize> {
    run[..count.min(run.len())].to_vec()
}

fn selected_weights(bug: Bug, case: &Case) -> Vec<f32> {
    let (top_k, experts) = (case.dims.top_k, case.dims.experts);
    let weight = |assignment: usize| {
        let (token, slot) = (assignment / top_k, assignment % top_k);
        let row = case.routing_weights.row(token);
        let ids = &case.ids[token * top_k..][..top_k];
        match bug {
            Bug::WeightsRenormalised => row[ids[slot]] / ids.iter().map(|id| row[*id]).sum::<f32>(),
            Bug::WeightBySlot => row[slot % experts],
            Bug::FirstSlotWeight => row[ids[0]],
            Bug::WeightIgnored => 1.0,
            _ => row[ids[slot]],
        }
    };
    (0..case.ids.len()).map(weight).collect()
}

fn sorted(bug: Bug, ids: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    match bug {
        Bug::SortsOneBlock => order[..ids.len().min(1024)].sort_by_key(|at| ids[*at]),
        Bug::UnstableSort => order.sort_by_key(|at| (ids[*at], at ^ 1)),
        _ => order.sort_by_key(|at| ids[*at]),
    }
    order
}

fn count(bug: Bug, case: &Case, run: u64) -> Vec<usize> {
    let ids = &case.ids;
    let histogram = |ids: &[usize]| {
        let mut counts = vec![0; case.dims.experts];
        ids.iter().for_each(|id| counts[*id] += 1);
        counts
    };
    match bug {
        Bug::HistogramRace => histogram(&first(ids, 2048)),
        Bug::HistogramRaceNowAndThen if run % 3 == 1 => histogram(&first(ids, 2048)),
        Bug::LostIncrements => {
            let landed = |pair: &[usize]| first(pair, if pair.first() == pair.last() { 1 } else { 2 });
            histogram(&ids.chunks(2).flat_map(landed).collect::<Vec<_>>())
        }
        Bug::HistogramShort => {
            let once = |row: &[usize]| {
                let mut row = row.to_vec();
                row.sort_unstable();
                row.dedup();
                row
            };
            histogram(&ids.chunks(case.dims.top_k.max(1)).flat_map(once).collect::<Vec<_>>())
        }
        Bug::CountsInBf16 => {
            let rounded = |count: usize| bf16::from_f32(count as f32).to_f32() as usize;
            histogram(ids).into_iter().map(rounded).collect()
        }
        _ => histogram(ids),
    }
}

fn scanned(bug: Bug, counts: &[usize]) -> Vec<usize> {
    let sums = |counts: &[usize]| {
        let sums = counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        sums.collect::<Vec<usize>>()
    };
    match bug {
        Bug::ScansOneWarp => counts.chunks(32).flat_map(sums).collect(),
        Bug::LastBinUnwritten if counts.len().is_multiple_of(1024) => {
            let mut ends = sums(counts);
            ends.pop();
            ends.push(0);
            ends
        }
        _ => sums(counts),
    }
}
