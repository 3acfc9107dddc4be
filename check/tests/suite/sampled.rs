//! Large cases, of which some tokens are judged by the definition. All of these are small.

use std::ops::ControlFlow;

use binned_experts_check::case::Model;
use binned_experts_check::check::{CaseResult, Contender};
use binned_experts_check::engine::{Engine, Fault, Outcome, Reference};
use binned_experts_check::judge::{Judgement, Sampled, Trial, judge};
use binned_experts_check::{
    AnyProblem, CaseSpec, CheckPlan, Domain, Precision, Selection, SpecError, Stage, StageValues, Summary, Tensor,
    Verdict, check, check_engine,
};
use binned_experts_reference::{ExpertWeights, Problem, binned_experts_ref};
use ndarray::Array3;

/// More tokens than a sample, and experts with few and with many rows.
fn large(change: impl FnOnce(&mut CaseSpec)) -> CaseSpec {
    let mut spec: CaseSpec =
        "element = 'f32'\nbatch = 2\nsequence = 700\nhidden = 24\nintermediate = 16\nexperts = 6\n\
        top_k = 2\ncapacity = 500\nalpha = 1.702\nlimit = 7.0\nseed = 3\nrouting = 'zipf'\nvalues = 'gentle'\n\
        weights = 'normalised'\nsampled = true"
            .parse()
            .unwrap();
    change(&mut spec);
    spec
}

/// The reference with something changed.
struct Changed<F>(F);

impl<F: FnMut(&Problem<f32>, Outcome) -> Outcome> Engine for Changed<F> {
    fn name(&self) -> &str {
        "changed"
    }

    fn domain(&self) -> Domain {
        Domain::of(Precision::FP32)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let AnyProblem::F32(typed) = problem else {
            return Err(Fault::refused("f32 only"));
        };
        Ok(self.0(typed, Reference.forward(problem)?))
    }
}

fn judged(spec: &CaseSpec, change: impl FnMut(&Problem<f32>, Outcome) -> Outcome) -> Judgement {
    let trial = Trial::from_spec(spec, &[Precision::FP32]).unwrap();
    assert!(trial.is_sampled());
    judge(&mut Changed(change), &trial)
}

/// Its tensors are not kept for a call at the end of the run.
#[test]
fn a_large_case_is_one_call() {
    let mut calls = 0;
    let mut engine = Changed(|_: &Problem<f32>, outcome| {
        calls += 1;
        outcome
    });
    let plan = CheckPlan {
        cases: 0,
        specs: vec![("large".to_owned(), large(|_| {}))],
        ..CheckPlan::default()
    };
    check_engine(&mut engine, &plan).assert_agrees();
    assert_eq!(calls, 1);
}

/// The reference's output with one element changed.
fn with_element(outcome: Outcome, token: usize, column: usize, change: impl Fn(f32) -> f32) -> Outcome {
    let Tensor::F32(mut output) = outcome.output else {
        panic!("the case is of f32")
    };
    let hidden = output.shape()[2];
    let value = output.as_slice_mut().unwrap();
    value[token * hidden + column] = change(value[token * hidden + column]);
    Outcome::output(output.into_dimensionality::<ndarray::Ix3>().unwrap())
}

