//! What a check makes of the claim that a token's row has the same bits in any batch.

use binned_experts_check::case::{CapacityProfile, ValueProfile};
use binned_experts_check::engine::Reference;
use binned_experts_check::find::find;
use binned_experts_check::judge::{Mismatch, Trial, judge};
use binned_experts_check::{
    AnyProblem, CaseSpec, CheckPlan, Domain, Engine, Fault, Outcome, Precision, Selection, Tensor, Verdict,
    check_engine,
};

/// The reference, whose last bit hangs on something else in some cases. Every value stays within its bound.
struct Kernel {
    domain: Domain,
    is_other: fn(&AnyProblem) -> bool,
}

impl Engine for Kernel {
    fn name(&self) -> &str {
        "kernel"
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        if let Err(outside) = self.domain.check() {
            return Err(Fault::refused(outside));
        }
        let mut outcome = Reference.forward(problem)?;
        if let (true, Tensor::F32(output)) = ((self.is_other)(problem), &mut outcome.output) {
            // A value of 0 may have to be met exactly, and infinities are.
            let is_bounded = |value: f32| value.is_finite() && value != 0.0;
            output.mapv_inplace(|value| if is_bounded(value) { value.next_up() } else { value });
        }
        Ok(outcome)
    }
}

fn kernel(claims: bool, more: &str, is_other: fn(&AnyProblem) -> bool) -> Kernel {
    let domain: Domain = more.parse().unwrap();
    Kernel {
        domain: Domain {
            precision: Some(vec![Precision::FP32]),
            batch_invariant: Some(claims),
            ..domain
        },
        is_other,
    }
}

fn plan(cases: usize) -> CheckPlan {
    CheckPlan {
        cases,
        selection: Selection {
            elements: vec![binned_experts_check::ElementType::F32],
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}

#[test]
fn the_reference_keeps_the_claim_in_every_domain() {
    for more in [
        "",
        "drops = false\nduplicates = false\ntokens = { min = 1 }",
        "tokens = { multiple_of = 4, max = 64 }\ncapacity = { max = 40 }",
    ] {
        let summary = check_engine(&mut kernel(true, more, |_| false), &plan(80));
        summary.assert_agrees();
        // Nothing outside was asked for the sake of the claim.
        assert_eq!(summary.engines[0].agree, 80, "{summary}");
    }
}

#[test]
fn a_row_that_depends_on_its_neighbours_is_caught_where_the_claim_is_made() {
    let is_other: fn(&AnyProblem) -> bool = |problem| problem.dims().tokens > 7;
    // Nothing that has to be met exactly.
    let mut plan = plan(100);
    plan.selection.values = vec![ValueProfile::Gentle];
    check_engine(&mut kernel(false, "", is_other), &plan).assert_agrees();
    let summary = check_engine(&mut kernel(true, "", is_other), &plan);
    let [kind] = &summary.kinds[..] else {
        panic!("{summary}")
    };
    assert_eq!(kind.text, "output: not batch-invariant");
    assert!(kind.cases >= 10, "{summary}");
    let first = &summary.failures[0];
    let shrunk = first.shrunk.as_ref().unwrap();
    assert!(
        is_not_invariant(&first.verdict) && is_not_invariant(&shrunk.verdict),
        "{summary}"
    );
    assert!(shrunk.spec.tokens() <= 8, "{summary}");
    // A large case is tried beside a small batch.
    let is_large: fn(&AnyProblem) -> bool = |problem| problem.dims().tokens > 128;
    let summary = check_engine(&mut kernel(true, "", is_large), &plan);
    assert!(is_not_invariant(&summary.failures[0].verdict), "{summary}");
    assert!(summary.kinds[0].cases >= 5, "{summary}");
}

/// Whatever is dropped, a token of which nothing is dropped is tried in another batch.
#[test]
fn every_case_with_a_whole_token_is_tried() {
    let mut tried = 0;
    let mut selection = plan(0).selection;
    selection.capacities = vec![
        CapacityProfile::CapacityOne,
        CapacityProfile::FarOver,
        CapacityProfile::OneOver,
    ];
    for seed in 0..60 {
        let spec = CaseSpec {
            warmup: None,
            ..CaseSpec::from_seed(seed, &selection)
        };
        let trial = Trial::from_spec(&spec, &[Precision::FP32]).unwrap();
        let (top_k, kept) = (spec.top_k, &trial.expected().definition().kept);
        let has_whole = kept.chunks(top_k).any(|kept| kept.iter().all(|kept| *kept));
        let mut kernel = kernel(true, "", |_| true);
        let mut calls = Calls(&mut kernel, 0);
        judge(&mut calls, &trial);
        assert_eq!(calls.1, 1 + usize::from(has_whole), "{spec}");
        tried += usize::from(has_whole);
    }
    assert!(tried >= 20, "{tried} of 60 cases");
}

/// Counts the calls of an engine.
struct Calls<'a>(&'a mut dyn Engine, usize);

impl Engine for Calls<'_> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn domain(&self) -> Domain {
        self.0.domain()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.1 += 1;
        self.0.forward(problem)
    }
}

#[test]
fn a_wrong_result_is_worse_than_another_batch() {
    struct Wrong(Kernel);
    impl Engine for Wrong {
        fn name(&self) -> &str {
            "wrong"
        }

        fn domain(&self) -> Domain {
            self.0.domain()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            let mut outcome = self.0.forward(problem)?;
            if let Tensor::F32(output) = &mut outcome.output {
                output.mapv_inplace(|value| value + problem.dims().tokens as f32);
            }
            Ok(outcome)
        }
    }
    let summary = check_engine(&mut Wrong(kernel(true, "", |_| false)), &plan(20));
    assert!(
        summary.kinds.iter().all(|kind| kind.text == "output: wrong values"),
        "{summary}"
    );
    assert!(summary.has_failures());
}

#[test]
fn a_search_finds_whether_the_claim_may_be_made() {
    let same = find(&mut kernel(false, "", |_| false), None).unwrap();
    assert_eq!(same.domain.batch_invariant, Some(true), "{same}");
    let other = find(&mut kernel(false, "", |problem| problem.dims().tokens > 7), None).unwrap();
    assert_eq!(other.domain.batch_invariant, None, "{other}");
    assert!(other.to_string().contains("# batch_invariant: not claimed"), "{other}");
    assert!(other.wrong.is_empty(), "{other}");
}

fn is_not_invariant(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Disagree(mismatch) if matches!(**mismatch, Mismatch::NotBatchInvariant { .. }))
}
