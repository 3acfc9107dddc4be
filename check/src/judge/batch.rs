//! The tokens of a case in another batch, for engines that claim that a token's row has the same bits in any.

use binned_experts_reference::{Error, Problem};
use ndarray::{Array3, Axis};

use super::verdict::{BatchPlace, Mismatch};
use crate::case::stage::{Location, Stage};
use crate::case::{AnyProblem, CaseElement};
use crate::domain::{Domain, fullest_expert};
use crate::engine::Outcome;
use crate::oracle::Expected;

/// Tokens of a batch at most, where the domain admits so few: of a large case some are enough.
const MOST_TOKENS: usize = 64;

/// Another batch of a case's tokens, in which nothing is dropped.
pub(super) struct Batch {
    pub(super) problem: AnyProblem,
    /// For each of its tokens that of the case.
    tokens: Vec<usize>,
}

impl Batch {
    /// One of the tokens of which nothing is dropped alone, all of them at other places, or each of them twice and more,
    /// by the sizes of the case; never more than [`MOST_TOKENS`] where fewer will do. None where there is no such token, or
    /// the domain admits no such batch.
    pub(super) fn of(problem: &AnyProblem, expected: &Expected, domain: &Domain) -> Option<Batch> {
        let dims = problem.dims();
        let kept = &expected.definition().kept;
        let is_undropped = |flat: usize| kept[flat] || !expected.inputs().is_local(flat);
        let is_whole = |token: &usize| (token * dims.top_k..(token + 1) * dims.top_k).all(is_undropped);
        let whole: Vec<usize> = (0..dims.tokens).filter(is_whole).collect();
        let all = whole.len();
        if all == 0 {
            return None;
        }
        let wanted = match (dims.tokens + dims.hidden + dims.intermediate + dims.experts + dims.top_k) % 3 {
            0 => 1,
            1 => all,
            _ => 2 * all + 1,
        };
        let nearest = domain.tokens.at_least(all)?;
        let size = domain.tokens.at_least(wanted.min(MOST_TOKENS));
        let size = size.filter(|size| *size <= MOST_TOKENS.max(all)).unwrap_or(nearest);
        let tokens: Vec<usize> = (0..size).map(|at| whole[(all / 2 + at) % all]).collect();
        let problem = with_problem!(problem, problem => regrouped(problem, &tokens, domain)?.ok()?);
        Some(Batch { problem, tokens })
    }

    /// Whether the rows of the case and of the batch have the same bits; any NaN equals any other.
    pub(super) fn compare(&self, in_batch: &Outcome, in_case: &Outcome) -> Result<(), Box<Mismatch>> {
        if in_batch.output.shape() != self.problem.output_shape() {
            return Err(Box::new(Mismatch::Shape {
                stage: Stage::Output,
                expected: self.problem.output_shape(),
                found: in_batch.output.shape().to_vec(),
            }));
        }
        let dims = self.problem.dims();
        let (there, here) = (in_batch.output.to_f64(), in_case.output.to_f64());
        let same = |one: f64, other: f64| one.to_bits() == other.to_bits() || (one.is_nan() && other.is_nan());
        let mut wrong = 0;
        let mut first = None;
        for (position, &token) in self.tokens.iter().enumerate() {
            for column in 0..dims.hidden {
                let (there, here) = (
                    there[position * dims.hidden + column],
                    here[token * dims.hidden + column],
                );
                if !same(there, here) {
                    wrong += 1;
                    first.get_or_insert((position, token, column, here, there));
                }
            }
        }
        let Some((position, token, column, here, there)) = first else {
            return Ok(());
        };
        Err(Box::new(Mismatch::NotBatchInvariant {
            at: Location {
                token: Some(token),
                column: Some(column),
                ..Location::default()
            },
            here,
            place: BatchPlace {
                position,
                tokens: self.tokens.len(),
            },
            there,
            wrong,
        }))
    }
}

