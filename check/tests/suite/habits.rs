//! A kernel that does one thing in another way than the preset of its element type says. It is refused under the plain
//! claim, and agrees under the claim with the modifier for it.

use std::ops::ControlFlow;

use binned_experts_check::case::{Place, SizeProfile, Special, SpecialValue, ValueProfile};
use binned_experts_check::check::{CaseResult, Contender, check};
use binned_experts_check::domain::Sizes;
use binned_experts_check::oracle::Modifier;
use binned_experts_check::report::{self, Merged};
use binned_experts_check::{
    AnyProblem, CaseElement, CheckPlan, Domain, ElementType, Engine, Fault, Outcome, Precision, Selection, Summary,
    Verdict, check_engine,
};
use binned_experts_reference::Problem;
use ndarray::{Array3, ArrayView1, Axis, s};
use rayon::prelude::*;

/// What a kernel does in another way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Habit {
    /// Nothing: sums in f32, each result stored as PyTorch stores it.
    None,
    /// Subnormal operands and results of any operation are 0.
    Flush,
    /// The sum over the slots is stored after each of them.
    SlotsInElement,
    /// A product is split along its depth into so many parts, whose sums are stored.
    Parts(usize),
    /// The sums of the products are stored after each term.
    SumsInElement,
    /// tanh(z/2)/2 + 1/2 for the sigmoid.
    TanhSigmoid,
    /// Only the activation is stored before the output.
    Fused,
    /// As fused, but each expert's row is stored before its weight.
    FusedWithRows,
}

/// A kernel in loops whose values are f32, and stored in the element type of the case.
#[derive(Debug, Clone, Copy)]
struct Habitual {
    precision: Precision,
    habit: Habit,
}

/// The arithmetic of a habit in an element type.
#[derive(Clone, Copy)]
struct Arithmetic {
    habit: Habit,
    store: fn(f32) -> f32,
    smallest_normal: f32,
}

impl Arithmetic {
    fn of<T: CaseElement>(habit: Habit) -> Arithmetic {
        Arithmetic {
            habit,
            store: |value| T::from_f64(f64::from(value)).to_f64() as f32,
            smallest_normal: if T::TYPE == ElementType::F16 {
                2f32.powi(-14)
            } else {
                f32::MIN_POSITIVE
            },
        }
    }

    fn is_fused(self) -> bool {
        matches!(self.habit, Habit::Fused | Habit::FusedWithRows)
    }

    /// The result of an operation in f32.
    fn computed(self, value: f32) -> f32 {
        let is_lost = self.habit == Habit::Flush && value.abs() < self.smallest_normal;
        if is_lost { 0.0 } else { value }
    }

    fn stored(self, value: f32) -> f32 {
        self.computed((self.store)(value))
    }

    /// A result that a fused kernel keeps in f32.
    fn between(self, value: f32) -> f32 {
        if self.is_fused() { value } else { self.stored(value) }
    }

    fn sum(self, terms: &[f32]) -> f32 {
        match self.habit {
            Habit::SumsInElement => terms
                .iter()
                .fold(0.0, |sum, term| self.stored(sum + self.stored(*term))),
            Habit::Parts(parts) if !terms.is_empty() => {
                let parts = terms.chunks(terms.len().div_ceil(parts));
                parts.map(|part| self.stored(part.iter().sum())).sum()
            }
            _ => terms.iter().fold(0.0, |sum, term| self.computed(sum + term)),
        }
    }

    fn affine(self, x: &[f32], weights: ArrayView1<f32>, bias: f32) -> f32 {
        let operand = |value: f32| self.computed(value);
        let products = x
            .iter()
            .zip(weights)
            .map(|(x, weight)| self.computed(operand(*x) * operand(*weight)));
        let products: Vec<f32> = products.collect();
        self.between(self.between(self.sum(&products)) + operand(bias))
    }

    fn sigmoid(self, z: f32) -> f32 {
        if self.habit == Habit::TanhSigmoid {
            let half = self.stored(self.stored(z * 0.5).tanh());
            return self.stored(self.stored(half * 0.5) + 0.5);
        }
        self.computed(1.0 / (1.0 + (-z).exp()))
    }

