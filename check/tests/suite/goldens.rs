//! PyTorch's own results (torch 2.11, CPU and CUDA): integers and copies bit for bit, values within the bounds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use binned_experts_check::case::file::{CaseFile, positions, read_case};
use binned_experts_check::engine::Reference;
use binned_experts_check::engine::program::tensors;
use binned_experts_check::judge::compare;
use binned_experts_check::judge::{Trial, judge};
use binned_experts_check::oracle::Bounds;
use binned_experts_check::oracle::Inputs;
use binned_experts_check::oracle::{Expected, Roundings};
use binned_experts_check::{AnyProblem, ElementType, Engine, Outcome, Precision, Stages, Tensor, Verdict};

/// Every golden by name.
fn goldens() -> Vec<(String, CaseFile)> {
    let directory = crate::in_repository("tests/goldens");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let goldens: Vec<(String, CaseFile)> = paths
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let file = read_case(path).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, file)
        })
        .collect();
    assert_eq!(goldens.len(), 29);
    goldens
}

/// The problem in a golden's own order and in the orders that PyTorch's sort gave, with PyTorch's output for each.
fn orders(file: &CaseFile) -> Vec<(&'static str, AnyProblem, &Tensor)> {
    let with = |order: &'static str, output: &str| {
        let order_of = positions(order, &file.others[order]).unwrap();
        (
            order,
            file.problem.clone().with_order(order_of).unwrap(),
            &file.others[output],
        )
    };
    let stable = ("sorted_indices", file.problem.clone(), &file.others["output"]);
    vec![
        stable,
        with("cpu.sorted_indices", "cpu.output"),
        with("cuda.sorted_indices", "cuda.output"),
    ]
}

fn agrees(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Agree { .. })
}

/// The bits of each value; all NaN alike.
fn bits(tensor: &Tensor) -> Vec<u64> {
    let canonical = |value: f64| {
        if value.is_nan() {
            f64::NAN.to_bits()
        } else {
            value.to_bits()
        }
    };
    tensor.to_f64().into_iter().map(canonical).collect()
}

#[test]
fn order_bins_and_copies_are_bit_exact() {
    for (name, file) in goldens() {
        assert!(
            !file.problem.has_explicit_order(),
            "{name}: its sorted_indices are not the stable order"
        );
        let outcome = Reference.forward(&file.problem).unwrap();
        let stages: BTreeMap<String, Tensor> = tensors(&outcome, &file.problem, usize::MAX);
        for stage in ["sorted_indices", "bins"] {
            assert_eq!(stages[stage], file.others[stage], "{name}: {stage}");
        }
        for stage in ["gathered", "selected_weights"] {
            assert_eq!(stages[stage].shape(), file.others[stage].shape(), "{name}: {stage}");
            assert_eq!(
                stages[stage].type_name(),
                file.others[stage].type_name(),
                "{name}: {stage}"
            );
            assert_eq!(bits(&stages[stage]), bits(&file.others[stage]), "{name}: {stage}");
        }
    }
}

#[test]
fn the_reference_agrees_in_every_order() {
    for (name, file) in goldens() {
        for (order, problem, _) in orders(&file) {
            let classes = [Precision::of(problem.element())];
            let verdict = judge(&mut Reference, &Trial::from_problem(problem, &classes)).verdict;
            assert!(agrees(&verdict), "{name} with {order}: {verdict:?}");
        }
    }
}

/// PyTorch is held to the same bounds as any other engine.
#[test]
fn pytorch_agrees_in_every_order() {
    for (name, file) in goldens() {
        for (order, problem, output) in orders(&file) {
            let element = problem.element();
            let prepared = Trial::from_problem(problem, &[Precision::of(element)]);
            let outcome = Outcome::output(output.clone());
            let verdict = compare(
                prepared.expected(),
                prepared.bounds(Precision::of(element)).unwrap(),
                &outcome,
            );
            assert!(agrees(&verdict), "{name} with {order}: {verdict:?}");
        }
    }
}

#[test]
fn pytorchs_f64_result_is_within_the_f64_bounds_of_the_definition() {
    for (name, file) in goldens() {
        let expected = Expected::new(
            Inputs::new(&file.problem),
            file.problem.output_shape(),
            ElementType::F64,
        );
        let precision = Roundings::new(Precision::FP64, ElementType::F64);
        let bounds = Bounds::new(expected.inputs(), expected.definition(), precision);
        let outcome = Outcome {
            output: file.others["output_f64"].clone(),
            stages: Stages::default(),
        };
        let verdict = compare(&expected, &bounds, &outcome);
        assert!(agrees(&verdict), "{name}: {verdict:?}");
    }
}

#[test]
fn special_values_stand_in_the_same_places() {
    let mut special = 0;
    for (name, file) in goldens() {
        for (order, problem, output) in orders(&file) {
            let ours = Reference.forward(&problem).unwrap().output.to_f64();
            let theirs = output.to_f64();
            for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
                let same = if theirs.is_finite() {
                    ours.is_finite()
                } else {
                    ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan())
                };
                assert!(same, "{name} with {order}, element {at}: {ours}, PyTorch {theirs}");
                special += usize::from(!theirs.is_finite());
            }
        }
    }
    assert!(special > 0, "no golden holds a special value");
}

/// The orders that PyTorch's sort gave differ from the stable one somewhere, so explicit orders are needed.
#[test]
fn pytorchs_sort_is_not_always_stable() {
    let unstable = goldens()
        .iter()
        .filter(|(_, file)| {
            orders(file)
                .iter()
                .any(|(_, problem, _)| problem.bins() != file.problem.bins())
        })
        .count();
    assert!(unstable > 0);
}
