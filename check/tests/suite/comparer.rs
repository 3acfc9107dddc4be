//! The comparer itself: what must fail fails, whatever the size of the rest.

use crate::common::Spoiled;
use binned_experts_check::engine::Reference;
use binned_experts_check::judge::Mismatch;
use binned_experts_check::judge::{Trial, judge_spec};
use binned_experts_check::judge::{compare, compare_runs, share_used};
use binned_experts_check::oracle::Bounds;
use binned_experts_check::{
    AnyProblem, CaseSpec, Domain, Engine, Fault, Outcome, Precision, Stage, StageValues, Tensor, Verdict,
};
use ndarray::{Array2, Array3, ArrayD};

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

fn spec(sequence: usize, hidden: usize, values: &str) -> CaseSpec {
    format!(
        "element = 'f32'\nbatch = 1\nsequence = {sequence}\nhidden = {hidden}\nintermediate = 4\nexperts = 3\ntop_k = 2\n\
         capacity = {}\nalpha = 1.702\nlimit = 7.0\nseed = 5\nrouting = 'distinct'\nvalues = '{values}'\n\
         weights = 'normalised'",
        2 * sequence
    )
    .parse()
    .unwrap()
}

/// The verdict on a right output that `spoil` has changed.
fn spoiled(spec: &CaseSpec, spoil: impl FnMut(Array2<f32>) -> Array2<f32>) -> Verdict {
    let mut spoil = spoil;
    judge_spec(&mut Spoiled(|_: &_, output| spoil(output)), spec).unwrap()
}

fn mismatch(verdict: Verdict) -> Mismatch {
    match verdict {
        Verdict::Disagree(mismatch) => *mismatch,
        other => panic!("expected a disagreement, found {other:?}"),
    }
}

#[test]
fn a_value_passes_only_inside_its_bound() {
    assert_eq!(share_used(1.5, 1.0, 1.0), Some(0.5));
    assert_eq!(share_used(2.0, 1.0, 1.0), Some(1.0));
    assert_eq!(share_used(1.0 + 1e-15, 1.0, 0.0), None);
    assert_eq!(share_used(1.0, 1.0, 0.0), Some(0.0));
    assert_eq!(share_used(-0.0, 0.0, 0.0), Some(0.0));
}

#[test]
fn nan_and_infinities_pass_only_for_themselves() {
    for bound in [0.0, 1.0, f64::MAX] {
        assert_eq!(share_used(NAN, 1.0, bound), None);
        assert_eq!(share_used(1.0, NAN, bound), None);
        assert_eq!(share_used(NAN, NAN, bound), Some(0.0));
        assert_eq!(share_used(INF, 1.0, bound), None);
        assert_eq!(share_used(1.0, INF, bound), None);
        assert_eq!(share_used(INF, INF, bound), Some(0.0));
        assert_eq!(share_used(INF, -INF, bound), None);
        assert_eq!(share_used(NAN, INF, bound), None);
        assert_eq!(share_used(INF, NAN, bound), None);
    }
    assert_eq!(share_used(NAN, 1.0, NAN), None);
    assert_eq!(share_used(1.5, 1.0, NAN), None);
}

#[test]
fn what_is_undecided_accepts_anything() {
    for found in [NAN, INF, -INF, 0.0] {
        assert_eq!(share_used(found, 1.0, INF), Some(0.0));
    }
}

#[test]
fn a_right_output_agrees() {
    assert!(matches!(
        spoiled(&spec(9, 8, "gentle"), |output| output),
        Verdict::Agree { undecided: 0, .. }
    ));
}

#[test]
fn an_output_of_zeros_or_nan_fails() {
    for value in [0.0, f32::NAN, f32::INFINITY] {
        let found = mismatch(spoiled(&spec(9, 8, "gentle"), |output| output.mapv(|_| value)));
        let Mismatch::Values {
            stage: Stage::Output,
            wrong,
            rows,
            total,
            worst,
            ..
        } = found
        else {
            panic!("{found:?}")
        };
        assert_eq!((wrong, rows, total), (72, 9, 72));
        assert!(worst > 1.0);
    }
}

#[test]
fn swapped_rows_fail() {
    let found = mismatch(spoiled(&spec(9, 8, "provenance"), |output| {
        output.select(ndarray::Axis(0), &[1, 0, 2, 3, 4, 5, 6, 7, 8])
    }));
    assert!(matches!(found, Mismatch::Values { rows: 2, .. }), "{found:?}");
}

