//! The tokens of a case in another batch, for engines that claim that a token's row has the same bits in any.

use binned_experts_reference::{Error, Problem};
use ndarray::{Array3, Axis};

use super::verdict::{BatchPlace, Mismatch};
use crate::domain::{Domain, fullest_expert};
use crate::engine::Outcome;
use crate::oracle::Expected;
use crate::stage::{Location, Stage};
use crate::tensor::{AnyProblem, CaseElement};

/// A batch that is larger than the case's has at most so many times its tokens, or so many.
const MOST_TIMES: usize = 4;
const MOST_TOKENS: usize = 64;

/// Another batch of a case's tokens, in which nothing is dropped.
pub(super) struct Batch {
    pub(super) problem: AnyProblem,
    /// For each of its tokens that of the case.
    tokens: Vec<usize>,
}

impl Batch {
    /// One of the tokens of which nothing is dropped alone, all of them at other places, or each of them twice and more,
    /// by the sizes of the case. None where there is no such token, or the domain admits no such batch.
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
        let most = MOST_TOKENS.max(all.saturating_mul(MOST_TIMES));
        let nearest = domain.tokens.at_least(all)?;
        let size = match (dims.tokens + dims.hidden + dims.intermediate + dims.experts + dims.top_k) % 3 {
            0 => domain.tokens.at_least(1)?,
            1 => nearest,
            _ => domain.tokens.at_least(2 * all + 1).unwrap_or(nearest),
        };
        let size = if size > most { nearest } else { size };
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