/// Token and stage of a wrong value.
fn wrong(judgement: &Judgement) -> Option<(Stage, Option<usize>)> {
    use binned_experts_check::judge::Mismatch;
    match &judgement.verdict {
        Verdict::Disagree(mismatch) => match &**mismatch {
            Mismatch::Values { stage, at, .. } => Some((*stage, at.token)),
            other => panic!("{other}"),
        },
        Verdict::Agree { .. } => None,
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn a_sampled_case_is_the_same_problem() {
    let mut built = 0;
    for seed in 0..300 {
        let whole = CaseSpec {
            special: None,
            against: None,
            warmup: None,
            larger: None,
            ..CaseSpec::from_seed(seed, &Selection::default())
        };
        let sampled = CaseSpec {
            sampled: true,
            ..whole.clone()
        };
        assert_eq!(sampled.to_string().parse::<CaseSpec>().unwrap(), sampled);
        assert_eq!(sampled.build().unwrap(), whole.build().unwrap(), "{sampled}");
        built += usize::from(whole.tokens() > 0);
    }
    assert!(built > 250);
    // A layer without biases carries them in a feature.
    for model in Model::ALL {
        let whole = large(|spec| {
            (spec.layer, spec.sampled) = (model.layer, false);
            spec.values = "low-gates".parse().unwrap();
        });
        let sampled = CaseSpec {
            sampled: true,
            ..whole.clone()
        };
        assert_eq!(sampled.to_string().parse::<CaseSpec>().unwrap(), sampled);
        assert_eq!(sampled.build().unwrap(), whole.build().unwrap());
    }
}

#[test]
fn honest_results_agree_on_a_part_of_the_tokens() {
    let agree = |spec: &CaseSpec| {
        let trial = Trial::from_spec(spec, &[Precision::of(spec.element)]).unwrap();
        let judgement = judge(&mut Reference, &trial);
        assert!(
            matches!(judgement.verdict, Verdict::Agree { .. }),
            "{:?}\n{spec}",
            judgement.verdict
        );
        judgement.sampled.unwrap()
    };
    let Sampled { judged, tokens } = agree(&large(|_| {}));
    assert!(tokens == 1400 && (20..200).contains(&judged), "{judged} of {tokens}");
    for seed in 0..200 {
        let spec = CaseSpec {
            special: None,
            against: None,
            warmup: None,
            larger: None,
            sampled: true,
            ..CaseSpec::from_seed(seed, &Selection::default())
        };
        assert_eq!(agree(&spec).tokens, spec.tokens());
    }
}

/// Whichever token it is, and whether a bound of it is passed by far or hardly.
#[test]
fn one_wrong_element_of_any_token_is_found() {
    let changes: [fn(f32) -> f32; 4] = [
        |value| value + 1e-4,
        |_| f32::NAN,
        |_| f32::INFINITY,
        |value| -value - 0.01,
    ];
    for (at, change) in (0..20).flat_map(|at| changes.map(|change| (at, change))) {
        let token = (at * 397 + 41) % 1400;
        let judgement = judged(&large(|_| {}), |_, outcome| {
            with_element(outcome, token, at % 24, change)
        });
        assert_eq!(wrong(&judgement), Some((Stage::Output, Some(token))), "{}", change(1.0));
    }
}

#[test]
fn a_token_that_is_wholly_dropped_must_be_zero() {
    let spec = large(|spec| spec.capacity = 3);
    let mut token = None;
    let judgement = judged(&spec, |problem, outcome| {
        let kept: Vec<usize> = (0..6)
            .flat_map(|expert| problem.bins().kept(expert, 3).to_vec())
            .collect();
        let dropped = (700..).find(|token| !kept.iter().any(|flat| flat / 2 == *token));
        token = dropped;
        with_element(outcome, dropped.unwrap(), 5, |_| 1e-30)
    });
    assert_eq!(wrong(&judgement), Some((Stage::Output, token)));
}

#[test]
fn what_is_decided_by_the_routing_is_met_by_all_tokens() {
    let swapped = |stage| {
        judged(&large(|_| {}), move |_, mut outcome| {
            if let Some(StageValues::Indices(values)) = outcome.stages.get_mut(stage) {
                let last = values.len() - 1;
                values.swap(last - 1, last);
            }
            outcome
        })
    };
    assert_eq!(wrong(&swapped(Stage::Bins)).unwrap().0, Stage::Bins);
    assert_eq!(wrong(&swapped(Stage::SortedIndices)).unwrap().0, Stage::SortedIndices);
    let short = judged(&large(|_| {}), |_, outcome| Outcome::output(outcome.output_rows(1399)));
    assert_eq!(short.verdict.kind(), "wrong-shape");
}

trait Rows {
    /// The output without its last rows, in one batch.
    fn output_rows(&self, rows: usize) -> Array3<f32>;
}

impl Rows for Outcome {
    fn output_rows(&self, rows: usize) -> Array3<f32> {
        let values = self.output.to_f64().into_iter().map(|value| value as f32);
        Array3::from_shape_vec((1, rows, 24), values.take(rows * 24).collect()).unwrap()
    }
}

#[test]
fn a_stage_is_judged_at_the_ends_of_each_expert() {
    for (stage, expert) in [(Stage::GateUp, 5), (Stage::Activated, 0), (Stage::ExpertOutput, 3)] {
        let mut token = None;
        let judgement = judged(&large(|_| {}), |problem, mut outcome| {
            let kept = |expert| problem.bins().kept(expert, problem.capacity());
            let row = (0..=expert).map(|expert| kept(expert).len()).sum::<usize>() - 1;
            token = kept(expert).last().map(|flat| flat / 2);
            if let Some(StageValues::Rows(rows)) = outcome.stages.get_mut(stage) {
                rows[[row, 7]] += 1.0;
            }
            outcome
        });
        assert_eq!(wrong(&judgement), Some((stage, token)), "{stage}");
    }
}

/// An offset into the weights that wraps around, as one of 32 bits does beyond 2^32 elements: the last experts get the
/// weights of the first.
#[test]
fn an_offset_that_wraps_around_is_found() {
    let wraps = |problem: &Problem<f32>, most: usize| {
        let weights = problem.weights();
        let matrices = weights.gate_up_proj();
        let flat = matrices.as_slice().unwrap();
        let wrapped: Vec<f32> = (0..flat.len()).map(|at| flat[at % most]).collect();
        let weights = ExpertWeights::new(
            Array3::from_shape_vec(matrices.dim(), wrapped).unwrap(),
            weights.gate_up_proj_bias().clone(),
            weights.down_proj().clone(),
            weights.down_proj_bias().clone(),
        );
        problem.clone().with_weights(weights.unwrap()).unwrap()
    };
    // Six experts of 768 elements: beyond the fourth, or the last column of the last alone.
    for most in [4 * 768, 6 * 768 - 1] {
        let judgement = judged(&large(|_| {}), |problem, _| {
            Outcome::output(binned_experts_ref(&wraps(problem, most)).unwrap().output)
        });
        assert!(wrong(&judgement).is_some(), "{most}");
    }
}

#[test]
fn the_same_output_is_judged_at_the_same_tokens() {
    let spec = large(|_| {});
    let run = || judged(&spec, |_, outcome| with_element(outcome, 1001, 3, |value| value + 1.0));
    let (one, other) = (run(), run());
    assert_eq!((one.verdict, one.sampled), (other.verdict, other.sampled));
}

fn run(engine: &mut dyn Engine, plan: &CheckPlan) -> Summary {
    let mut watch = |_: &CaseResult| ControlFlow::Continue(());
    check(&mut [Contender::single(engine)], plan, &mut watch).unwrap()
}

#[test]
fn a_large_case_shrinks_to_a_small_one() {
    let plan = CheckPlan {
        cases: 0,
        specs: vec![("large".to_owned(), large(|_| {}))],
        ..CheckPlan::default()
    };
    let mut engine = Changed(|_: &Problem<f32>, outcome: Outcome| {
        let tokens = outcome.output.shape()[0] * outcome.output.shape()[1];
        if tokens < 3 {
            return outcome;
        }
        with_element(outcome, tokens - 1, 0, |value| value + 1.0)
    });
    let summary = run(&mut engine, &plan);
    let failure = &summary.failures[0];
    let shrunk = failure.shrunk.as_ref().unwrap();
    assert!(!shrunk.spec.sampled && shrunk.spec.tokens() == 3, "{}", shrunk.spec);
    assert!(failure.sampled.is_some_and(|sampled| sampled.tokens == 1400));
    let report = summary.to_string();
    assert!(
        report.contains("of 1400 tokens judged by the definition, all screened"),
        "{report}"
    );
}

/// Where nothing small fails, the case stays as it is.
#[test]
fn what_fails_in_large_cases_alone_is_not_made_smaller() {
    let plan = CheckPlan {
        cases: 0,
        specs: vec![("large".to_owned(), large(|_| {}))],
        ..CheckPlan::default()
    };
    let mut calls = 0;
    let mut engine = Changed(|problem: &Problem<f32>, outcome: Outcome| {
        calls += 1;
        match problem.dims().tokens {
            1400 => with_element(outcome, 1399, 0, |value| value + 1.0),
            _ => outcome,
        }
    });
    let shrunk = run(&mut engine, &plan).failures[0].shrunk.clone().unwrap();
    assert!(shrunk.spec.sampled && shrunk.is_smallest && shrunk.tries > 3);
    assert!(calls < 30, "{calls}");
}

#[test]
fn a_model_has_its_sizes_and_its_layer() {
    for model in Model::ALL {
        let selection = Selection {
            domain: Domain::of_model(&model, 512),
            ..Selection::default()
        };
        assert_eq!(model.name.parse(), Ok(model));
        for seed in 0..20 {
            let spec = CaseSpec::from_seed(seed, &selection);
            let sizes = [spec.tokens(), spec.hidden, spec.intermediate, spec.experts, spec.top_k];
            assert_eq!(
                sizes,
                [512, model.hidden, model.intermediate, model.experts, model.top_k]
            );
            assert_eq!(spec.layer, model.layer);
            assert!(spec.sampled && spec.warmup.is_none() && spec.special.is_none());
        }
    }
    assert!("gpt-5".parse::<Model>().unwrap_err().contains("gpt-oss-20b"));
}

#[test]
fn no_case_is_sampled_that_was_not_asked_to_be_large() {
    for seed in 0..5000 {
        assert!(!CaseSpec::from_seed(seed, &Selection::default()).sampled, "{seed}");
    }
}

#[test]
fn a_sampled_case_has_no_special_value_and_no_call_before() {
    let refused = |text: &str| {
        let spec: CaseSpec = format!("{text}\n{}", large(|_| {})).parse().unwrap();
        spec.build().unwrap_err()
    };
    for (text, what) in [("special = 'nan-in-token'", "special"), ("warmup = 'same'", "warmup")] {
        let error = refused(text);
        assert!(
            matches!(&error, SpecError::Sampled { what: found, .. } if *found == what),
            "{error}"
        );
    }
    let size = |experts| {
        let spec = large(|spec| (spec.hidden, spec.intermediate, spec.experts) = (1 << 20, 1 << 14, experts));
        spec.router_indices().unwrap_err().to_string()
    };
    assert_eq!(
        size(3),
        "gate_up_proj: expected at most 68719476736, found 103079215104"
    );
    // What the sizes alone make impossible is told before a run.
    let domain = "hidden = { one_of = [1048576] }\nintermediate = { one_of = [1048576] }".parse::<Domain>();
    assert!(domain.unwrap_err().to_string().contains("expected at most 68719476736"));
}

/// Cases of every element type in a run have their tokens counted.
#[test]
fn a_run_counts_what_was_sampled() {
    let specs = ["f32", "bf16"].map(|element| {
        (
            element.to_owned(),
            large(|spec| spec.element = element.parse().unwrap()),
        )
    });
    let plan = CheckPlan {
        cases: 0,
        specs: specs.to_vec(),
        ..CheckPlan::default()
    };
    let summary = run(&mut Reference, &plan);
    summary.assert_agrees();
    let totals = &summary.engines[0];
    assert_eq!((totals.sampled_cases, totals.sampled.tokens), (2, 2800));
    assert_eq!(totals.elements, totals.sampled.judged * 24);
}
