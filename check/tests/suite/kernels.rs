//! What a check makes of kernels that take some cases only.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use binned_experts_check::case::{Profile, SizeProfile, ValueProfile, Warmup};
use binned_experts_check::check::{CaseResult, CheckError, Contender, Shapes};
use binned_experts_check::domain::{Sizes, TieOrder};
use binned_experts_check::engine::Reference;
use binned_experts_check::judge::Mismatch;
use binned_experts_check::oracle::Inputs;
use binned_experts_check::{
    AnyProblem, CaseSpec, CheckPlan, Domain, ElementType, Engine, Fault, Outcome, Precision, Selection, Stage, Stages,
    Summary, Tensor, Verdict, check, check_engine, judge_spec,
};

/// The reference, but for what `change` does to the problem or refuses.
struct Kernel<F> {
    domain: Domain,
    forward: F,
}

impl<F: FnMut(&AnyProblem) -> Result<Outcome, Fault>> Engine for Kernel<F> {
    fn name(&self) -> &str {
        "kernel"
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        (self.forward)(problem)
    }
}

fn domain(text: &str) -> Domain {
    text.parse().unwrap()
}

fn plan(cases: usize) -> CheckPlan {
    CheckPlan {
        cases,
        shrink_budget: 0,
        ..CheckPlan::default()
    }
}

fn inside_only(domain: Domain) -> Kernel<impl FnMut(&AnyProblem) -> Result<Outcome, Fault>> {
    let takes = domain.clone();
    Kernel {
        domain,
        forward: move |problem: &AnyProblem| {
            let outside = takes.admits_problem(problem);
            outside.map_err(Fault::refused)?;
            Reference.forward(problem)
        },
    }
}

#[test]
fn a_kernel_is_asked_nothing_outside_its_domain() {
    let domain = domain("hidden = { multiple_of = 4 }\ndrops = false\nduplicates = false\ntokens = { min = 1 }");
    check_engine(&mut inside_only(domain.clone()), &plan(200)).assert_agrees();
    // Nor by a spec that somebody else wrote.
    let outside = CaseSpec::from_seed(1, &Selection::default());
    let verdict = judge_spec(&mut inside_only(domain), &outside).unwrap();
    assert_eq!(verdict.kind(), "skip");
}

#[test]
fn several_kernels_are_asked_what_all_of_them_take() {
    let mut kernels = [
        inside_only(domain("hidden = { multiple_of = 4 }\nalpha = [1.0, 2.0]")),
        inside_only(domain("hidden = { multiple_of = 6, max = 100 }\nalpha = [2.0, 3.0]")),
    ];
    let run = |kernels: &mut [Kernel<_>]| {
        let mut contenders: Vec<Contender<'_>> = kernels.iter_mut().map(|kernel| Contender::single(kernel)).collect();
        let mut seen = Vec::new();
        let summary = check(&mut contenders, &plan(60), &mut |result: &CaseResult| {
            seen.extend(result.spec.clone());
            ControlFlow::Continue(())
        });
        summary.map(|summary| (summary, seen))
    };
    let (summary, seen) = run(&mut kernels).unwrap();
    summary.assert_agrees();
    assert!(
        seen.iter()
            .all(|spec| spec.hidden % 12 == 0 && spec.hidden < 100 && spec.alpha == 2.0)
    );
    let mut apart = [
        inside_only(domain("alpha = [1.0]")),
        inside_only(domain("alpha = [2.0]")),
    ];
    let error = run(&mut apart).map(|_| ()).unwrap_err();
    assert!(matches!(error, CheckError::Domain(_)), "{error}");
    assert_eq!(
        error.to_string(),
        "domain: alpha: expected at least one number, found none"
    );
}

/// Sorted by expert, equal experts in descending flat index: as an unstable sort may give it.
fn in_descending_order(problem: &AnyProblem) -> Result<Outcome, Fault> {
    let inputs = Inputs::new(problem);
    let expert = |flat: &usize| inputs.assignment(*flat).2;
    let mut order = problem.bins().sorted_indices().to_vec();
    order.sort_by_key(|flat| (expert(flat), std::cmp::Reverse(*flat)));
    let ordered = problem.clone().with_order(order.clone()).map_err(Fault::refused)?;
    let output = Reference.forward(&ordered)?.output;
    Ok(Outcome {
        output,
        stages: Stages::default().with(Stage::SortedIndices, order),
    })
}