    fn activated(self, gate: f32, up: f32, alpha: f32, limit: f32) -> f32 {
        let gate = if gate > limit { limit } else { gate };
        let up = if up > limit { limit } else { up };
        let up = if up < -limit { -limit } else { up };
        self.stored((up + 1.0) * self.computed(gate * self.sigmoid(alpha * gate)))
    }

    fn slot(self, sum: f32, row: f32, weight: f32) -> f32 {
        let row = if self.habit == Habit::FusedWithRows {
            self.stored(row)
        } else {
            row
        };
        let sum = sum + self.between(row * self.computed(weight));
        if self.habit == Habit::SlotsInElement {
            self.stored(sum)
        } else {
            self.computed(sum)
        }
    }
}

/// A value of up to 32 bits in f32.
fn single<T: CaseElement>(value: &T) -> f32 {
    value.to_f64() as f32
}

impl Habitual {
    fn output<T: CaseElement>(&self, problem: &Problem<T>) -> Array3<T> {
        let arithmetic = Arithmetic::of::<T>(self.habit);
        let dims = problem.dims();
        let (alpha, limit) = (problem.activation().alpha as f32, problem.activation().limit as f32);
        let weights = problem.weights();
        let (first, second) = (weights.gate_up_proj().map(single), weights.down_proj().map(single));
        let (first_bias, second_bias) = (
            weights.gate_up_proj_bias().map(single),
            weights.down_proj_bias().map(single),
        );
        let mut taken = vec![0; dims.experts];
        let mut output = Array3::<f32>::zeros(problem.hidden_states().raw_dim());
        let (_, sequence, _) = problem.hidden_states().dim();
        for ((token, _), &expert) in problem.router_indices().indexed_iter() {
            let expert = expert as usize;
            taken[expert] += 1;
            if taken[expert] > dims.capacity {
                continue;
            }
            let at = (token / sequence, token % sequence);
            let x: Vec<f32> = problem
                .hidden_states()
                .slice(s![at.0, at.1, ..])
                .iter()
                .map(single)
                .collect();
            let affine = |x: &[f32], matrix: &Array3<f32>, bias: ArrayView1<f32>| -> Vec<f32> {
                let matrix = matrix.index_axis(Axis(0), expert);
                let columns = matrix.columns().into_iter().zip(bias);
                columns
                    .map(|(column, bias)| arithmetic.affine(x, column, *bias))
                    .collect()
            };
            let gate_up = affine(&x, &first, first_bias.row(expert));
            let pairs = gate_up.chunks(2);
            let activated: Vec<f32> = pairs
                .map(|pair| arithmetic.activated(pair[0], pair[1], alpha, limit))
                .collect();
            let row = affine(&activated, &second, second_bias.row(expert));
            let weight = single(&problem.routing_weights()[[at.0, at.1, expert]]);
            let sums = output.slice_mut(s![at.0, at.1, ..]);
            for (sum, row) in sums.into_iter().zip(row) {
                *sum = arithmetic.slot(*sum, row, weight);
            }
        }
        output.mapv(|sum| T::from_f64(f64::from(arithmetic.stored(sum))))
    }
}

impl Engine for Habitual {
    fn name(&self) -> &str {
        "habitual"
    }

    fn domain(&self) -> Domain {
        Domain::of(self.precision)
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        Ok(match problem {
            AnyProblem::F32(problem) => Outcome::output(self.output(problem)),
            AnyProblem::F64(_) => return Err(Fault::refused("expected f32, bf16 or f16, found f64")),
            AnyProblem::Bf16(problem) => Outcome::output(self.output(problem)),
            AnyProblem::F16(problem) => Outcome::output(self.output(problem)),
        })
    }
}

/// One run of engines that claim different things of the same arithmetic.
fn run(habit: Habit, claims: &[&str], cases: usize, values: &[ValueProfile]) -> Summary {
    let precision = |claim: &&str| claim.parse::<Precision>().unwrap();
    let mut engines: Vec<Habitual> = claims
        .iter()
        .map(precision)
        .map(|precision| Habitual { precision, habit })
        .collect();
    let plan = CheckPlan {
        cases,
        selection: Selection {
            domain: Domain::of(engines[0].precision),
            values: values.to_vec(),
            sizes: vec![SizeProfile::Tiny, SizeProfile::TileEdges],
            work: 1 << 17,
            ..Selection::default()
        },
        shrink_budget: 0,
        ..CheckPlan::default()
    };
    let mut contenders: Vec<Contender<'_>> = engines.iter_mut().map(|engine| Contender::single(engine)).collect();
    check(&mut contenders, &plan, &mut |_: &CaseResult| ControlFlow::Continue(())).unwrap()
}

