//! Many cases of a program that does everything.

use crate::support::{Place, rude};

/// Cases of the soak; `SOAK_CASES` asks for another number.
const CASES: usize = 200;

#[test]
fn every_case_has_one_verdict_and_nothing_is_left() {
    let cases = std::env::var("SOAK_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    let place = Place::new();
    let program = rude("soak 1");
    let number = cases.to_string();
    let limits = ["--time-limit", "0.5", "--start-limit", "0.5"];
    let arguments = [
        "check",
        "--command",
        &program,
        "--precision",
        "fp32",
        "--profile",
        "tiny",
        "--cases",
        &number,
        "--format",
        "json",
    ];
    let left = place.run(&[&arguments[..], &limits].concat());
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    let mut lines: Vec<serde_json::Value> = left
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let totals = &lines.pop().unwrap()["totals"][0];
    assert_eq!(lines.len(), cases);
    for (seed, line) in lines.iter().enumerate() {
        assert_eq!(line["case"], format!("seed {seed}"));
    }
    let count = |name: &str| totals[name].as_u64().unwrap() as usize;
    assert_eq!(
        count("agree") + count("disagree") + count("fault") + count("skipped"),
        cases
    );
    let of_kind = |kind: &str| lines.iter().filter(|line| line["verdict"] == kind).count();
    assert_eq!(of_kind("agree"), count("agree"));
    for kind in [
        "agree",
        "disagree",
        "garbage",
        "crashed",
        "unreadable",
        "missing-output",
        "refused",
    ] {
        assert!(of_kind(kind) > 0, "no case is {kind}");
    }
    assert!(of_kind("timed-out") + of_kind("not-ready") > 0);
    place.assert_nothing_left();
}
