//! Calls that differ from another in two tokens.

use binned_experts_reference::{Error, Problem};

use super::{bits, key};
use crate::case::{AnyProblem, CaseElement};

/// A call in which two tokens have each other's hidden states, and these tokens. A sum over the inputs does not tell it
/// from the call, nor does a sample that has none of the two.
///
/// # Errors
/// As [`Problem::new`].
pub fn with_exchanged_tokens(call: &AnyProblem, seed: u64) -> Result<(AnyProblem, Vec<usize>), Error> {
    let tokens = drawn_tokens(call, seed);
    let exchanged = with_problem!(call, problem => exchanged(problem, &tokens).map(CaseElement::problem));
    Ok((exchanged?, tokens))
}

fn exchanged<T: CaseElement>(problem: &Problem<T>, tokens: &[usize]) -> Result<Problem<T>, Error> {
    let (_, sequence, hidden) = problem.hidden_states().dim();
    let mut hidden_states = problem.hidden_states().clone();
    if let &[one, other] = tokens {
        for column in 0..hidden {
            let place = |token| [token / sequence, token % sequence, column];
            hidden_states.swap(place(one), place(other));
        }
    }
    Problem::new(
        hidden_states,
        problem.router_indices().to_owned(),
        problem.routing_weights().clone(),
        problem.weights().clone(),
        problem.capacity(),
    )
}

/// A call in which one token has another expert and one token half the routing weights, and these tokens.
///
/// # Errors
/// As [`Problem::new`].
pub fn with_other_routing(call: &AnyProblem, seed: u64) -> Result<(AnyProblem, Vec<usize>), Error> {
    let tokens = drawn_tokens(call, seed);
    let rerouted = with_problem!(call, problem => rerouted(problem, &tokens).map(CaseElement::problem));
    Ok((rerouted?, tokens))
}

fn rerouted<T: CaseElement>(problem: &Problem<T>, tokens: &[usize]) -> Result<Problem<T>, Error> {
    let (experts, sequence) = (problem.dims().experts, problem.hidden_states().dim().1);
    let mut router_indices = problem.router_indices().to_owned();
    let mut routing_weights = problem.routing_weights().clone();
    if let Some(&moved) = tokens.first() {
        let id = &mut router_indices[[moved, 0]];
        *id = (*id + 1) % experts as i64;
    }
    if let Some(&weighed) = tokens.last() {
        for expert in 0..experts {
            let weight = &mut routing_weights[[weighed / sequence, weighed % sequence, expert]];
            *weight = T::from_f64(CaseElement::to_f64(*weight) / 2.0).widen();
        }
    }
    Problem::new(
        problem.hidden_states().clone(),
        router_indices,
        routing_weights,
        problem.weights().clone(),
        problem.capacity(),
    )
}

/// Two different tokens in ascending order; all, where there are no more.
fn drawn_tokens(call: &AnyProblem, seed: u64) -> Vec<usize> {
    let tokens = call.dims().tokens;
    if tokens < 2 {
        return Vec::from_iter(0..tokens);
    }
    let below = |number, limit: usize| (bits(key(seed, 7), number) % limit as u64) as usize;
    let one = below(0, tokens);
    let other = (one + 1 + below(1, tokens - 1)) % tokens;
    vec![one.min(other), one.max(other)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::judge_tokens;
    use crate::workload::Workload;
    use crate::workload::tests::{SMALL, call, typed};
    use crate::{ElementType, Precision, Tensor};

    /// The tokens whose right rows differ between two calls.
    fn differing(one: &AnyProblem, other: &AnyProblem) -> Vec<usize> {
        let all = Vec::from_iter(0..one.dims().tokens);
        let hidden = one.dims().hidden;
        let right = |problem: &AnyProblem| {
            let zeros = Tensor::from_f64(ndarray::ArrayD::zeros(problem.output_shape()), problem.element());
            judge_tokens(problem, Precision::of(problem.element()), &zeros, &all).errors
        };
        let (one, other) = (right(one), right(other));
        let rows = one.chunks(hidden).zip(other.chunks(hidden)).enumerate();
        rows.filter(|(_, (one, other))| one != other)
            .map(|(token, _)| token)
            .collect()
    }

    #[test]
    fn what_is_nearly_the_call_differs_at_its_two_tokens_alone() {
        let one = call(7);
        for seed in 0..50 {
            for nearly in [with_exchanged_tokens, with_other_routing] {
                let (other, tokens) = nearly(&one, seed).unwrap();
                assert_eq!(tokens.len(), 2, "seed {seed}");
                assert_eq!(differing(&one, &other), tokens, "seed {seed}");
            }
        }
        let (exchanged, _) = with_exchanged_tokens(&one, 0).unwrap();
        assert_eq!(typed(&exchanged).routing_weights(), typed(&one).routing_weights());
        let (rerouted, _) = with_other_routing(&one, 0).unwrap();
        assert_eq!(typed(&rerouted).hidden_states(), typed(&one).hidden_states());
    }

    #[test]
    fn one_token_of_one_expert_has_a_call_that_is_nearly_the_same() {
        let alone = Workload {
            batch: 1,
            sequence: 1,
            experts: 1,
            top_k: 1,
            ..SMALL
        };
        let weights = alone.weights(ElementType::Bf16, 0).unwrap();
        let call = alone.call(&weights, 1).unwrap();
        let (other, tokens) = with_other_routing(&call, 2).unwrap();
        assert_eq!((tokens, differing(&call, &other)), (vec![0], vec![0]));
        assert_eq!(with_exchanged_tokens(&call, 2).unwrap(), (call, vec![0]));
    }
}
