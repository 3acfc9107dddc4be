//! Which tokens of a large case are judged by the definition.

use std::collections::BTreeSet;

use binned_experts_reference::Dims;

use crate::case::{PANEL, TILES};
use crate::draw::mix;
use crate::oracle::Expected;

/// The tokens that differ most from the screen.
const WORST: usize = 16;
/// Tokens that nobody knows beforehand.
const RANDOM: usize = 16;

/// What the tokens are chosen by.
pub(super) struct Choice<'a> {
    /// The routing.
    pub(super) routing: &'a Expected,
    /// How much each token differs from the screen.
    pub(super) differences: &'a [f64],
    /// A number that follows from the output.
    pub(super) digest: u64,
}

impl Choice<'_> {
    /// In ascending order: those at the ends and edges of the batch and of each expert's rows, those that look worst, and
    /// some by chance.
    pub(super) fn tokens(&self) -> Vec<usize> {
        let Dims { tokens, .. } = self.routing.inputs().dims;
        let at_edges = edges(tokens);
        let all = at_edges.into_iter().chain(self.of_experts());
        let all = all.chain(self.worst()).chain(self.random());
        Vec::from_iter(all.collect::<BTreeSet<usize>>())
    }

    /// The tokens of the first and the last row that each expert keeps, and of the first assignment that it drops; of the
    /// fullest expert also those at the edges of tiles.
    fn of_experts(&self) -> Vec<usize> {
        let (routing, dims) = (self.routing, self.routing.inputs().dims);
        let starts = std::iter::once(&0).chain(routing.bins());
        let bins = starts.zip(routing.bins());
        let experts: Vec<&[usize]> = bins
            .map(|(&start, &end)| &routing.sorted_indices()[start..end])
            .collect();
        let mut flats: Vec<&usize> = Vec::new();
        for rows in &experts {
            let (kept, dropped) = rows.split_at(rows.len().min(dims.capacity));
            flats.extend(kept.first().into_iter().chain(kept.last()).chain(dropped.first()));
        }
        if let Some(rows) = experts.iter().max_by_key(|rows| rows.len()) {
            let kept = rows.len().min(dims.capacity);
            flats.extend(edges(kept).into_iter().map(|row| &rows[row]));
        }
        flats.into_iter().map(|flat| flat / dims.top_k).collect()
    }

    fn worst(&self) -> Vec<usize> {
        let mut tokens = Vec::from_iter(0..self.differences.len());
        tokens.sort_by(|one, other| self.differences[*other].total_cmp(&self.differences[*one]));
        tokens.truncate(WORST);
        tokens
    }

    fn random(&self) -> Vec<usize> {
        let tokens = self.differences.len() as u64;
        let draws = 0..if tokens > 0 { RANDOM as u64 } else { 0 };
        draws.map(|draw| (mix(self.digest ^ draw) % tokens) as usize).collect()
    }
}

/// The first and the last of some places; the first and the last of the first panel, and the first of the last one; those
/// on both sides of the edges of smaller tiles.
fn edges(number: usize) -> Vec<usize> {
    let last = number.checked_sub(1);
    let of_tiles = TILES
        .iter()
        .filter(|tile| **tile <= PANEL)
        .flat_map(|tile| [tile - 1, *tile]);
    let panel = last.map(|last| last / PANEL * PANEL);
    let all = std::iter::once(0).chain(of_tiles).chain(panel).chain(last);
    all.filter(|place| *place < number).collect()
}

/// A number that follows from the bits of an output.
pub(super) fn digest<'a>(values: impl IntoIterator<Item = &'a f64>) -> u64 {
    values
        .into_iter()
        .fold(0, |digest, value| mix(digest ^ value.to_bits()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CaseSpec;
    use crate::generate::Selection;
    use crate::oracle::Inputs;

    fn routing(seed: u64) -> Expected {
        let problem = CaseSpec::from_seed(seed, &Selection::default()).build().unwrap();
        let [batch, sequence] = [problem.output_shape()[0], problem.output_shape()[1]];
        Expected::new(
            Inputs::of_routing(&problem),
            vec![batch, sequence, 0],
            problem.element(),
        )
    }

    #[test]
    fn the_ends_of_the_batch_and_of_every_expert_are_chosen() {
        let (mut experts, mut drops) = (0, 0);
        for seed in 0..300 {
            let routing = routing(seed);
            let dims = routing.inputs().dims;
            let differences = vec![0.0; dims.tokens];
            let choice = Choice {
                routing: &routing,
                differences: &differences,
                digest: seed,
            };
            let chosen = choice.tokens();
            assert!(chosen.is_sorted_by(|one, other| one < other), "seed {seed}: {chosen:?}");
            assert!(chosen.iter().all(|token| *token < dims.tokens), "seed {seed}");
            let is_chosen = |token: usize| chosen.binary_search(&token).is_ok();
            for place in [0, 15, 16, 127, 128, dims.tokens.saturating_sub(1)] {
                assert_eq!(is_chosen(place), place < dims.tokens, "seed {seed}: token {place}");
            }
            let kept = routing.kept();
            let expert_of = |flat: &usize| routing.inputs().assignment(*flat).2;
            for rows in kept.chunk_by(|one, other| expert_of(one) == expert_of(other)) {
                let ends = [rows[0], rows[rows.len() - 1]];
                assert!(
                    ends.iter().all(|flat| is_chosen(flat / dims.top_k)),
                    "seed {seed}: {ends:?}"
                );
                let is_fullest = 2 * rows.len() > kept.len();
                for flat in [15, 16, 63, 64, 127, 128].iter().filter_map(|row| rows.get(*row)) {
                    assert!(!is_fullest || is_chosen(flat / dims.top_k), "seed {seed}: {flat}");
                }
                experts += 1;
            }
            let mut has_dropped = vec![false; dims.experts];
            for flat in routing.sorted_indices() {
                let is_kept = routing.definition().kept[*flat];
                if !is_kept && !std::mem::replace(&mut has_dropped[expert_of(flat)], true) {
                    assert!(is_chosen(flat / dims.top_k), "seed {seed}: dropped {flat}");
                    drops += 1;
                }
            }
        }
        assert!(experts > 1000 && drops > 300, "{experts} {drops}");
    }

    #[test]
    fn the_worst_and_some_by_chance_are_chosen() {
        let number = |routing: &Expected| routing.inputs().dims.tokens;
        let routing = (0..).map(routing).find(|routing| (300..600).contains(&number(routing)));
        let routing = routing.unwrap();
        let tokens = number(&routing);
        let mut differences = vec![1e-8; tokens];
        for (at, wrong) in [101, 203, 77].into_iter().enumerate() {
            differences[wrong] = [1e-7, f64::INFINITY, 2e-8][at];
        }
        let chosen = |digest| {
            let choice = Choice {
                routing: &routing,
                differences: &differences,
                digest,
            };
            choice.tokens()
        };
        assert!([101, 203, 77].iter().all(|wrong| chosen(0).contains(wrong)));
        assert_eq!(chosen(5), chosen(5));
        let union: BTreeSet<usize> = (0..1000).map(mix).flat_map(chosen).collect();
        assert_eq!(union.len(), tokens);
    }

    #[test]
    fn one_bit_of_an_output_changes_its_digest() {
        assert_eq!(digest(&[1.0, 2.0]), digest(&[1.0, 2.0]));
        assert_ne!(digest(&[1.0, 2.0]), digest(&[1.0, 2f64.next_up()]));
        assert_ne!(digest(&[0.0, 2.0]), digest(&[2.0, 0.0]));
    }
}