/// The problem of some of its tokens; none where the domain admits no capacity at which nothing is dropped.
fn regrouped<T: CaseElement>(
    problem: &Problem<T>,
    tokens: &[usize],
    domain: &Domain,
) -> Option<Result<AnyProblem, Error>> {
    let ids = problem.router_indices().select(Axis(0), tokens);
    let top_k = problem.dims().top_k;
    let slots = tokens
        .iter()
        .flat_map(|token| &problem.expert_of()[token * top_k..(token + 1) * top_k]);
    let fullest = fullest_expert(slots.filter_map(|expert| *expert));
    let capacity = domain.capacity.at_least(fullest.max(problem.capacity()))?;
    let (hidden_states, weights) = (
        rows(problem.hidden_states(), tokens)?,
        rows(problem.routing_weights(), tokens)?,
    );
    let experts = problem.weights().clone();
    let regrouped = match problem.first_expert() {
        None => Problem::new(hidden_states, ids, weights, experts, capacity),
        Some(first) => Problem::of_rank(hidden_states, ids, weights, experts, capacity, first),
    };
    let regrouped = regrouped.and_then(|regrouped| regrouped.with_layer(*problem.layer()));
    let (activation, views) = (problem.activation(), problem.views().clone());
    Some(regrouped.map(|regrouped| T::problem(regrouped.with_activation(activation).with_views(views))))
}

