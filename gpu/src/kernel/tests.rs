//! The host's side of the kernels against their sources.

use std::collections::BTreeSet;

use crate::path::tests::{plans, weight_plans};
use crate::plan::Value;
use crate::sources::{KERNELS, Kind, heads};
use crate::{Arg, NamedArg};

/// What follows `keyword` in each line that has it: `name = value`.
fn constants(text: &str, keyword: &str) -> Vec<String> {
    let constant = |line: &str| {
        let (_, rest) = line.split_once(keyword)?;
        Some(rest.split(';').next()?.replace(": usize", ""))
    };
    text.lines().filter_map(constant).collect()
}

#[test]
fn every_constant_is_that_of_the_kernels() {
    // Some names stand for one size in f32 and for another one in bf16.
    let is_bf16 = |name: &str| name.contains("_bf16.");
    let sources = |bf16: bool| {
        let files = KERNELS.iter().filter(|(name, _)| is_bf16(name) == bf16);
        let constants = files.map(|(_, text)| constants(text, "constexpr int "));
        constants.collect::<Vec<_>>().concat()
    };
    let mut compared = 0;
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/kernel")).unwrap() {
        let path = file.unwrap().path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let sources = sources(is_bf16(&path.to_string_lossy()));
        for constant in constants(&std::fs::read_to_string(&path).unwrap(), "const ") {
            assert!(sources.contains(&constant), "{path:?}: the kernels lack `{constant}`");
            compared += 1;
        }
    }
    assert!(compared > 10, "{compared} constants");
}

#[test]
fn every_argument_is_that_of_the_kernels() {
    let heads = heads();
    let kernels = KERNELS.map(|(_, text)| text.matches("\nKERNEL").count());
    assert_eq!(heads.len(), kernels.iter().sum::<usize>(), "heads that can be read");
    let mut launched = BTreeSet::new();
    for step in plans().into_iter().chain(weight_plans()).flat_map(|plan| plan.steps) {
        let kernel = step.launch.kernel;
        let head = heads.iter().find(|head| head.kernel == kernel).unwrap();
        let arg = |&(name, value)| -> NamedArg<'_, ()> {
            match value {
                Value::Buffer(_) | Value::Null => (name, Arg::Null),
                Value::I64(value) => (name, Arg::I64(value)),
                Value::F32(value) => (name, Arg::F32(value)),
            }
        };
        let args: Vec<_> = step.args.iter().map(arg).collect();
        assert_eq!(head.check(&args), Ok(()), "{kernel}");
        launched.insert(kernel);
    }
    assert_eq!(launched, heads.iter().map(|head| head.kernel).collect());
}

#[test]
fn arguments_that_do_not_fit_are_named() {
    let head = heads()
        .into_iter()
        .find(|head| head.kernel == "count_assignments")
        .unwrap();
    let right: [NamedArg<'_, ()>; 5] = [
        ("router_indices", Arg::Null),
        ("counts", Arg::Null),
        ("assignments", Arg::I64(1)),
        ("experts", Arg::I64(1)),
        ("first_expert", Arg::I64(0)),
    ];
    assert_eq!(head.check(&right), Ok(()));
    let report = |args: &[NamedArg<'_, ()>]| head.check(args).unwrap_err();
    assert_eq!(report(&right[1..]), "expected 5 arguments, found 4");
    let [indices, counts, assignments, experts, first_expert] = right;
    let swapped = [counts, indices, assignments, experts, first_expert];
    assert_eq!(report(&swapped), "expected the argument router_indices, found counts");
    let other = [indices, counts, ("assignments", Arg::F32(1.0)), experts, first_expert];
    assert_eq!(report(&other), "assignments: expected an i64, found an f32");
}

#[test]
fn every_kernel_waits_for_the_earlier_ones_before_it_uses_an_array() {
    let texts = KERNELS.map(|(_, text)| text).concat();
    for head in heads() {
        let (_, kernel) = texts.split_once(&format!("\n{}(", head.kernel)).unwrap();
        let (_, body) = kernel.split_once(") {\n").unwrap();
        let (before, _) = body.split_once("wait_for_earlier_kernels();\n").unwrap();
        assert!(
            !before.contains("\n}\n"),
            "{}: the wait is that of another kernel",
            head.kernel
        );
        let words: Vec<&str> = before.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        for (name, kind) in head.parameters {
            // What chooses whether experts_bf16 waits: without row_starts it counts while route_gather_bf16 goes on, which
            // lets it start once all that it needs for that is there.
            let chooses = (head.kernel, name) == ("experts_bf16", "row_starts");
            let uses = kind == Kind::Buffer && !chooses && words.contains(&name);
            assert!(!uses, "{}: {name} is used before the wait", head.kernel);
        }
    }
}
