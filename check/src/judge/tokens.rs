//! Some tokens of an output beside the definition.

use std::collections::BTreeSet;

use ndarray::{Array2, Axis};

use super::compare::{compare, output_rows};
use super::mixed::with_weights_of;
use super::verdict::{Mismatch, Verdict};
use crate::case::{AnyProblem, Tensor};
use crate::engine::Outcome;
use crate::oracle::{Expected, Inputs, Precision, Roundings, Sample};

/// The verdict on an output at some tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct OnTokens {
    /// The verdict.
    pub verdict: Verdict,
    /// The tokens that were judged.
    pub tokens: Vec<usize>,
    /// How far the values of these tokens are from the definition, in row-major order; none where the output has not the
    /// right shape or element type.
    pub errors: Vec<f64>,
}

/// Judges an output `[B,S,H]` at some tokens, and at the first that has a value that is not finite and the first that is 0
/// in all columns. The precision must be one of the problem's element type.
pub fn judge_tokens(problem: &AnyProblem, precision: Precision, output: &Tensor, tokens: &[usize]) -> OnTokens {
    let output = match output_rows(output, &problem.output_shape(), problem.output_type()) {
        Ok(output) => output,
        Err(mismatch) => {
            return OnTokens {
                verdict: Verdict::Disagree(mismatch),
                tokens: Vec::new(),
                errors: Vec::new(),
            };
        }
    };
    let number = output.nrows();
    let tokens: BTreeSet<usize> = tokens
        .iter()
        .copied()
        .filter(|token| *token < number)
        .chain(suspects(&output))
        .collect();
    let tokens = Vec::from_iter(tokens);
    let routing = Expected::new(
        Inputs::of_routing(problem),
        [&problem.output_shape()[..2], &[0]].concat(),
        problem.element(),
    );
    let rows = output.select(Axis(0), &tokens);
    let part = Tensor::from_f64(rows.clone().insert_axis(Axis(0)).into_dyn(), problem.output_type());
    let (verdict, expected) = compare_tokens(
        problem,
        &tokens,
        &routing.definition().kept,
        Roundings::new(precision, problem.element()),
        &Outcome::output(part),
    );
    let errors = rows - &expected.definition().output;
    OnTokens {
        verdict,
        tokens,
        errors: errors.into_iter().collect(),
    }
}

/// Whether an output is right, at the tokens that [`judge_tokens`] judges, for a problem that has some of the weights of
/// another.
pub fn is_of_weights_at(
    problem: &AnyProblem,
    earlier: &AnyProblem,
    precision: Precision,
    output: &Tensor,
    tokens: &[usize],
) -> bool {
    with_weights_of(problem, earlier).any(|mixed| {
        let verdict = judge_tokens(&mixed, precision, output, tokens).verdict;
        // Where any result is right, an agreement says nothing of the weights.
        matches!(verdict, Verdict::Agree { undecided: 0, .. })
    })
}

/// The verdict on what an engine shows of some tokens, and what is right there. `kept` says of each assignment whether the
/// capacity keeps it.
pub(super) fn compare_tokens(
    problem: &AnyProblem,
    tokens: &[usize],
    kept: &[bool],
    roundings: Roundings,
    part: &Outcome,
) -> (Verdict, Expected) {
    let Sample { expected, bounds } = Sample::new(problem, tokens, kept, roundings);
    let mut verdict = compare(&expected, &bounds, part);
    if let Verdict::Disagree(mismatch) = &mut verdict
        && let Mismatch::Values { at, .. } = &mut **mismatch
    {
        at.token = at.token.map(|token| tokens[token]);
    }
    (verdict, expected)
}

/// Of rows that look wrong without the definition, the first with a value that is not finite and the first of zeros.
fn suspects(output: &Array2<f64>) -> impl Iterator<Item = usize> {
    let first = |is_suspect: fn(&f64) -> bool, all: bool| {
        output.rows().into_iter().position(|row| {
            if all {
                row.iter().all(is_suspect)
            } else {
                row.iter().any(is_suspect)
            }
        })
    };
    let not_finite = first(|value| !value.is_finite(), false);
    not_finite.into_iter().chain(first(|value| *value == 0.0, true))
}

