//! Values are what their profiles say.

use crate::common::{Spoiled, share};
use binned_experts_check::case::{Profile, ValueProfile};
use binned_experts_check::judge::{Trial, judge_spec};
use binned_experts_check::oracle::Coverage;
use binned_experts_check::oracle::{Definition, Inputs};
use binned_experts_check::{CaseSpec, Domain, ElementType, Precision, Selection, Verdict};
use ndarray::{Array3, ArrayView1, Axis};

#[test]
fn values_are_what_their_profiles_say() {
    for profile in ValueProfile::ALL.iter().copied() {
        let promised = share(Profile::Values(profile), |spec, expected| {
            let (inputs, coverage) = (expected.inputs(), Coverage::new(expected));
            let x = || inputs.hidden_states.iter().copied().filter(|x| x.is_finite());
            let bias = || inputs.gate_up_proj_bias.iter().copied().filter(|bias| bias.is_finite());
            let computed = expected.definition().kept.contains(&true);
            match profile {
                _ if !computed || spec.special.is_some() => true,
                ValueProfile::Gentle => x().any(|x| x != 0.0) && x().all(|x| x.abs() <= 3.5),
                ValueProfile::Clamping => {
                    let enough = expected.definition().gate_up.len() >= 512 && spec.capacity > 1;
                    let reached = [
                        coverage.gate_clamped,
                        coverage.gate_low,
                        coverage.up_clamped_high,
                        coverage.up_clamped_low,
                    ];
                    !enough || reached == [true; 4]
                }
                ValueProfile::LargeBias => bias().any(|bias| bias.abs() >= 1.0) && x().any(|x| x != 0.0),
                ValueProfile::PureBias => x().all(|x| x == 0.0) && bias().any(|bias| bias.abs() >= 1.0),
                ValueProfile::Provenance => x().all(|x| x > 0.0 && x * 64.0 % 1.0 == 0.0),
                ValueProfile::SmallIntegers => x().chain(bias()).all(|value| value.abs() <= 2.0 && value % 1.0 == 0.0),
                // Looked at below, and `Exact` in a file of its own.
                ValueProfile::WideRange
                | ValueProfile::Cancelling
                | ValueProfile::OppositeScales
                | ValueProfile::HugeGates
                | ValueProfile::LowGates
                | ValueProfile::Outliers
                | ValueProfile::LostSquares
                | ValueProfile::Exact => true,
            }
        });
        assert!(promised >= 95, "{profile:?}: {promised} %");
    }
}

/// Cases of a profile that are large enough to show it, without special values.
fn cases(profile: ValueProfile, elements: &[ElementType], wanted: usize) -> Vec<CaseSpec> {
    let selection = Selection {
        elements: elements.to_vec(),
        values: vec![profile],
        domain: Domain::in_stable_order(),
        ..Selection::default()
    };
    let fits = |spec: &CaseSpec| {
        spec.special.is_none() && spec.capacity > 0 && spec.tokens() >= 8 && spec.hidden >= 8 && spec.intermediate >= 8
    };
    (0..)
        .map(|seed| CaseSpec::from_seed(seed, &selection))
        .filter(fits)
        .take(wanted)
        .collect()
}

/// How many powers of two lie between the least and the largest size; 0 is not looked at.
fn span(values: impl IntoIterator<Item = f64>) -> f64 {
    let sizes: Vec<f64> = values.into_iter().map(f64::abs).filter(|size| *size > 0.0).collect();
    let least = sizes.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = sizes.iter().copied().fold(0.0, f64::max);
    (largest / least).log2().max(0.0)
}

fn largest<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    values.into_iter().fold(0.0, |largest, value| value.abs().max(largest))
}