#[track_caller]
fn only_with(modifier: Modifier, habit: Habit, preset: &str, cases: usize, values: &[ValueProfile]) {
    let modified = format!("{preset}+{modifier}");
    let summary = run(habit, &[preset, &modified], cases, values);
    let [plain, with] = &summary.engines[..] else {
        panic!("two engines")
    };
    assert!(plain.disagree > 0, "{preset} does not refuse {habit:?}: {summary}");
    assert_eq!(
        (with.disagree, with.fault),
        (0, 0),
        "{modified} refuses {habit:?}: {summary}"
    );
    let within = plain
        .within
        .iter()
        .find(|(precision, _)| precision.to_string() == modified);
    assert_eq!(within.map(|(_, cases)| *cases), Some(plain.disagree), "{summary}");
}

const PRESETS: [&str; 3] = ["fp32", "bf16", "f16"];

#[test]
fn without_a_habit_every_preset_agrees() {
    for preset in PRESETS {
        run(Habit::None, &[preset], 300, &[]).assert_agrees();
    }
}

#[test]
fn subnormals_taken_as_zero_need_flush() {
    for preset in PRESETS {
        only_with(Modifier::Flush, Habit::Flush, preset, 300, &[]);
    }
}

#[test]
fn slots_summed_in_the_element_type_need_a_modifier() {
    for preset in ["bf16", "f16"] {
        only_with(Modifier::SlotsInElement, Habit::SlotsInElement, preset, 600, &[]);
    }
}

#[test]
fn stored_sums_of_parts_need_a_modifier() {
    for (preset, parts) in [("bf16", 2), ("bf16", 4), ("f16", 2), ("f16", 4)] {
        only_with(Modifier::PartialsInElement, Habit::Parts(parts), preset, 300, &[]);
    }
}

#[test]
fn accumulators_in_the_element_type_need_a_modifier() {
    for preset in ["bf16", "f16"] {
        only_with(Modifier::SumsInElement, Habit::SumsInElement, preset, 300, &[]);
    }
}

#[test]
fn a_sigmoid_by_tanh_needs_an_absolute_error() {
    for preset in PRESETS {
        only_with(
            Modifier::AbsoluteSigmoid,
            Habit::TanhSigmoid,
            preset,
            300,
            &[ValueProfile::LowGates],
        );
    }
}

#[test]
fn a_fused_kernel_may_claim_more_and_one_that_stores_its_rows_may_not() {
    for preset in ["bf16", "f16"] {
        let fused = format!("{preset}+fused");
        run(Habit::Fused, &[preset, &fused], 300, &[]).assert_agrees();
        let summary = run(Habit::FusedWithRows, &[preset, &fused], 300, &[]);
        let [plain, with] = &summary.engines[..] else {
            panic!("two engines")
        };
        assert_eq!(plain.disagree, 0, "{summary}");
        assert!(with.disagree > 0, "{fused} accepts rows that are stored: {summary}");
    }
}

/// The sharpest claim that the results of a habit lie within is the one that says so, and is found whatever is claimed.
#[test]
fn the_sharpest_claim_is_measured() {
    for (habit, sharpest) in [
        (Habit::Fused, "bf16+fused"),
        (Habit::None, "bf16"),
        (Habit::SlotsInElement, "bf16+slots-in-element"),
        (Habit::Parts(4), "bf16+partials-in-element"),
    ] {
        let mut kernel = Habitual {
            precision: Precision::BF16,
            habit,
        };
        let plan = CheckPlan {
            cases: 200,
            measure: true,
            selection: Selection {
                domain: "finite = true".parse().unwrap(),
                elements: vec![ElementType::Bf16],
                work: 1 << 15,
                ..Selection::default()
            },
            shrink_budget: 0,
            ..CheckPlan::default()
        };
        let summary = check_engine(&mut kernel, &plan);
        let measured = &summary.engines[0].measured;
        let [measured] = &measured[..] else {
            panic!("one element type: {measured:?}")
        };
        assert_eq!(measured.cases, 200);
        let found: Vec<String> = measured.sharpest().iter().map(|(claim, _)| claim.to_string()).collect();
        // Another, which is neither sharper nor looser, may do too.
        assert!(found.iter().any(|claim| claim == sharpest), "{habit:?}: {found:?}");
        let line = "habitual: the 200 results in bf16 all lie within ";
        assert!(report::totals(&summary).contains(line), "{summary}");
        let mut merged = Merged::default();
        merged.add(&report::totals_json(&summary)).unwrap();
        let again = &merged.summary().engines[0].measured[0];
        assert_eq!((again.element, again.cases), (measured.element, measured.cases));
        for ((claim, used), (other, also)) in measured.claims().iter().zip(again.claims()) {
            assert!(
                claim == other && (used - also).abs() <= 1e-12,
                "{claim} {used}, {other} {also}"
            );
        }
        assert_eq!(again.claims().len(), measured.claims().len());
    }
}

