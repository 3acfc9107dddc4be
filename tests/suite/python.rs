//! The engines in Python of `examples/`.

use std::process::Command;

use libtest_mimic::Trial;

use crate::runner::{check, check_program, written_tensors_read_back};
use crate::trials::{Need, trial};

const NUMPY: &str = "python3 examples/engines/numpy_engine.py";
const TORCH: &str = "python3 examples/engines/torch_engine.py";

pub(crate) fn trials() -> Vec<Trial> {
    let numpy = Need::new("numpy", Some("CI"), || missing(&["numpy"]));
    let torch = Need::new("torch", None, || missing(&["torch", "safetensors"]));
    vec![
        trial(&[&numpy], numpy_agrees),
        trial(&[&numpy], numpy_agrees_on_every_layer),
        trial(&[&torch], torch_agrees),
        trial(&[&torch], torch_agrees_on_every_layer),
    ]
}

/// Why python3 cannot import modules.
fn missing(modules: &[&str]) -> Option<String> {
    let import = format!("import {}", modules.join(", "));
    match Command::new("python3").args(["-c", &import]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            let last = stderr.lines().last().unwrap_or_default();
            Some(format!("python3 cannot {import}: {last}"))
        }
        Err(error) => Some(format!("python3 cannot be started: {error}")),
    }
}

fn numpy_agrees() {
    for precision in ["fp32", "bf16", "f16"] {
        agrees(NUMPY, precision);
    }
    let arguments = ["--command", NUMPY, "--precision", "fp32"];
    written_tensors_read_back(&arguments, &["bins", "output", "sorted_indices"]);
}

fn numpy_agrees_on_every_layer() {
    agrees_where_it_says(NUMPY, "", 200);
}

fn torch_agrees() {
    agrees(TORCH, "fp32");
}

fn torch_agrees_on_every_layer() {
    agrees_where_it_says(TORCH, "precision = ['fp32', 'fp64']", 200);
}

/// On the layers and ids of its own domain, as far as another admits them.
fn agrees_where_it_says(program: &str, domain: &str, cases: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("domain.toml");
    std::fs::write(&path, domain).unwrap();
    let number = cases.to_string();
    let path = path.to_str().unwrap();
    let checked = check(&["--command", program, "--domain", path, "--cases", &number]);
    assert_eq!((checked.code, checked.first_complaint()), (Some(0), None));
    let coverage = &checked.totals["coverage"];
    for situation in ["another layer", "ids of no local expert"] {
        let counted = coverage[situation].as_u64().unwrap();
        assert!(counted * 2 > cases as u64, "{situation}: {coverage}");
    }
}

/// On generated cases, and on the goldens of the element type.
fn agrees(program: &str, precision: &str) {
    let checked = check_program(program, precision, &["--golden", "tests/goldens", "--cases", "120"]);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec!["skip"]));
    let agreeing = checked.verdicts().iter().filter(|verdict| **verdict == "agree").count();
    assert!(agreeing > 120, "{precision}: {agreeing} agree");
}
