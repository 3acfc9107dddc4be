//! Sums over a run: honest engines add up to nothing, and small systematic faults are found and named.

use std::ops::ControlFlow;

use binned_experts_check::case::ValueProfile;
use binned_experts_check::check::{CaseResult, Contender, EngineTotals, check};
use binned_experts_check::engine::{DefinitionEngine, Engine, Reference};
use binned_experts_check::oracle::Rounding;
use binned_experts_check::oracle::sums::{Direction, Estimate, LEAST_CASES, Sums};
use binned_experts_check::report::{self, Merged};
use binned_experts_check::{
    AnyProblem, CheckPlan, Domain, ElementType, Fault, Outcome, Precision, Selection, Summary, Tensor, Verdict,
};
use ndarray::ArrayD;
use rayon::prelude::*;

use crate::arithmetic::{Arithmetic, cut_to_bits};
use crate::common::{bf16, round_to_bits};

const SMALL: &str = "tokens = { max = 24 }\nhidden = { max = 32 }\nintermediate = { max = 32 }\nexperts = { max = 8 }\n\
                     top_k = { max = 4 }\nfinite = true\n";

/// Small cases of one element type, so that a test takes seconds.
fn small(element: ElementType, cases: usize) -> CheckPlan {
    all(element, cases, SMALL.parse().unwrap())
}