#[cfg(test)]
mod tests {
    use binned_experts_reference::{Problem, binned_experts_ref};

    use super::*;
    use crate::ElementType;
    use crate::workload::Workload;

    const SIZES: Workload = Workload {
        batch: 3,
        sequence: 20,
        hidden: 16,
        intermediate: 12,
        experts: 3,
        top_k: 2,
    };

    /// A call with weights of a seed, and its right output.
    fn call(seed: u64) -> (AnyProblem, Tensor) {
        let weights = SIZES.weights(ElementType::F32, seed).unwrap();
        let problem = SIZES.call(&weights, 100).unwrap();
        let AnyProblem::F32(typed) = &problem else { panic!() };
        let output = right(typed);
        (problem, output)
    }

    fn right(problem: &Problem<f32>) -> Tensor {
        binned_experts_ref(problem).unwrap().output.into()
    }

    fn changed(output: &Tensor, change: impl Fn(&mut ndarray::ArrayD<f32>)) -> Tensor {
        let Tensor::F32(output) = output else { panic!() };
        let mut output = output.clone();
        change(&mut output);
        Tensor::F32(output)
    }

    #[test]
    fn a_wrong_value_shows_at_its_token_alone() {
        let (problem, output) = call(0);
        let all = Vec::from_iter(0..60);
        let judged = |output: &Tensor, tokens: &[usize]| judge_tokens(&problem, Precision::FP32, output, tokens);
        let on = judged(&output, &all);
        assert!(matches!(on.verdict, Verdict::Agree { undecided: 0, .. }));
        assert_eq!(on.errors.len(), 60 * 16);
        assert!(on.errors.iter().all(|error| error.abs() < 1e-6));

        let wrong = changed(&output, |output| output[[1, 7, 3]] += 1e-3);
        for token in 0..60 {
            let on = judged(&wrong, &[token]);
            assert_eq!(on.tokens, [token]);
            assert_eq!(matches!(on.verdict, Verdict::Agree { .. }), token != 27);
        }
        let on = judged(&wrong, &[5, 27]);
        let Verdict::Disagree(mismatch) = on.verdict else {
            panic!()
        };
        assert!(mismatch.to_string().contains("token 27, column 3"), "{mismatch}");
    }

    #[test]
    fn what_looks_wrong_is_judged_besides() {
        let (problem, output) = call(0);
        for change in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let wrong = changed(&output, |output| output[[2, 1, 15]] = change);
            let on = judge_tokens(&problem, Precision::FP32, &wrong, &[3]);
            assert_eq!(on.tokens, [3, 41]);
            assert!(matches!(on.verdict, Verdict::Disagree(_)));
        }
        let wrong = changed(&output, |output| {
            output.index_axis_mut(Axis(0), 0).index_axis_mut(Axis(0), 9).fill(0.0);
        });
        let on = judge_tokens(&problem, Precision::FP32, &wrong, &[]);
        assert_eq!(on.tokens, [9]);
        assert!(matches!(on.verdict, Verdict::Disagree(_)));
    }

    #[test]
    fn another_shape_or_type_is_wrong() {
        let (problem, output) = call(0);
        let flat = changed(&output, |output| {
            *output = output.clone().into_shape_with_order(vec![60, 16]).unwrap()
        });
        let wide = Tensor::from_f64(ndarray::ArrayD::zeros(vec![3, 20, 16]), ElementType::F64);
        for (wrong, kind) in [(flat, "wrong-shape"), (wide, "wrong-type")] {
            let on = judge_tokens(&problem, Precision::FP32, &wrong, &[0]);
            assert_eq!((on.verdict.kind(), on.errors.len()), (kind, 0));
        }
    }

    #[test]
    fn an_output_of_earlier_weights_is_told_from_a_wrong_one() {
        let ((problem, output), (earlier, stale)) = (call(0), call(1));
        let is_stale = |output: &Tensor| is_of_weights_at(&problem, &earlier, Precision::FP32, output, &[0, 30, 59]);
        assert!(is_stale(&stale));
        assert!(!is_stale(&output));
        assert!(!is_stale(&changed(&stale, |output| output[[2, 19, 0]] += 1e-3)));
    }
}