#[test]
fn a_kernel_is_judged_by_the_order_that_it_returns() {
    let run = |tie_order| {
        let mut kernel = Kernel {
            domain: Domain {
                tie_order: Some(tie_order),
                ..Domain::default()
            },
            forward: in_descending_order,
        };
        check_engine(&mut kernel, &plan(80))
    };
    run(TieOrder::Returned).assert_agrees();
    let stable = &run(TieOrder::Stable).engines[0];
    assert!(stable.disagree > 20, "{}", stable.disagree);
    // An order that is none is wrong, whatever is claimed.
    let mut kernel = Kernel {
        domain: Domain {
            tie_order: Some(TieOrder::Returned),
            ..Domain::default()
        },
        forward: |problem: &AnyProblem| {
            let outcome = in_descending_order(problem)?;
            let mut order = problem.bins().sorted_indices().to_vec();
            order.reverse();
            Ok(Outcome {
                stages: outcome.stages.with(Stage::SortedIndices, order),
                ..outcome
            })
        },
    };
    assert!(check_engine(&mut kernel, &plan(80)).engines[0].disagree > 40);
}

/// A kernel that fails in the first of each pair of calls.
fn fails_first(fault: Fault) -> Kernel<impl FnMut(&AnyProblem) -> Result<Outcome, Fault>> {
    let mut calls = 0;
    Kernel {
        domain: Domain::in_stable_order(),
        forward: move |problem: &AnyProblem| {
            calls += 1;
            if calls % 2 == 1 {
                return Err(fault.clone());
            }
            Reference.forward(problem)
        },
    }
}

#[test]
fn a_fault_of_the_warmup_call_is_said_to_be_one() {
    let spec = CaseSpec {
        warmup: Some(Warmup::OtherValues),
        ..CaseSpec::from_seed(3, &Selection::default())
    };
    let verdict = judge_spec(&mut fails_first(Fault::refused("T is odd")), &spec).unwrap();
    let text = "in the warm-up call before the case: refused: T is odd";
    assert!(
        matches!(&verdict, Verdict::Fault(fault) if fault.to_string() == text),
        "{verdict:?}"
    );
    // It is of one kind with the same fault of a case.
    assert_eq!(
        (verdict.kind(), verdict.likeness()),
        ("refused", "refused: T is odd".to_owned())
    );
    // What is declined there leaves the case as it is.
    let verdict = judge_spec(&mut fails_first(Fault::declined("T is odd")), &spec).unwrap();
    assert!(matches!(verdict, Verdict::Agree { .. }), "{verdict:?}");
    let alone = CaseSpec { warmup: None, ..spec };
    let verdict = judge_spec(&mut fails_first(Fault::declined("T is odd")), &alone).unwrap();
    assert_eq!(verdict, Verdict::Declined("T is odd".to_owned()));
    assert!(!verdict.is_failure());
}

/// The reference, but every value of an output that `is_wrong` chooses is 1 more.
fn wrong_where(
    mut is_wrong: impl FnMut(&AnyProblem) -> bool,
) -> Kernel<impl FnMut(&AnyProblem) -> Result<Outcome, Fault>> {
    Kernel {
        domain: Domain::of(Precision::FP32),
        forward: move |problem: &AnyProblem| {
            let mut outcome = Reference.forward(problem)?;
            if let (true, Tensor::F32(output)) = (is_wrong(problem), &mut outcome.output) {
                output.mapv_inplace(|value| value + 1.0);
            }
            Ok(outcome)
        },
    }
}

fn gentle(warmup: Warmup) -> CaseSpec {
    let selection = Selection::default().with_profiles([
        Profile::Size(SizeProfile::Tiny),
        Profile::Values(ValueProfile::Gentle),
        Profile::Warmup(warmup),
    ]);
    let cases = (0..).map(|seed| CaseSpec::from_seed(seed, &selection));
    let plain = |spec: &CaseSpec| spec.element == ElementType::F32 && spec.special.is_none() && spec.order.is_none();
    cases.into_iter().find(plain).unwrap()
}