#[test]
fn one_zeroed_row_among_65536_fails() {
    let found = mismatch(spoiled(&spec(65_536, 2, "gentle"), |mut output| {
        output.row_mut(40_000).fill(0.0);
        output
    }));
    let Mismatch::Values { at, rows: 1, total, .. } = found else {
        panic!("{found:?}")
    };
    assert_eq!((at.token, at.column, total), (Some(40_000), Some(0), 131_072));
}

#[test]
fn an_error_of_ten_thousand_ulps_fails_and_one_of_a_single_ulp_passes() {
    let moved = |ulps: u32| {
        spoiled(&spec(9, 8, "gentle"), |mut output| {
            output.mapv_inplace(|value| f32::from_bits(value.to_bits() + ulps));
            output
        })
    };
    assert!(matches!(moved(1), Verdict::Agree { .. }));
    assert!(matches!(moved(10_000), Verdict::Disagree(_)));
}

#[test]
fn a_single_nan_fails() {
    let found = mismatch(spoiled(&spec(9, 8, "gentle"), |mut output| {
        output[[7, 3]] = f32::NAN;
        output
    }));
    let Mismatch::Values {
        at,
        wrong: 1,
        found,
        worst,
        ..
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((at.token, at.column), (Some(7), Some(3)));
    assert!(found.is_nan() && worst == INF);
}

/// The positions that an outcome shows for a stage.
fn indices(outcome: &mut Outcome, stage: Stage) -> &mut Vec<usize> {
    match outcome.stages.get_mut(stage) {
        Some(StageValues::Indices(indices)) => indices,
        other => panic!("{stage}: expected indices, found {other:?}"),
    }
}

/// The rows that an outcome shows for a stage.
fn rows(outcome: &mut Outcome, stage: Stage) -> &mut Array2<f64> {
    match outcome.stages.get_mut(stage) {
        Some(StageValues::Rows(rows)) => rows,
        other => panic!("{stage}: expected rows, found {other:?}"),
    }
}

/// A right outcome of a case, changed.
fn changed(change: impl FnOnce(&mut Outcome)) -> Verdict {
    let problem = spec(9, 8, "gentle").build().unwrap();
    let prepared = Trial::from_problem(problem, &[Precision::FP32]);
    let mut outcome = Reference.forward(prepared.problem()).unwrap();
    change(&mut outcome);
    compare(prepared.expected(), prepared.bounds(Precision::FP32).unwrap(), &outcome)
}

#[test]
fn another_shape_or_type_fails() {
    for shape in [vec![1, 9, 7], vec![9, 8], vec![1, 8, 8], vec![0, 9, 8], vec![9, 1, 8]] {
        let found = mismatch(changed(|outcome| {
            outcome.output = Tensor::F32(ArrayD::zeros(shape.clone()))
        }));
        assert_eq!(
            found,
            Mismatch::Shape {
                stage: Stage::Output,
                expected: vec![1, 9, 8],
                found: shape
            }
        );
    }
    let found = mismatch(changed(|outcome| {
        outcome.output = Array3::<f64>::zeros((1, 9, 8)).into()
    }));
    assert_eq!(
        found,
        Mismatch::Type {
            stage: Stage::Output,
            expected: "f32".to_owned(),
            found: "f64".to_owned()
        }
    );
}

#[test]
fn each_stage_is_compared_and_the_first_wrong_one_named() {
    type Change = fn(&mut Outcome);
    let changes: [(Stage, Change); 7] = [
        (Stage::SortedIndices, |outcome| {
            indices(outcome, Stage::SortedIndices).swap(2, 3)
        }),
        (Stage::Bins, |outcome| indices(outcome, Stage::Bins)[1] += 1),
        (Stage::SelectedWeights, |outcome| {
            rows(outcome, Stage::SelectedWeights)[[4, 0]] = 0.0
        }),
        (Stage::Gathered, |outcome| {
            rows(outcome, Stage::Gathered)[[3, 1]] += 1e-6
        }),
        (Stage::GateUp, |outcome| rows(outcome, Stage::GateUp)[[3, 1]] += 1e-3),
        (Stage::Activated, |outcome| {
            rows(outcome, Stage::Activated)[[3, 1]] = NAN
        }),
        (Stage::ExpertOutput, |outcome| {
            rows(outcome, Stage::ExpertOutput)[[3, 1]] = INF
        }),
    ];
    for (stage, change) in changes {
        let found = mismatch(changed(|outcome| {
            change(outcome);
            outcome.output = Array3::<f32>::zeros((1, 9, 8)).into();
        }));
        assert_eq!(found.stage(), stage);
    }
    let found = mismatch(changed(|outcome| *indices(outcome, Stage::Bins) = vec![1]));
    assert_eq!(
        found,
        Mismatch::Shape {
            stage: Stage::Bins,
            expected: vec![3],
            found: vec![1]
        }
    );
    let found = mismatch(changed(|outcome| {
        *rows(outcome, Stage::Gathered) = Array2::zeros((17, 8))
    }));
    assert_eq!(
        found,
        Mismatch::Shape {
            stage: Stage::Gathered,
            expected: vec![18, 8],
            found: vec![17, 8]
        }
    );
}

#[test]
fn two_runs_must_have_the_same_bits() {
    let run = |values: [f32; 4]| Outcome::output(Array2::from_shape_vec((2, 2), values.to_vec()).unwrap());
    let first = run([1.0, 2.0, f32::NAN, 0.0]);
    assert_eq!(compare_runs(&first, &run([1.0, 2.0, f32::NAN, 0.0])), Ok(()));
    for (second, at) in [
        ([1.0, 2.0, 3.0, 0.0], (1, 0)),
        ([1.0, 2.0000002, f32::NAN, 0.0], (0, 1)),
        ([1.0, 2.0, f32::NAN, -0.0], (1, 1)),
    ] {
        let found = *compare_runs(&first, &run(second)).unwrap_err();
        let Mismatch::NotDeterministic {
            at: location, wrong: 1, ..
        } = found
        else {
            panic!("{found:?}")
        };
        assert_eq!((location.token, location.column), (Some(at.0), Some(at.1)));
    }
}

/// Gives other bits every time, within the bounds.
struct Wavering(u32);

impl Engine for Wavering {
    fn name(&self) -> &str {
        "wavering"
    }

    fn domain(&self) -> Domain {
        Domain {
            deterministic: Some(true),
            ..Domain::of(Precision::FP32)
        }
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.0 += 1;
        let Tensor::F32(mut output) = Reference.forward(problem)?.output else {
            panic!("an f32 case")
        };
        output.mapv_inplace(|value| f32::from_bits(value.to_bits() + self.0 % 2));
        Ok(Outcome::output(output))
    }
}

#[test]
fn an_engine_that_claims_to_be_repeatable_is_held_to_it() {
    let spec = spec(9, 8, "gentle");
    assert!(matches!(
        judge_spec(&mut Wavering(0), &spec),
        Some(Verdict::Agree { .. })
    ));
    let twice = CaseSpec {
        warmup: Some(binned_experts_check::case::Warmup::Same),
        ..spec
    };
    let verdict = judge_spec(&mut Wavering(0), &twice).unwrap();
    assert_eq!(verdict.kind(), "not-deterministic");
}

/// A right outcome of a case and the case's bounds, both changed.
fn compared(change: impl FnOnce(&mut Outcome, &mut Bounds)) -> Verdict {
    let problem = spec(9, 8, "gentle").build().unwrap();
    let prepared = Trial::from_problem(problem, &[Precision::FP32]);
    let mut outcome = Reference.forward(prepared.problem()).unwrap();
    let mut bounds = prepared.bounds(Precision::FP32).unwrap().clone();
    change(&mut outcome, &mut bounds);
    compare(prepared.expected(), &bounds, &outcome)
}

fn agreement(verdict: Verdict) -> (f64, usize) {
    match verdict {
        Verdict::Agree { used, undecided } => (used, undecided),
        other => panic!("expected an agreement, found {other:?}"),
    }
}

#[test]
fn the_largest_share_of_any_stage_is_what_was_used() {
    let wide = |bounds: &mut Bounds| {
        for bound in [
            &mut bounds.gate_up,
            &mut bounds.activated,
            &mut bounds.expert_output,
            &mut bounds.output,
        ] {
            bound.fill(1e6);
        }
    };
    let (used, undecided) = agreement(compared(|_, bounds| wide(bounds)));
    assert!(used > 0.0 && used < 1e-6 && undecided == 0, "{used}");
    let (used, _) = agreement(compared(|outcome, bounds| {
        wide(bounds);
        rows(outcome, Stage::Activated)[[2, 1]] += 0.25e6;
        rows(outcome, Stage::ExpertOutput)[[2, 1]] -= 0.125e6;
    }));
    assert!((used - 0.25).abs() < 1e-4, "{used}");
    let (used, _) = agreement(compared(|outcome, bounds| {
        wide(bounds);
        let Tensor::F32(output) = &mut outcome.output else {
            panic!("an f32 case")
        };
        output[[0, 3, 5]] += 0.5e6;
    }));
    assert!((used - 0.5).abs() < 1e-4, "{used}");
}

#[test]
fn undecided_values_of_the_output_are_counted() {
    let (_, undecided) = agreement(compared(|outcome, bounds| {
        bounds.output[[1, 2]] = INF;
        bounds.output[[8, 7]] = INF;
        let Tensor::F32(output) = &mut outcome.output else {
            panic!("an f32 case")
        };
        output[[0, 1, 2]] = f32::NAN;
    }));
    assert_eq!(undecided, 2);
}

#[test]
fn wrong_values_are_counted_and_the_worst_is_measured_by_its_bound() {
    let found = mismatch(compared(|outcome, bounds| {
        bounds.gate_up.fill(0.5);
        let gate_up = rows(outcome, Stage::GateUp);
        gate_up[[3, 1]] += 1.0;
        gate_up[[3, 4]] -= 4.0;
        gate_up[[7, 0]] += 2.0;
    }));
    let Mismatch::Values {
        bound,
        wrong,
        rows,
        total,
        worst,
        found,
        expected,
        ..
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((bound, wrong, rows, total), (0.5, 3, 2, 18 * 8));
    assert!((worst - 8.0).abs() < 1e-4, "{worst}");
    assert!((found - expected - 1.0).abs() < 1e-4);
}

/// The (position, token, slot, expert, column) of what is wrong.
fn location(found: &Mismatch) -> [Option<usize>; 5] {
    match found {
        Mismatch::Values { at, .. } => [at.position, at.token, at.slot, at.expert, at.column],
        other => panic!("expected wrong values, found {other:?}"),
    }
}

#[test]
fn what_is_wrong_is_located_by_token_slot_and_expert() {
    let problem = spec(9, 8, "gentle").build().unwrap();
    let prepared = Trial::from_problem(problem, &[Precision::FP32]);
    let mut right = Reference.forward(prepared.problem()).unwrap();
    let order = indices(&mut right, Stage::SortedIndices).clone();
    // An assignment whose slot is 1.
    let position = (0..order.len())
        .find(|at| *at > 1 && order[*at] % 2 == 1 && order[*at] > 4)
        .unwrap();
    let (token, slot, expert) = prepared.expected().inputs().assignment(order[position]);
    assert_eq!((token, slot), (order[position] / 2, 1));
    let found = mismatch(changed(|outcome| {
        rows(outcome, Stage::GateUp)[[position, 3]] = NAN;
    }));
    assert_eq!(location(&found), [None, Some(token), Some(1), Some(expert), Some(3)]);
    let found = mismatch(changed(|outcome| {
        indices(outcome, Stage::SortedIndices)[position] = 100;
    }));
    assert_eq!(
        location(&found),
        [Some(position), Some(token), Some(1), Some(expert), None]
    );
    let found = mismatch(changed(|outcome| {
        rows(outcome, Stage::SelectedWeights)[[order[position], 0]] = -1.0;
    }));
    assert_eq!(location(&found), [None, Some(token), Some(1), Some(expert), None]);
    let found = mismatch(changed(|outcome| indices(outcome, Stage::Bins)[1] += 1));
    assert_eq!(location(&found), [None, None, None, Some(1), None]);
}

#[test]
fn integers_that_are_wrong_are_counted() {
    let found = mismatch(changed(|outcome| {
        let bins = indices(outcome, Stage::Bins);
        bins[0] += 1;
        bins[2] += 3;
    }));
    let Mismatch::Values {
        found,
        expected,
        wrong,
        total,
        ..
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!((found - expected, wrong, total), (1.0, 2, 3));
}

#[test]
fn two_runs_must_have_the_same_shape_and_are_compared_row_by_row() {
    let run = |shape: (usize, usize), values: &[f32]| {
        Outcome::output(Array2::from_shape_vec(shape, values.to_vec()).unwrap())
    };
    let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let first = run((2, 3), &values);
    assert_eq!(
        compare_runs(&first, &run((3, 2), &values)),
        Err(Box::new(Mismatch::Shape {
            stage: Stage::Output,
            expected: vec![2, 3],
            found: vec![3, 2]
        }))
    );
    let found = *compare_runs(&first, &run((2, 3), &[1.0, 2.0, 3.0, 4.0, 7.0, 8.0])).unwrap_err();
    let Mismatch::NotDeterministic {
        stage: Stage::Output,
        at,
        first,
        second,
        wrong,
    } = found
    else {
        panic!("{found:?}")
    };
    assert_eq!(
        (at.token, at.column, first, second, wrong),
        (Some(1), Some(1), 5.0, 7.0, 2)
    );
    assert_eq!(compare_runs(&run((0, 3), &[]), &run((0, 3), &[])), Ok(()));
}
