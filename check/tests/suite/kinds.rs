//! Failures are told apart by kind, and each kind is made small on its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use binned_experts_check::check::{CaseResult, Contender};
use binned_experts_check::engine::Reference;
use binned_experts_check::{
    AnyProblem, CheckPlan, Domain, ElementType, Engine, Fault, Outcome, Precision, Selection, Tensor, check,
};

/// Leaves out the last token, and takes no case without tokens.
struct OffByOne;

impl Engine for OffByOne {
    fn name(&self) -> &str {
        "off-by-one"
    }

    fn domain(&self) -> Domain {
        Domain::of(Precision::FP32)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let dims = problem.dims();
        if dims.tokens == 0 {
            return Err(Fault::refused(format!("T = {}", dims.tokens)));
        }
        let mut outcome = Reference.forward(problem)?;
        if let Tensor::F32(output) = &mut outcome.output {
            let values = output.iter_mut().skip((dims.tokens - 1) * dims.hidden);
            values.for_each(|value| *value = 0.0);
        }
        Ok(outcome)
    }
}

#[test]
fn each_kind_is_counted_and_shrunk_to_itself() {
    let plan = CheckPlan {
        cases: 200,
        selection: Selection {
            elements: vec![ElementType::F32],
            ..Selection::small()
        },
        ..CheckPlan::default()
    };
    let mut numbers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut watch = |result: &CaseResult| {
        if result.verdict.is_failure() {
            numbers
                .entry(result.verdict.likeness())
                .or_default()
                .push(result.of_kind);
            assert_eq!(result.shrunk.is_some(), result.of_kind == 1, "{}", result.case);
        } else {
            assert_eq!(result.of_kind, 0);
        }
        ControlFlow::Continue(())
    };
    let summary = check(&mut [Contender::single(&mut OffByOne)], &plan, &mut watch).unwrap();
    // The failures of a kind are numbered from 1.
    for (kind, numbers) in &numbers {
        assert_eq!(*numbers, Vec::from_iter(1..=numbers.len()), "{kind}");
    }
    let wrong = "output: wrong values";
    let refused = "refused: T = #";
    assert!(numbers[wrong].len() > 20 && numbers[refused].len() > 2, "{summary}");
    assert_eq!(summary.failures.len(), summary.kinds.len(), "{summary}");
    for failure in &summary.failures {
        let shrunk = failure.shrunk.as_ref().unwrap();
        assert_eq!(shrunk.verdict.likeness(), failure.verdict.likeness(), "{summary}");
    }
    let smallest = |kind: &str| {
        let failure = summary
            .failures
            .iter()
            .find(|failure| failure.verdict.likeness() == kind);
        failure
            .and_then(|failure| failure.shrunk.as_ref())
            .map(|shrunk| shrunk.spec.tokens())
    };
    assert_eq!((smallest(wrong), smallest(refused)), (Some(1), Some(0)), "{summary}");
}