fn all(element: ElementType, cases: usize, domain: Domain) -> CheckPlan {
    CheckPlan {
        cases,
        selection: Selection {
            elements: vec![element],
            domain,
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}

fn run(engines: &mut [&mut dyn Engine], plan: &CheckPlan) -> Summary {
    let mut contenders: Vec<Contender<'_>> = engines
        .iter_mut()
        .map(|engine| Contender::single(&mut **engine))
        .collect();
    check(&mut contenders, plan, &mut |_: &CaseResult| ControlFlow::Continue(())).unwrap()
}

/// Some of the honest kernels, the reference and the definition, over the same cases.
fn honest(which: impl Fn(&Arithmetic) -> bool, plan: &CheckPlan) -> Summary {
    let mut kernels = Arithmetic::honest();
    kernels.retain(which);
    let (mut reference, mut definition) = (Reference, DefinitionEngine);
    let mut engines: Vec<&mut dyn Engine> = vec![&mut reference, &mut definition];
    engines.extend(kernels.iter_mut().map(|kernel| kernel as &mut dyn Engine));
    run(&mut engines, plan)
}

fn estimate(totals: &EngineTotals, direction: Direction) -> Estimate {
    let estimates = totals.sums[0].estimates();
    *estimates
        .iter()
        .find(|estimate| estimate.direction == direction)
        .unwrap()
}

const ELEMENTS: [ElementType; 3] = [ElementType::F32, ElementType::Bf16, ElementType::F16];

#[test]
fn honest_engines_are_not_biased() {
    for element in ELEMENTS {
        let summary = honest(|kernel| kernel.element == element, &small(element, 300));
        summary.assert_agrees();
        for totals in &summary.engines {
            let sums = &totals.sums[0];
            assert!(sums.cases > 150, "{}: {} cases", totals.name, sums.cases);
            // Those of tf32 and of tensor cores may lie far from 0 as well.
            let worst = sums.estimates()[0];
            assert!(worst.deviations < 5.0, "{}, {}: {worst:?}", totals.name, sums.precision);
        }
    }
}

/// Small faults, the direction that tells of each, and how much of it there is.
fn wrong() -> Vec<(Arithmetic, Direction, f64)> {
    let (bf16_kernel, f16_kernel, fp32) = (Arithmetic::BF16, Arithmetic::F16, Arithmetic::FP32);
    let alpha = |name, base: Arithmetic, alpha: f64| {
        let factor = alpha / 1.702;
        let wrong = Arithmetic {
            name,
            alpha: factor,
            ..base
        };
        (wrong, Direction::Alpha, factor - 1.0)
    };
    let limit = |name, limit: f64| {
        let factor = limit / 7.0;
        let wrong = Arithmetic {
            name,
            limit: factor,
            ..bf16_kernel
        };
        (wrong, Direction::Limit, factor - 1.0)
    };
    let sigmoid = Arithmetic {
        name: "sigmoid 1 % too large",
        sigmoid: |sigmoid| 1.01 * sigmoid,
        ..bf16_kernel
    };
    let cut_output = Arithmetic {
        name: "output cut",
        output: |value| cut_to_bits(value, 8),
        ..bf16_kernel
    };
    let cut_activation = Arithmetic {
        name: "activation cut",
        activation: |value| cut_to_bits(value, 8),
        ..bf16_kernel
    };
    let short = Arithmetic {
        name: "activation two bits short",
        activation: |value| round_to_bits(value, 6),
        ..bf16_kernel
    };
    let short_per_operation = Arithmetic {
        name: "activation two bits short, each operation stored",
        store: bf16,
        ..short
    };
    let twenty_bits = Arithmetic {
        name: "activation of 20 bits",
        activation: |value| round_to_bits(value, 20),
        ..fp32
    };
    let sigmoid_in_tf32 = Arithmetic {
        name: "sigmoid 0.1 % too large",
        sigmoid: |sigmoid| 1.001 * sigmoid,
        ..Arithmetic::TF32
    };
    vec![
        alpha("alpha 1.69", bf16_kernel, 1.69),
        alpha("alpha 1.7", bf16_kernel, 1.7),
        limit("limit 6.95", 6.95),
        limit("limit 6.99", 6.99),
        (sigmoid, Direction::Sigmoid, 0.01),
        (cut_output, Direction::OutputCut, 1.0),
        (cut_activation, Direction::ActivationCut, 1.0),
        (short, Direction::ActivationShort, 0.5),
        (short_per_operation, Direction::ActivationShort, 0.6),
        alpha("alpha 1.7", f16_kernel, 1.7),
        alpha("alpha 1.702001", fp32, 1.702_001),
        (twenty_bits, Direction::ActivationShort, 0.8),
        (sigmoid_in_tf32, Direction::Sigmoid, 0.001),
    ]
}

fn assert_found(summary: &Summary, engine: usize, direction: Direction, right: f64) {
    let totals = &summary.engines[engine];
    let found = estimate(totals, direction);
    let text = report::totals(summary);
    assert!(found.is_biased && totals.is_biased(), "{found:?}\n{text}");
    assert!(
        report::biased(summary, totals).is_some_and(|biased| text.contains(&biased)),
        "{text}"
    );
    // What is stored in a few bits lies on one side of a limit or the other.
    assert!((0.5..1.6).contains(&(found.found / right)), "{right}: {found:?}");
    assert!(summary.has_failures() && !summary.agrees(), "{text}");
    assert!(text.lines().last().unwrap().contains("BIASED: "), "{text}");
}

#[test]
fn small_systematic_faults_are_found_and_named() {
    for element in ELEMENTS {
        // Limits matter only where gates are clamped, which is in few of the cases.
        let (summary, faults) = faulty(element, &small(element, 1000));
        for (engine, (direction, right)) in faults.into_iter().enumerate() {
            assert_found(&summary, engine, direction, right);
        }
    }
}

/// The kernels of an element type that are wrong over the same cases, and what is to be found of each.
fn faulty(element: ElementType, plan: &CheckPlan) -> (Summary, Vec<(Direction, f64)>) {
    let mut faults = wrong();
    faults.retain(|(kernel, ..)| kernel.element == element);
    let kernels = faults.iter_mut().map(|(kernel, ..)| kernel as &mut dyn Engine);
    let summary = run(&mut kernels.collect::<Vec<_>>(), plan);
    let found = faults.into_iter().map(|(_, direction, right)| (direction, right));
    (summary, found.collect())
}

#[test]
fn a_fixed_alpha_is_estimated_all_the_same() {
    let mut plan = small(ElementType::Bf16, 600);
    plan.selection.domain.alpha = Some(vec![1.702]);
    let mut kernel = Arithmetic {
        alpha: 1.69 / 1.702,
        ..Arithmetic::BF16
    };
    let summary = run(&mut [&mut kernel], &plan);
    assert_found(&summary, 0, Direction::Alpha, 1.69 / 1.702 - 1.0);
    let text = report::totals(&summary);
    let line = text.lines().find(|line| line.starts_with("  alpha 1.6")).unwrap();
    assert!(line.contains(" where 1.702 is right, BIASED by "), "{line}");
}

#[test]
fn few_cases_say_nothing() {
    let mut kernel = Arithmetic {
        sigmoid: |sigmoid| 1.01 * sigmoid,
        ..Arithmetic::BF16
    };
    let summary = run(&mut [&mut kernel], &small(ElementType::Bf16, LEAST_CASES - 1));
    assert!(summary.agrees() && summary.engines[0].sums[0].estimates().is_empty());
}

#[test]
fn cases_that_disagree_add_nothing() {
    let mut kernel = Arithmetic {
        sigmoid: |sigmoid| 2.0 * sigmoid,
        ..Arithmetic::FP32
    };
    let summary = run(&mut [&mut kernel], &small(ElementType::F32, 100));
    let totals = &summary.engines[0];
    assert!(totals.disagree > 50, "{}", totals.disagree);
    assert!(totals.sums.iter().all(|sums| sums.cases <= totals.agree));
}

/// A profile whose roundings are alike in all cases shows here, where a run of all profiles hides it among others.
#[test]
fn no_value_profile_alone_makes_the_reference_biased() {
    ValueProfile::ALL.into_par_iter().for_each(|profile| {
        for element in [ElementType::Bf16, ElementType::F16] {
            let mut plan = small(element, 200);
            plan.selection.values = vec![*profile];
            let summary = run(&mut [&mut Reference], &plan);
            assert!(summary.agrees(), "{profile}: {summary}");
        }
    });
}

/// The gates of all cases are near one power of two: what an honest kernel rounds there, it rounds alike in every case.
#[test]
fn cases_of_few_significands_add_nothing() {
    let mut plan = small(ElementType::Bf16, 100);
    plan.selection.values = vec![ValueProfile::HugeGates];
    let summary = run(&mut [&mut Reference], &plan);
    assert!(summary.agrees() && summary.engines[0].sums.iter().all(|sums| sums.cases == 0));
}

/// Without a sigmoid a bound allows for fewer roundings, so that honest errors are a larger share of it.
#[test]
fn an_honest_engine_without_a_sigmoid_is_not_biased() {
    let mut plan = small(ElementType::Bf16, 150);
    plan.selection.domain = format!("{SMALL}layers = [{{ activation = 'relu-squared' }}]")
        .parse()
        .unwrap();
    plan.selection.values = vec![ValueProfile::LowGates];
    let summary = run(&mut [&mut Reference], &plan);
    let sums = &summary.engines[0].sums[0];
    assert!(sums.cases >= LEAST_CASES && !summary.has_failures(), "{summary}");
    // In units of its bounds it is above what an engine of gpt-oss's layer may show.
    assert!(sums.share() * 0.35 / 0.08 > sums.honest_share(), "{}", sums.share());
}

#[test]
fn shares_add_up_to_the_whole() {
    let plan = small(ElementType::Bf16, 600);
    let shares = ["1/2", "2/2"].map(|shard| CheckPlan {
        shard: shard.parse().unwrap(),
        ..plan.clone()
    });
    let mut kernel = Arithmetic {
        sigmoid: |sigmoid| 1.01 * sigmoid,
        ..Arithmetic::BF16
    };
    let mut merged = Merged::default();
    for share in &shares {
        let summary = run(&mut [&mut kernel], share);
        merged.add(&report::totals_json(&summary)).unwrap();
    }
    let whole = run(&mut [&mut kernel], &plan);
    let (one, other) = (&merged.summary().engines[0].sums[0], &whole.engines[0].sums[0]);
    assert_eq!((one.cases, one.elements), (other.cases, other.elements));
    for (one, other) in one.estimates().iter().zip(other.estimates()) {
        assert_eq!(one.direction, other.direction);
        let near = |one: f64, other: f64| (one - other).abs() <= 1e-9 * other.abs();
        assert!(
            near(one.found, other.found) && near(one.error, other.error),
            "{one:?} {other:?}"
        );
    }
    assert!(merged.summary().has_failures());
    assert_eq!(report::conclusion(merged.summary()), report::conclusion(&whole));
}

/// Cases of a layer whose H and I are multiples of 8, as many kernels for 16 bits ask.
fn in_eights(layer: &str, element: ElementType) -> CheckPlan {
    let domain = format!(
        "layers = [{layer}]\ntokens = {{ max = 24 }}\nhidden = {{ multiple_of = 8, max = 64 }}\n\
         intermediate = {{ multiple_of = 8, max = 64 }}\nexperts = {{ max = 8 }}\ntop_k = {{ max = 4 }}\nfinite = true"
    );
    all(element, 600, domain.parse().unwrap())
}

/// With another activation than that of gpt-oss, 16-bit results that are stored after each operation are not rounded
/// evenly.
#[test]
fn the_reference_is_not_biased_on_other_layers() {
    let layers = [
        "'mixtral'",
        "'nemotron-h'",
        "{ activation = 'gelu-tanh' }",
        "{ activation = 'clamped-silu' }",
    ];
    let runs = layers
        .iter()
        .flat_map(|layer| [(layer, ElementType::Bf16), (layer, ElementType::F16)]);
    Vec::from_iter(runs).into_par_iter().for_each(|(layer, element)| {
        let summary = run(&mut [&mut Reference], &in_eights(layer, element));
        assert!(summary.agrees(), "{layer}: {summary}");
    });
}

/// Rows that are a hundredth too large are found there too.
#[test]
fn a_factor_on_the_rows_of_another_layer_is_found() {
    struct TooLarge;
    impl Engine for TooLarge {
        fn name(&self) -> &str {
            "too large"
        }

        fn domain(&self) -> Domain {
            Reference.domain()
        }

        fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
            let outcome = Reference.forward(problem)?;
            let larger = outcome.output.to_f64().iter().map(|value| 1.01 * value).collect();
            let larger = ArrayD::from_shape_vec(problem.output_shape(), larger).unwrap();
            Ok(Outcome::output(Tensor::from_f64(larger, problem.element())))
        }
    }
    for element in [ElementType::Bf16, ElementType::F16] {
        let summary = run(&mut [&mut TooLarge], &in_eights("'mixtral'", element));
        let found = estimate(&summary.engines[0], Direction::Weights);
        assert!(found.is_biased, "{summary}");
    }
}

/// Of the cases of one element type, so that every core has one.
const SHARES: usize = 64;

/// What kernels take: anything, or sizes of theirs. What honest engines lean to depends on it.
const DOMAINS: [&str; 3] = [
    "",
    "tokens = { max = 32 }\nhidden = { multiple_of = 8, max = 128 }\nintermediate = { multiple_of = 8, max = 128 }\n\
     drops = false",
    "tokens = { max = 32 }\nhidden = { multiple_of = 32, max = 256 }\nintermediate = { multiple_of = 32, max = 256 }\n\
     duplicates = false\nfinite = true",
];

/// Prints what the table of honest engines is made of, and holds that none of them is refused in 5,000 cases of any domain:
/// `cargo test -p binned-experts-check --test suite sums::honest_engines_of -- --ignored --nocapture`.
fn honest_engines_agree(precision: Precision, element: ElementType) {
    let is_one = |kernel: &Arithmetic| (kernel.precision, kernel.element) == (precision, element);
    for domain in DOMAINS {
        let share = |share: usize| {
            let plan = CheckPlan {
                shard: format!("{share}/{SHARES}").parse().unwrap(),
                ..all(element, 5000, domain.parse().unwrap())
            };
            report::totals_json(&honest(is_one, &plan))
        };
        let shares: Vec<_> = (1..=SHARES).into_par_iter().map(share).collect();
        let mut merged = Merged::default();
        for share in &shares {
            merged.add(share).unwrap();
        }
        println!("{domain}\n{}", report::totals(merged.summary()));
        let engines = &merged.summary().engines;
        for totals in engines {
            print(&totals.name, &totals.sums[0]);
        }
        let used = engines.iter().map(|totals| totals.used).fold(0.0, f64::max);
        let estimates = engines.iter().map(|totals| totals.sums[0].estimates()[0].deviations);
        let deviations = estimates.fold(0.0, f64::max);
        println!("{precision} on {element}: at most {used:.3} of a bound, {deviations:.1} standard errors\n");
        assert!(!merged.summary().has_failures());
    }
}

#[test]
#[ignore = "takes a quarter of an hour on two cores"]
fn honest_engines_of_fp32_agree() {
    honest_engines_agree(Precision::FP32, ElementType::F32);
}

#[test]
#[ignore = "takes a quarter of an hour on two cores"]
fn honest_engines_of_tf32_agree() {
    honest_engines_agree(Precision::TF32, ElementType::F32);
}

#[test]
#[ignore = "takes a quarter of an hour on two cores"]
fn honest_engines_of_bf16_on_f32_agree() {
    honest_engines_agree(Precision::BF16, ElementType::F32);
}

#[test]
#[ignore = "takes a quarter of an hour on two cores"]
fn honest_engines_of_bf16_agree() {
    honest_engines_agree(Precision::BF16, ElementType::Bf16);
}

#[test]
#[ignore = "takes a quarter of an hour on two cores"]
fn honest_engines_of_f16_agree() {
    honest_engines_agree(Precision::F16, ElementType::F16);
}

/// A default run finds every fault of the tests above. Prints by what: the first case of exact values that disagrees, the
/// first of others, and the sums, as docs/runs.md has it.
#[test]
#[ignore = "takes minutes, and prints"]
fn a_default_run_finds_every_fault() {
    let mut missed = Vec::new();
    for element in ELEMENTS {
        let mut kernels: Vec<Arithmetic> = wrong().into_iter().map(|(kernel, ..)| kernel).collect();
        kernels.retain(|kernel| kernel.element == element);
        let (mut first_exact, mut first_other) = (vec![None; kernels.len()], vec![None; kernels.len()]);
        let mut watch = |result: &CaseResult| {
            if let (Verdict::Disagree(_), Some(spec)) = (&result.verdict, &result.spec) {
                let is_exact = spec.values == ValueProfile::Exact;
                let first = if is_exact { &mut first_exact } else { &mut first_other };
                first[result.engine].get_or_insert_with(|| result.case.clone());
            }
            ControlFlow::Continue(())
        };
        let plan = CheckPlan {
            shrink_budget: 0,
            ..all(element, 1000, Domain::default())
        };
        let contenders = kernels.iter_mut().map(|kernel| Contender::single(kernel));
        let summary = check(&mut contenders.collect::<Vec<_>>(), &plan, &mut watch).unwrap();
        for (engine, totals) in summary.engines.iter().enumerate() {
            let at = |first: &Option<String>| first.clone().unwrap_or_else(|| "none".to_owned());
            let (exact, other) = (at(&first_exact[engine]), at(&first_other[engine]));
            let name = format!("{} in {}", totals.name, totals.precisions[0]);
            println!(
                "{name}: {} cases disagree; exact values: {exact}, others: {other}",
                totals.disagree
            );
            totals.sums.iter().for_each(|sums| print(&totals.name, sums));
            if totals.disagree == 0 && !totals.is_biased() {
                missed.push(name);
            }
        }
    }
    assert_eq!(missed, Vec::<String>::new());
}

fn print(name: &str, sums: &Sums) {
    let rounding = match sums.precision {
        Precision::BF16 => Rounding::BF16,
        Precision::FP32 => Rounding::F32,
        _ => Rounding::TF32,
    };
    println!(
        "{name}, {}: {} cases, root mean square {:.4}",
        sums.precision,
        sums.cases,
        sums.share()
    );
    for estimate in sums.estimates() {
        let Estimate {
            direction,
            found,
            deviations,
            ..
        } = estimate;
        let sum = &sums.along[direction as usize];
        let spread = (sum.squares / sum.denominator).sqrt();
        let scale = if direction.is_factor() { rounding.unit } else { 1.0 };
        let found = found / scale;
        println!("  {direction:<16} {found:+8.3} spread {spread:.3} {deviations:6.1} standard errors");
    }
}