/// The spans of tokens, of features, of the columns of an expert's matrix, and within one column.
fn spans(inputs: &Inputs) -> [f64; 4] {
    let x = &inputs.hidden_states;
    let matrices = || {
        let of = |tensor: &'_ Array3<f64>| tensor.outer_iter().map(|m| m.to_owned()).collect::<Vec<_>>();
        of(&inputs.gate_up_proj).into_iter().chain(of(&inputs.down_proj))
    };
    let most = |spans: &mut dyn Iterator<Item = f64>| spans.fold(0.0, f64::max);
    [
        span(x.rows().into_iter().map(largest)),
        span(x.columns().into_iter().map(largest)),
        most(&mut matrices().map(|matrix| span(matrix.columns().into_iter().map(largest)))),
        most(&mut matrices().flat_map(|matrix| {
            let columns = matrix.axis_iter(Axis(1));
            columns.map(|column| span(column.iter().copied())).collect::<Vec<_>>()
        })),
    ]
}

#[test]
fn wide_ranges_span_tokens_features_columns_and_weights() {
    let wide = [ElementType::F32, ElementType::F64, ElementType::Bf16];
    for (elements, reach) in [(&wide[..], 60.0), (&[ElementType::F16][..], 5.0)] {
        let (mut any, mut each) = (0, [0; 4]);
        let specs = cases(ValueProfile::WideRange, elements, 200);
        for spec in &specs {
            let found = spans(&Inputs::new(&spec.build().unwrap())).map(|span| span >= reach);
            any += usize::from(found.contains(&true));
            each = std::array::from_fn(|kind| each[kind] + usize::from(found[kind]));
        }
        assert!(any >= 190, "{any} of 200 span 2^{reach}");
        assert!(each.iter().all(|kind| *kind >= 30), "{each:?} of 200 span 2^{reach}");
    }
    for spec in cases(ValueProfile::Gentle, &wide, 40) {
        let found = spans(&Inputs::new(&spec.build().unwrap()));
        assert!(found.iter().all(|span| *span < 30.0), "{found:?}\n{spec}");
    }
}

/// Nearly nothing overflows, even at a limit that lets gates of 2^60 pass, and the bounds of f32 say something nearly
/// everywhere.
#[test]
fn extreme_magnitudes_are_decided() {
    for profile in [
        ValueProfile::WideRange,
        ValueProfile::OppositeScales,
        ValueProfile::HugeGates,
        ValueProfile::LowGates,
        ValueProfile::Outliers,
        ValueProfile::LostSquares,
    ] {
        is_decided(profile);
    }
}

/// A case of more output elements would decide for all.
const MANY_ELEMENTS: usize = 4096;

fn is_decided(profile: ValueProfile) {
    let (mut all, mut undecided, mut loose) = (0, 0, 0);
    let is_of_many = |spec: &CaseSpec| spec.tokens() * spec.hidden > MANY_ELEMENTS;
    for spec in cases(profile, ElementType::ALL, 150) {
        if is_of_many(&spec) {
            continue;
        }
        let class = Precision::of(spec.element);
        let prepared = Trial::from_spec(&spec, &[class]).unwrap();
        let bounds = &prepared.bounds(class).unwrap().output;
        for (value, bound) in prepared.expected().definition().output.iter().zip(bounds) {
            all += usize::from(*value != 0.0);
            undecided += usize::from(*bound == f64::INFINITY);
            loose += usize::from(spec.element == ElementType::F32 && *value != 0.0 && *bound > 0.5 * value.abs());
        }
    }
    let found = format!("{profile:?}: {undecided} of {all} undecided, {loose} with a bound above half of the value");
    println!("{found}");
    assert!(all > 25_000, "{found}");
    assert!(undecided * 100 <= all, "{found}");
    assert!(loose * 100 <= all, "{found}");
}