/// Each habit with a claim that says so.
const CLAIMS: [(Habit, &str); 16] = [
    (Habit::None, "fp32"),
    (Habit::None, "bf16"),
    (Habit::None, "f16"),
    (Habit::Flush, "fp32+flush"),
    (Habit::Flush, "bf16+flush"),
    (Habit::Flush, "f16+flush"),
    (Habit::SlotsInElement, "bf16+slots-in-element"),
    (Habit::SlotsInElement, "f16+slots-in-element"),
    (Habit::Parts(2), "bf16+partials-in-element"),
    (Habit::Parts(4), "bf16+partials-in-element"),
    (Habit::Parts(2), "f16+partials-in-element"),
    (Habit::Parts(4), "f16+partials-in-element"),
    (Habit::SumsInElement, "bf16+sums-in-element"),
    (Habit::TanhSigmoid, "fp32+absolute-sigmoid"),
    (Habit::TanhSigmoid, "bf16+absolute-sigmoid"),
    (Habit::Fused, "bf16+fused"),
];

#[test]
#[ignore = "takes a minute on two cores, in release"]
fn each_habit_agrees_under_its_claim_on_many_cases() {
    let agrees = |(habit, claim)| {
        let summary = run(habit, &[claim], 5000, &[]);
        println!("{habit:?}\n{summary}");
        summary.assert_agrees();
    };
    CLAIMS.into_par_iter().with_max_len(1).for_each(agrees);
}

/// The sum over two to eight slots, stored after each, within 200 cases from every seed.
#[test]
fn slots_summed_in_bf16_are_found_from_every_seed() {
    let found = |seed: u64| {
        let mut kernel = Habitual {
            precision: Precision::BF16,
            habit: Habit::SlotsInElement,
        };
        let plan = CheckPlan {
            cases: 200,
            seed: 10_000 * seed,
            selection: Selection {
                domain: Domain {
                    top_k: Sizes {
                        min: Some(2),
                        max: Some(8),
                        ..Sizes::default()
                    },
                    ..Domain::of(Precision::BF16)
                },
                ..Selection::default()
            },
            shrink_budget: 0,
            ..CheckPlan::default()
        };
        let (mut asked, mut is_found) = (0, false);
        let mut stop_at_first = |result: &CaseResult| {
            asked += 1;
            is_found = matches!(result.verdict, Verdict::Disagree(_));
            if is_found {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        check(&mut [Contender::single(&mut kernel)], &plan, &mut stop_at_first).unwrap();
        assert!(is_found, "not within {asked} cases from seed {}", plan.seed);
        asked
    };
    let cases: Vec<usize> = (0..10).into_par_iter().map(found).collect();
    println!("found by case {cases:?}");
}

/// An infinity meets subnormal weights, which the kernel takes as 0.
#[test]
fn zero_times_an_infinity_is_nan_where_the_zero_was_subnormal() {
    let precision: Precision = "bf16+flush".parse().unwrap();
    let mut kernel = Habitual {
        precision,
        habit: Habit::Flush,
    };
    let plan = CheckPlan {
        cases: 200,
        selection: Selection {
            domain: Domain::of(precision),
            sizes: vec![SizeProfile::Tiny],
            values: vec![ValueProfile::WideRange],
            specials: vec![Special {
                value: SpecialValue::Inf,
                place: Place::Token,
            }],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    check_engine(&mut kernel, &plan).assert_agrees();
}