/// The rows of some tokens of a tensor `[B,S,width]`, as one batch.
fn rows<T: CaseElement>(tensor: &Array3<T>, tokens: &[usize]) -> Option<Array3<T>> {
    let (batch, sequence, width) = tensor.dim();
    let rows = tensor.to_shape((batch * sequence, width)).ok()?;
    Some(rows.select(Axis(0), tokens).insert_axis(Axis(0)))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr2};

    use super::*;
    use crate::case::stage::Stages;
    use crate::case::{CaseSpec, Tensor};
    use crate::oracle::Inputs;

    /// A problem of sizes that add up to `tokens + hidden + 1 + experts + K`.
    fn problem<const K: usize>(hidden: usize, experts: usize, routing: &[[usize; K]], capacity: usize) -> Problem<f32> {
        let text = format!(
            "element = 'f32'\nbatch = 1\nsequence = {}\nhidden = {hidden}\nintermediate = 1\nexperts = {experts}\n\
             top_k = {K}\ncapacity = {capacity}\nalpha = 1.702\nlimit = 7.0\nseed = 5\nrouting = {routing:?}\n\
             values = 'gentle'\nweights = 'normalised'",
            routing.len(),
        );
        let spec: CaseSpec = text.parse().unwrap();
        let AnyProblem::F32(problem) = spec.build().unwrap() else {
            panic!("{text}")
        };
        problem
    }

    fn batch_of(problem: Problem<f32>, domain: &str) -> Option<Batch> {
        let problem = AnyProblem::F32(problem);
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), problem.element());
        Batch::of(&problem, &expected, &domain.parse().unwrap())
    }

    /// The tokens of the batch of a case whose tokens all have the first expert. `kind` chooses between alone, all and more.
    fn tokens(tokens: usize, kind: usize, domain: &str) -> Vec<usize> {
        let hidden = (1..=3)
            .find(|hidden| (tokens + hidden + 1 + 1 + 1) % 3 == kind)
            .unwrap();
        let batch = batch_of(problem(hidden, 1, &vec![[0]; tokens], tokens), domain).unwrap();
        assert_eq!(batch.problem.output_shape(), [1, batch.tokens.len(), hidden]);
        batch.tokens
    }

    #[test]
    fn a_batch_is_a_token_alone_or_all_or_each_twice_and_more() {
        assert_eq!(tokens(5, 0, ""), [2]);
        assert_eq!(tokens(5, 1, ""), [2, 3, 4, 0, 1]);
        assert_eq!(tokens(5, 2, ""), [2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]);
    }

    #[test]
    fn a_batch_of_a_large_case_is_small() {
        assert_eq!(tokens(200, 0, ""), [100]);
        assert_eq!(tokens(200, 1, ""), Vec::from_iter(100..164));
        assert_eq!(tokens(200, 2, ""), Vec::from_iter(100..164));
        assert_eq!(tokens(40, 2, "").len(), 64);
    }

    #[test]
    fn a_batch_is_in_the_domain() {
        assert_eq!(tokens(6, 0, "tokens = { min = 4 }").len(), 4);
        assert_eq!(tokens(8, 2, "tokens = { multiple_of = 4 }").len(), 20);
        // Too many are not taken in place of those of the case.
        assert_eq!(tokens(100, 2, "tokens = { one_of = [100, 1000] }").len(), 100);
        assert_eq!(tokens(10, 2, "tokens = { one_of = [10, 64] }").len(), 64);
        assert_eq!(tokens(10, 2, "tokens = { one_of = [10, 65] }").len(), 10);
        assert_eq!(tokens(10, 2, "tokens = { max = 12 }").len(), 10);
    }

    #[test]
    fn a_batch_has_the_rows_of_tokens_of_which_nothing_is_dropped() {
        // The first expert keeps the first token whole, the other one the last. The sizes add up to 10, which asks for all.
        let routing = [[0, 0], [0, 0], [1, 1]];
        let case = problem(2, 2, &routing, 2);
        let Batch { problem: batch, tokens } = batch_of(case.clone(), "tokens = { min = 7 }").unwrap();
        assert_eq!(tokens, [2, 0, 2, 0, 2, 0, 2]);
        let AnyProblem::F32(batch) = batch else { panic!() };
        for (position, &token) in tokens.iter().enumerate() {
            let of = |rows: &Array3<f32>, token: usize| rows.index_axis(Axis(1), token).to_owned();
            assert_eq!(of(batch.hidden_states(), position), of(case.hidden_states(), token));
            assert_eq!(of(batch.routing_weights(), position), of(case.routing_weights(), token));
            assert_eq!(batch.router_indices().row(position), case.router_indices().row(token));
        }
        // The last token has eight rows there.
        assert_eq!(batch.capacity(), 8);
        assert!(batch_of(case, "tokens = { min = 7 }\ncapacity = { max = 7 }").is_none());
        assert!(batch_of(problem(2, 2, &routing, 0), "").is_none());
    }

    /// The mismatch of the last two of three tokens, whose rows are `there` in the batch and `here` in the case.
    fn mismatch(here: [[f32; 3]; 3], there: [[f32; 3]; 2]) -> Option<Mismatch> {
        // The sizes add up to 9, which asks for one.
        let batch = batch_of(problem(3, 1, &[[0], [0], [0]], 3), "tokens = { min = 2 }").unwrap();
        assert_eq!(batch.tokens, [1, 2]);
        let outcome = |rows: Array2<f32>| Outcome {
            output: Tensor::F32(rows.insert_axis(Axis(0)).into_dyn()),
            stages: Stages::default(),
        };
        let compared = batch.compare(&outcome(arr2(&there)), &outcome(arr2(&here)));
        compared.err().map(|mismatch| *mismatch)
    }

    #[test]
    fn rows_are_compared_bit_by_bit() {
        let here = [[9.0, 8.0, 7.0], [0.0, f32::NAN, 1.0], [2.0, 3.0, f32::INFINITY]];
        assert_eq!(mismatch(here, [here[1], here[2]]), None);
        let another_nan = f32::from_bits(f32::NAN.to_bits() | 1);
        assert_eq!(mismatch(here, [[0.0, another_nan, 1.0], here[2]]), None);

        let found = mismatch(
            here,
            [[0.0, f32::NAN, 1.0_f32.next_up()], [2.0, f32::NAN, f32::INFINITY]],
        );
        let Some(Mismatch::NotBatchInvariant {
            at,
            here: one,
            place,
            there,
            wrong,
        }) = found
        else {
            panic!("{found:?}")
        };
        assert_eq!((at.token, at.column, wrong), (Some(1), Some(2), 2));
        assert_eq!((one, there), (1.0, f64::from(1.0_f32.next_up())));
        assert_eq!(place, BatchPlace { position: 0, tokens: 2 });

        let zero = mismatch(here, [[-0.0, f32::NAN, 1.0], here[2]]);
        assert!(
            matches!(zero, Some(Mismatch::NotBatchInvariant { wrong: 1, .. })),
            "{zero:?}"
        );
    }

    #[test]
    fn another_shape_is_told() {
        let batch = batch_of(problem(3, 1, &[[0], [0], [0]], 3), "").unwrap();
        let outcome = Outcome {
            output: Tensor::F32(ndarray::ArrayD::zeros(vec![1, 3, 3])),
            stages: Stages::default(),
        };
        let mismatch = batch.compare(&outcome, &outcome).unwrap_err();
        let expected = Mismatch::Shape {
            stage: Stage::Output,
            expected: vec![1, 1, 3],
            found: vec![1, 3, 3],
        };
        assert_eq!(*mismatch, expected);
    }
}