#[test]
fn results_that_flush_subnormal_values_are_refused_on_wide_ranges() {
    let mut engine = Spoiled(|_: &_, output: ndarray::Array2<f32>| {
        output.mapv(|value| if value.is_subnormal() { 0.0 } else { value })
    });
    let specs = cases(ValueProfile::WideRange, &[ElementType::F32], 200);
    let refused = |spec: &&CaseSpec| matches!(judge_spec(&mut engine, spec), Some(Verdict::Disagree(_)));
    let refused = specs.iter().filter(refused).count();
    assert!(refused >= 40, "refused on {refused} of 200");
}

/// A sum of products and the root of the sum of their squares.
fn sum_and_root(x: ArrayView1<f64>, column: ArrayView1<f64>) -> (f64, f64) {
    let terms = || x.iter().zip(column).map(|(x, weight)| x * weight);
    (terms().sum(), terms().map(|term| term * term).sum::<f64>().sqrt())
}

/// Sums of a case that are less than a part of their terms, those that are exactly 0, and all; of the first product in
/// experts of even number, of the second in the others.
fn cancelled(spec: &CaseSpec, part: f64) -> [usize; 3] {
    let problem = spec.build().unwrap();
    let inputs = Inputs::new(&problem);
    let definition = Definition::new(&inputs);
    let mut counts = [0; 3];
    for flat in (0..definition.kept.len())
        .filter(|flat| definition.kept[*flat])
        .take(40)
    {
        let (token, _, expert) = inputs.assignment(flat);
        let (x, matrix) = if expert % 2 == 0 {
            (inputs.hidden_states.row(token), &inputs.gate_up_proj)
        } else {
            (definition.activated.row(flat), &inputs.down_proj)
        };
        for column in matrix.index_axis(Axis(0), expert).columns() {
            let (sum, root) = sum_and_root(x, column);
            counts[0] += usize::from(sum.abs() < part * root);
            counts[1] += usize::from(sum == 0.0);
            counts[2] += 1;
        }
    }
    counts
}

#[test]
fn cancelling_sums_are_small_parts_of_their_terms() {
    for element in ElementType::ALL {
        let counts = |profile| {
            let all = cases(profile, &[*element], 60).into_iter();
            all.map(|spec| cancelled(&spec, 1.0 / 32.0))
                .fold([0; 3], |all, of| std::array::from_fn(|kind| all[kind] + of[kind]))
        };
        let [small, zero, all] = counts(ValueProfile::Cancelling);
        assert!(small * 100 >= all * 95, "{element}: {small} of {all} cancel");
        assert!(zero * 100 <= all, "{element}: {zero} of {all} are 0");
        let [small, _, all] = counts(ValueProfile::Gentle);
        assert!(small * 10 <= all, "{element}: {small} of {all} cancel");
    }
}

/// The binary exponents of the largest hidden state and of the largest weight of the first product.
fn exponents(inputs: &Inputs) -> [f64; 2] {
    [largest(&inputs.hidden_states), largest(&inputs.gate_up_proj)].map(f64::log2)
}

/// And the sums of the first product are of neither size.
#[test]
fn opposite_scales_are_far_apart() {
    let wide = [ElementType::F32, ElementType::F64, ElementType::Bf16];
    for (elements, reach) in [(&wide[..], 96.0), (&[ElementType::F16][..], 4.0)] {
        let mut large_tokens = 0;
        for spec in &cases(ValueProfile::OppositeScales, elements, 200) {
            let inputs = Inputs::new(&spec.build().unwrap());
            let [x, weights] = exponents(&inputs);
            assert!(
                x.abs() >= reach && weights.abs() >= reach && x * weights < 0.0,
                "{x} {weights}\n{spec}"
            );
            let gates = largest(&Definition::new(&inputs).gate_up).log2();
            assert!(gates.abs() <= 36.0, "2^{gates}\n{spec}");
            large_tokens += usize::from(x > 0.0);
        }
        assert!((60..=140).contains(&large_tokens), "{large_tokens} of 200");
    }
}