#[test]
fn every_call_before_a_case_is_judged() {
    for (warmup, calls) in [
        (Warmup::Same, 1),
        (Warmup::OtherValues, 1),
        (Warmup::ThreeOthers, 3),
        (Warmup::Larger, 1),
    ] {
        let spec = gentle(warmup);
        for wrong in 1..=calls {
            let mut call = 0;
            let mut kernel = wrong_where(|_| {
                call += 1;
                call == wrong
            });
            let Some(Verdict::Disagree(mismatch)) = judge_spec(&mut kernel, &spec) else {
                panic!("{warmup}, call {wrong}: expected a wrong result");
            };
            let Mismatch::InWarmup { call, .. } = *mismatch else {
                panic!("{warmup}, call {wrong}: expected a call before the case, found {mismatch}");
            };
            assert_eq!((call.number, call.of), (wrong, calls), "{warmup}");
        }
    }
}

/// A file may have sizes that are never drawn.
#[test]
fn sizes_of_zero_are_judged_like_others() {
    type Change = fn(&mut CaseSpec);
    let changes: [Change; 5] = [
        |spec| spec.sequence = 0,
        |spec| spec.hidden = 0,
        |spec| spec.intermediate = 0,
        |spec| spec.capacity = 0,
        |spec| (spec.hidden, spec.intermediate) = (0, 0),
    ];
    let mut plan = plan(0);
    for &warmup in Warmup::ALL {
        for change in changes {
            let mut spec = gentle(warmup);
            change(&mut spec);
            plan.specs.push(("zero".to_owned(), spec));
        }
    }
    let mut kernel = wrong_where(|_| false);
    kernel.domain.deterministic = Some(true);
    kernel.domain.batch_invariant = Some(true);
    let summary = check_engine(&mut kernel, &plan);
    summary.assert_agrees();
    assert_eq!(summary.engines[0].agree, plan.specs.len(), "{summary}");
}

/// A captured graph that keeps the pointers of the first calls.
#[test]
fn a_kernel_that_is_wrong_from_the_third_call_of_a_shape_on_is_caught() {
    let mut calls = BTreeMap::new();
    let mut kernel = wrong_where(move |problem: &AnyProblem| {
        let dims = problem.dims();
        let shape = (dims.tokens, dims.hidden, dims.intermediate, dims.experts, dims.top_k);
        let count = calls.entry(shape).or_insert(0);
        *count += 1;
        *count > 2 && dims.tokens > 0
    });
    let summary = check_engine(&mut kernel, &plan(300));
    assert!(summary.engines[0].disagree > 2, "{summary}");
}

/// A call before that is wrong by itself becomes a case without calls before it.
#[test]
fn what_is_wrong_in_a_call_before_is_shrunk_to_that_call() {
    let wrong_where_long = |problem: &AnyProblem| problem.dims().tokens > 20;
    let mut plan = plan(60);
    plan.shrink_budget = 200;
    plan.selection = Selection::default().with_profiles([
        Profile::Size(SizeProfile::Tiny),
        Profile::Values(ValueProfile::Gentle),
        Profile::Warmup(Warmup::Larger),
    ]);
    plan.selection.domain.tokens = Sizes::within(12, 60);
    let mut kernel = wrong_where(wrong_where_long);
    let summary = check_engine(&mut kernel, &plan);
    let shrunk = summary.failures[0].shrunk.as_ref().unwrap();
    assert_eq!((shrunk.spec.warmup, shrunk.spec.tokens()), (None, 21), "{summary}");
}

/// A kernel whose domain is `declared`, and that does something else outside.
fn beyond(declared: &str, outside: impl Fn(&AnyProblem) -> Result<Outcome, Fault>) -> (Summary, Summary) {
    let declared = domain(declared);
    let mut kernel = Kernel {
        domain: declared.clone(),
        forward: |problem: &AnyProblem| {
            let admitted = declared.admits_problem(problem);
            if admitted.is_ok() {
                Reference.forward(problem)
            } else {
                outside(problem)
            }
        },
    };
    let mut run = |is_strict| {
        let plan = CheckPlan {
            outside: 120,
            is_strict,
            ..plan(40)
        };
        check_engine(&mut kernel, &plan)
    };
    (run(false), run(true))
}

