//! Results that somebody has already.

use binned_experts_check::Tensor;
use binned_experts_check::case::file::{read_tensors, write_tensors};
use binned_experts_check::judge::share_used;

use crate::support::Place;

const RIGHT: &[&str] = &["compare", "case.safetensors", "out.safetensors", "--precision", "fp32"];

/// A case of f32, and the result of the reference.
fn place_with_result() -> Place {
    let place = Place::new();
    let case = ["case", "--seed", "7", "--out", "case.safetensors"];
    assert_eq!(place.run(&case).code, Some(0));
    let run = [
        "run",
        "case.safetensors",
        "--engine",
        "reference",
        "--out",
        "out.safetensors",
    ];
    assert_eq!(place.run(&run).code, Some(0));
    place
}

#[test]
fn a_result_is_judged() {
    let place = place_with_result();
    let left = place.run(RIGHT);
    assert_eq!(left.code, Some(0), "{}{}", left.stdout, left.stderr);
    assert!(left.stdout.contains("out.safetensors: agree"), "{}", left.stdout);

    let out = place.path("out.safetensors");
    let mut tensors = read_tensors(&out).unwrap();
    let Some(Tensor::F32(output)) = tensors.get_mut("output") else {
        panic!("an output of f32");
    };
    output[[0, 0, 0]] += 1.0;
    write_tensors(&out, &tensors).unwrap();
    let left = place.run(RIGHT);
    assert_eq!(left.code, Some(1), "{}", left.stdout);
    assert!(left.stdout.contains("output"), "{}", left.stdout);

    std::fs::write(&out, "no tensors").unwrap();
    assert_eq!(place.run(RIGHT).code, Some(1));
    std::fs::remove_file(&out).unwrap();
    let left = place.run(RIGHT);
    assert_eq!(left.code, Some(2));
    assert!(left.stderr.contains("out.safetensors: No such file"), "{}", left.stderr);
}

#[test]
fn the_precision_must_be_one_of_the_case() {
    let place = place_with_result();
    let left = place.run(&["compare", "case.safetensors", "out.safetensors", "--precision", "bf16"]);
    assert_eq!(left.code, Some(2));
    let said = "--precision: bf16 needs a case of bf16, found one of f32";
    assert!(left.stderr.contains(said), "{}", left.stderr);
}

#[test]
fn bounds_hold_what_is_judged() {
    let place = place_with_result();
    let bounds = ["--bounds", "bounds.safetensors"];
    assert_eq!(place.run(&[RIGHT, &bounds].concat()).code, Some(0));
    // Without a result, the same.
    let alone = [
        "compare",
        "case.safetensors",
        "--precision",
        "fp32",
        "--bounds",
        "alone.safetensors",
    ];
    assert_eq!(place.run(&alone).code, Some(0));
    let written = |name: &str| std::fs::read(place.path(name)).unwrap();
    assert!(written("alone.safetensors") == written("bounds.safetensors"));
    let file = read_tensors(&place.path("bounds.safetensors")).unwrap();
    let out = read_tensors(&place.path("out.safetensors")).unwrap();
    for (stage, found) in &out {
        let expected = &file[stage];
        assert_eq!(expected.shape(), found.shape(), "{stage}");
        let Some(bound) = file.get(&format!("{stage}.bound")) else {
            assert_eq!(expected.to_f64(), found.to_f64(), "{stage}");
            continue;
        };
        let (expected, bound, found) = (expected.to_f64(), bound.to_f64(), found.to_f64());
        assert!(bound.iter().any(|bound| *bound > 0.0), "{stage}");
        for ((expected, bound), found) in expected.iter().zip(&bound).zip(found) {
            let used = share_used(found, *expected, *bound);
            assert!(used.is_some(), "{stage}: {found} {expected} {bound}");
        }
    }
    assert!(out.len() == 8, "every stage: {:?}", out.keys());
}