/// As powers of two: those of tokens are below the least value of f32, or have at most 8 bits left in f16; those of weights
/// are below the largest.
#[test]
fn squares_of_tokens_are_lost() {
    let wide = [ElementType::F32, ElementType::F64, ElementType::Bf16];
    for (elements, lost, largest_square) in [(&wide[..], -149.0, 127.0), (&[ElementType::F16][..], -16.0, 16.0)] {
        for spec in &cases(ValueProfile::LostSquares, elements, 200) {
            let inputs = Inputs::new(&spec.build().unwrap());
            let [x, weights] = exponents(&inputs);
            assert!(2.0 * x < lost, "2^{x}\n{spec}");
            assert!(weights > 0.0 && 2.0 * weights < largest_square, "2^{weights}\n{spec}");
            let gates = largest(&Definition::new(&inputs).gate_up).log2();
            let bias = largest(&inputs.gate_up_proj_bias).log2();
            assert!(bias < gates - 4.0, "2^{bias} beside 2^{gates}\n{spec}");
        }
    }
}

/// Most of them are positive, and their limits let them pass.
#[test]
fn huge_gates_pass_their_limit() {
    let wide = [ElementType::F32, ElementType::F64, ElementType::Bf16];
    for (elements, gates_above, activations_above) in [(&wide[..], 1e4, 1e8), (&[ElementType::F16][..], 4.0, 8.0)] {
        let [mut positive, mut all, mut large] = [0; 3];
        for spec in &cases(ValueProfile::HugeGates, elements, 200) {
            assert!(spec.limit >= 1e4, "{spec}");
            let definition = Definition::new(&Inputs::new(&spec.build().unwrap()));
            let gates = || definition.gate_up.iter().step_by(2).filter(|gate| **gate != 0.0);
            positive += gates().filter(|gate| **gate > 0.0).count();
            all += gates().count();
            assert!(largest(gates()) >= gates_above, "{spec}");
            large += usize::from(largest(&definition.activated) >= activations_above);
        }
        assert!(
            (65..=85).contains(&(positive * 100 / all)),
            "{positive} of {all} positive"
        );
        assert!(large >= 190, "{large} of 200");
    }
}

/// Nearly no activation is near the bound that the norms give, and no second bias hides them all.
#[test]
fn low_gates_leave_small_activations() {
    let [mut small, mut all, mut without_bias, mut experts] = [0; 4];
    for spec in &cases(ValueProfile::LowGates, ElementType::ALL, 200) {
        let inputs = Inputs::new(&spec.build().unwrap());
        let definition = Definition::new(&inputs);
        let least = if spec.element == ElementType::F16 {
            0.5
        } else {
            1.0 / 1024.0
        };
        // A smaller alpha leaves more.
        let activations = || {
            let values = definition.activated.iter();
            values.filter(|value| spec.alpha >= 1.7 && **value != 0.0)
        };
        small += activations().filter(|value| value.abs() < least).count();
        all += activations().count();
        for bias in inputs.down_proj_bias.rows() {
            without_bias += usize::from(largest(bias) == 0.0);
            experts += 1;
            assert!(largest(bias) < 0.01, "{spec}");
        }
    }
    assert!(all > 100_000 && small * 100 >= all * 99, "{small} of {all}");
    assert!(
        (40..=60).contains(&(without_bias * 100 / experts)),
        "{without_bias} of {experts}"
    );
}

#[test]
fn outliers_are_few_and_far_above() {
    let (mut above, mut tokens) = (0, 0);
    for spec in &cases(ValueProfile::Outliers, &[ElementType::F32], 100) {
        let inputs = Inputs::new(&spec.build().unwrap());
        for row in inputs.hidden_states.rows() {
            let exponent = largest(row).log2();
            assert!(
                (18.0..23.0).contains(&exponent) || (62.0..67.0).contains(&exponent),
                "{exponent}"
            );
            above += usize::from(exponent > 60.0);
            tokens += 1;
        }
    }
    assert!(above * 64 >= tokens && above * 16 <= tokens, "{above} of {tokens}");
}