const DECLARED: &str = "
    tokens = { min = 1, max = 300 }
    hidden = { multiple_of = 8 }
    intermediate = { equals = 'hidden' }
    experts = { max = 64 }
    top_k = { power_of_two = true, max = 8 }
    capacity = { max = 4000 }
    drops = false
    duplicates = false
    alpha = [1.702]
    limit = [7.0]
    finite = true
    tie_order = 'stable'
";

#[test]
fn every_limit_is_overstepped() {
    let (summary, strict) = beyond(DECLARED, |_| Err(Fault::declined("not mine")));
    let limits: Vec<&str> = summary.beyond.iter().map(|beyond| beyond.limit.as_str()).collect();
    for limit in domain(DECLARED).limits() {
        // A K that is no power of two and one above 8 need other numbers of experts, which the domain has.
        assert!(limits.contains(&limit.to_string().as_str()), "{limit} in {limits:?}");
    }
    assert!(
        summary
            .beyond
            .iter()
            .all(|beyond| (beyond.wrong, beyond.unanswered) == (0, 0))
    );
    assert!(summary.agrees() && strict.agrees());
    assert_eq!(summary.engines[0].agree, 40);
}

#[test]
fn what_is_wrong_beyond_a_domain_fails_where_that_is_asked() {
    let zeros = |problem: &AnyProblem| {
        let mut outcome = Reference.forward(problem)?;
        let zeros = ndarray::ArrayD::zeros(problem.output_shape());
        outcome.output = binned_experts_check::Tensor::from_f64(zeros, problem.element());
        outcome.stages = Stages::default();
        Ok(outcome)
    };
    let (summary, strict) = beyond("hidden = { multiple_of = 8 }\ntie_order = 'stable'", zeros);
    let of = |limit: &str| summary.beyond.iter().find(|beyond| beyond.limit == limit).unwrap();
    assert!(of("hidden.multiple_of").wrong > 10, "{:?}", summary.beyond);
    assert!(of("hidden.multiple_of").first.is_some());
    assert!(summary.agrees() && !strict.agrees() && strict.has_failures());
    // One that is right there has a narrower domain than it could have.
    let (summary, strict) = beyond("hidden = { multiple_of = 8 }\ntie_order = 'stable'", |problem| {
        Reference.forward(problem)
    });
    assert!(summary.beyond.iter().all(|beyond| beyond.right > 0 && !beyond.is_bad()));
    assert!(strict.agrees());
}

#[test]
fn few_shapes_take_turns() {
    let run = |shapes: Shapes| {
        let mut seen = Vec::new();
        let plan = CheckPlan { shapes, ..plan(60) };
        let mut kernel = inside_only(domain("hidden = { multiple_of = 4 }\ntop_k = { max = 4 }"));
        let summary = check(
            &mut [Contender::single(&mut kernel)],
            &plan,
            &mut |result: &CaseResult| {
                seen.extend(result.spec.clone());
                ControlFlow::Continue(())
            },
        );
        summary.unwrap().assert_agrees();
        seen
    };
    let shape = |spec: &CaseSpec| (spec.hidden, spec.intermediate, spec.experts, spec.top_k);
    let specs = run(Shapes::Drawn(3));
    assert_eq!(specs.iter().map(shape).collect::<BTreeSet<_>>().len(), 3);
    assert!(specs.iter().map(CaseSpec::tokens).collect::<BTreeSet<_>>().len() > 10);
    assert!(
        specs
            .iter()
            .map(|spec| spec.routing.to_owned())
            .fold(Vec::new(), with)
            .len()
            > 5
    );
    let given = [
        "hidden = { one_of = [8] }",
        "hidden = { one_of = [12] }\ntop_k = { one_of = [3] }",
    ]
    .map(domain);
    let specs = run(Shapes::Given(given.to_vec()));
    for (number, spec) in specs.iter().enumerate() {
        assert_eq!(given[number % 2].admits(spec), Ok(()));
    }
}

/// The list with one more entry, unless that is in it.
fn with<T: PartialEq>(mut list: Vec<T>, entry: T) -> Vec<T> {
    if !list.contains(&entry) {
        list.push(entry);
    }
    list
}
