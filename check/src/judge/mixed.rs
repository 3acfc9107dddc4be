//! A problem with weights of another one: what a kernel computes that keeps weights between calls.

use std::any::Any;
use std::sync::Arc;

use binned_experts_reference::{Error, ExpertWeights, Problem};

use crate::case::{AnyProblem, CaseElement};

/// Which of gate_up_proj, its bias, down_proj and its bias may be kept.
const KEPT_WEIGHTS: [[bool; 4]; 4] = [
    [true; 4],
    [true, false, true, false],
    [true, false, false, false],
    [false, false, true, false],
];

/// A problem with some of the weights of another, for each choice of those that may be kept and fit.
pub(super) fn with_weights_of(problem: &AnyProblem, earlier: &AnyProblem) -> impl Iterator<Item = AnyProblem> {
    let weights = earlier.weights();
    KEPT_WEIGHTS.iter().filter_map(move |kept| {
        let mixed = with_problem!(problem, problem => mixed(problem, &weights, kept));
        mixed?.ok()
    })
}

/// A problem with those of another's weights that are kept; none where they do not fit.
fn mixed<T: CaseElement>(
    problem: &Problem<T>,
    earlier: &Arc<dyn Any + Send + Sync>,
    kept: &[bool; 4],
) -> Option<Result<AnyProblem, Error>> {
    let earlier = earlier.downcast_ref::<ExpertWeights<T>>()?;
    let mut weights = mixed_weights(problem.weights(), earlier, *kept)?;
    if let (Some(later), Some(earlier)) = (problem.weights().shared(), earlier.shared()) {
        weights = weights.with_shared(mixed_weights(later, earlier, *kept)?).ok()?;
    }
    Some(problem.clone().with_weights(weights).map(T::problem))
}

/// Weights of which some are those of earlier ones; none where they do not fit.
fn mixed_weights<T: CaseElement>(
    later: &ExpertWeights<T>,
    earlier: &ExpertWeights<T>,
    [gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias]: [bool; 4],
) -> Option<ExpertWeights<T>> {
    let of = |kept: bool| if kept { earlier } else { later };
    let parts = (
        of(gate_up_proj).gate_up_proj().clone(),
        of(gate_up_proj_bias).gate_up_proj_bias().clone(),
        of(down_proj).down_proj().clone(),
        of(down_proj_bias).down_proj_bias().clone(),
    );
    let mixed = if later.has_ups() {
        ExpertWeights::new(parts.0, parts.1, parts.2, parts.3)
    } else {
        ExpertWeights::without_ups(parts.0, parts.1, parts.2, parts.3)
    };
    mixed.ok()
}
