//! Kernels that take some cases only: what is drawn for them, what they decline, and how a run ends.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use serde_json::Value;
use tempfile::TempDir;

use crate::planted::{Bug, Outside, PLANTED, RESTRICTED, name_of};
use crate::runner::{Checked, binned_experts, check, planted};
use crate::trials::trial;

/// What many published kernels take: multiples of 64, distinct experts, no drops, fixed alpha and limit, finite inputs,
/// at least one token.
pub(crate) const MULTIPLES: &str = "
    tokens = { min = 1 }
    hidden = { multiple_of = 64 }
    intermediate = { multiple_of = 64 }
    drops = false
    duplicates = false
    alpha = [1.702]
    limit = [7.0]
    finite = true
";
/// Few experts, powers of two of them a token, and H = I.
const SQUARE: &str = "
    precision = ['bf16']
    intermediate = { equals = 'hidden' }
    experts = { max = 256 }
    top_k = { power_of_two = true, max = 16 }
";
/// One shape.
const ONE_SHAPE: &str = "
    precision = ['fp32']
    tokens = { one_of = [48] }
    hidden = { one_of = [40] }
    intermediate = { one_of = [24] }
    experts = { one_of = [8] }
    top_k = { one_of = [2] }
";
/// What an engine of this name takes that refuses T = 0 and has a limit on K.
const SOME_TOKENS: &str = "tokens = { min = 1 }\ntop_k = { max = 9 }";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(&[], every_case_of_multiples_is_inside),
        trial(&[], every_case_of_a_square_is_inside),
        trial(&[], every_case_of_one_shape_is_inside),
        trial(&[], declined_cases_are_counted_by_reason),
        trial(&[], too_few_judged_cases_are_inconclusive),
        trial(&[], what_is_declined_inside_a_domain_fails_where_that_is_asked),
        trial(&[], a_wrong_result_is_not_shrunk_to_a_refusal),
        trial(&[], a_program_is_asked_for_its_domain),
        trial(&[], a_domain_without_sense_is_refused),
        trial(&[], a_profile_that_the_domain_rules_out_is_refused),
    ]
}

/// A folder with a domain, and an engine that takes nothing else.
struct Kernel {
    folder: TempDir,
}

impl Kernel {
    fn new(domain: &str) -> Kernel {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("domain.toml"), domain).unwrap();
        Kernel { folder }
    }

    fn domain(&self) -> PathBuf {
        self.folder.path().join("domain.toml")
    }

    /// Its command line.
    fn program(&self, outside: Outside, bug: Bug) -> String {
        let own = std::env::current_exe().unwrap();
        let (outside, bug) = (name_of(outside), name_of(bug));
        let domain = self.domain();
        let words = [
            own.to_str().unwrap(),
            PLANTED,
            RESTRICTED,
            domain.to_str().unwrap(),
            &outside,
            &bug,
        ];
        shlex::try_join(words).unwrap()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("expected a number, found {value}"))
}

/// Cases for an engine that refuses whatever is outside.
fn every_case_is_inside(domain: &str, cases: u64) -> Checked {
    let kernel = Kernel::new(domain);
    let program = kernel.program(Outside::Refuses, Bug::Right);
    let checked = check(&[
        "--command",
        &program,
        "--cases",
        &cases.to_string(),
        "--shrink-budget",
        "0",
    ]);
    let totals = &checked.totals["totals"][0];
    let counts = [
        &totals["agree"],
        &totals["declined"],
        &totals["skipped"],
        &totals["fault"],
    ]
    .map(count);
    assert_eq!(
        (checked.code, counts),
        (Some(0), [cases, 0, 0, 0]),
        "{}",
        checked.totals
    );
    checked
}

fn every_case_of_multiples_is_inside() {
    let checked = every_case_is_inside(&format!("precision = ['fp32']{MULTIPLES}"), 30);
    assert_eq!(checked.totals["domain"]["hidden"]["multiple_of"], 64);
    let ruled_out = checked.totals["ruled_out"].as_array().unwrap();
    for name in ["no-tokens", "uniform", "capacity-zero", "nan-in-token", "huge-gates"] {
        assert!(ruled_out.iter().any(|profile| profile == name), "{name}");
    }
}

fn every_case_of_a_square_is_inside() {
    every_case_is_inside(SQUARE, 100);
}

fn every_case_of_one_shape_is_inside() {
    every_case_is_inside(ONE_SHAPE, 300);
}

/// Without a domain the engine is asked everything. What it declines is no failure.
fn declined_cases_are_counted_by_reason() {
    let kernel = Kernel::new(SOME_TOKENS);
    let program = kernel.program(Outside::Declines, Bug::Right);
    let checked = check(&["--command", &program, "--precision", "fp32", "--cases", "200"]);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec!["declined"]));
    let totals = &checked.totals["totals"][0];
    let reasons = totals["declines"].as_array().unwrap();
    let of = |text: &str| {
        let declined = reasons
            .iter()
            .find(|declined| declined["reason"].as_str().unwrap().contains(text));
        count(&declined.unwrap_or_else(|| panic!("{text}: {totals}"))["cases"])
    };
    // Numbers are replaced, so that all values of K are one reason.
    let (tokens, slots) = (
        of("tokens: expected T ≥ #, found #"),
        of("top_k: expected K ≤ #, found #"),
    );
    assert!(tokens > 1 && slots > 5, "{tokens}, {slots}");
    assert_eq!(count(&totals["declined"]), tokens + slots);
    assert_eq!(count(&totals["declined_inside"]), 0);
    let saved = tempfile::tempdir().unwrap();
    let mut report = binned_experts(&["check", "--command", &program, "--precision", "fp32", "--cases", "200"]);
    let report = report.arg("--save").arg(saved.path()).output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    let line = format!("command: {slots} cases declined, first seed ");
    assert!(report.contains(&line), "{report}");
    assert!(report.contains("top_k: expected K ≤ #, found #\n"), "{report}");
}

fn too_few_judged_cases_are_inconclusive() {
    let kernel = Kernel::new("hidden = { multiple_of = 64 }");
    let program = kernel.program(Outside::Declines, Bug::Right);
    let arguments = ["check", "--command", &program, "--precision", "fp32", "--cases", "100"];
    let ended = |more: &[&str]| {
        let saved = tempfile::tempdir().unwrap();
        let mut command = binned_experts(&[&arguments[..], more].concat());
        let output = command.arg("--save").arg(saved.path()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, report) = ended(&[]);
    assert_eq!(code, Some(2), "{report}");
    assert!(report.contains("INCONCLUSIVE: command was compared on"), "{report}");
    assert!(report.contains("cases, expected at least 10"), "{report}");
    assert!(report.contains("hidden: expected H % # = #, found #"), "{report}");
    assert_eq!(ended(&["--at-least", "1"]).0, Some(0));
    assert_eq!(ended(&["--at-least", "50"]).0, Some(2));
}

/// The domain that is declared is wider than what the kernel takes.
fn what_is_declined_inside_a_domain_fails_where_that_is_asked() {
    let (kernel, declared) = (Kernel::new(SOME_TOKENS), Kernel::new("top_k = { max = 9 }"));
    let program = kernel.program(Outside::Declines, Bug::Right);
    let path = declared.domain();
    let arguments = [
        "--command",
        &program,
        "--precision",
        "fp32",
        "--domain",
        text(&path),
        "--cases",
        "200",
    ];
    let checked = check(&arguments);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec!["declined"]));
    let totals = &checked.totals["totals"][0];
    assert!(count(&totals["declined_inside"]) > 1, "{totals}");
    assert_eq!(totals["declines"].as_array().unwrap().len(), 1, "{totals}");
    let strict = check(&[&arguments[..], &["--strict"]].concat());
    assert_eq!((strict.code, &strict.totals["agrees"]), (Some(1), &Value::Bool(false)));
}

/// An off-by-one, and a refusal of T = 0, which is smaller than every case that shows the off-by-one.
fn a_wrong_result_is_not_shrunk_to_a_refusal() {
    let kernel = Kernel::new("tokens = { min = 1 }");
    let program = kernel.program(Outside::Refuses, Bug::CapacityOffByOne);
    let checked = check(&[
        "--command",
        &program,
        "--precision",
        "fp32",
        "--cases",
        "60",
        "--profile",
        "tiny",
    ]);
    assert_eq!(checked.code, Some(1));
    let shrunk = checked
        .cases
        .iter()
        .map(|case| &case["shrunk"])
        .find(|shrunk| !shrunk.is_null());
    let shrunk = shrunk.unwrap();
    assert_eq!(shrunk["verdict"], "disagree", "{shrunk}");
    assert_ne!(shrunk["spec"]["sequence"], 0, "{shrunk}");
    let all = check(&[
        "--command",
        &program,
        "--precision",
        "fp32",
        "--cases",
        "200",
        "--shrink-budget",
        "0",
    ]);
    let kinds = all.totals["kinds"].as_array().unwrap();
    let texts: Vec<&str> = kinds.iter().map(|kind| kind["text"].as_str().unwrap()).collect();
    assert!(texts.contains(&"output: wrong values"), "{texts:?}");
    assert!(
        texts
            .iter()
            .any(|text| text.contains("tokens: expected T ≥ #, found #")),
        "{texts:?}"
    );
}

/// Without a precision the program is asked. A program of protocol 1 has to be named one.
fn a_program_is_asked_for_its_domain() {
    let kernel = Kernel::new(SQUARE);
    let program = kernel.program(Outside::Refuses, Bug::Right);
    let checked = check(&["--command", &program, "--cases", "30"]);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec![]));
    assert!(checked.cases.iter().all(|case| case["engine"] == "restricted"));
    assert!(checked.cases.iter().all(|case| case["spec"]["element"] == "bf16"));
    let served = format!(
        "{} serve reference",
        assert_cmd::cargo::cargo_bin("binned-experts").display()
    );
    let checked = check(&["--command", &served, "--cases", "60"]);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec![]));
    let has_order = |case: &&Value| !case["spec"]["order"].is_null();
    assert!(
        checked.cases.iter().any(|case| has_order(&case)),
        "the reference takes explicit orders"
    );
    let garbage = planted(crate::planted::Misbehaviour::Garbage);
    let mut unknown = binned_experts(&["check", "--command", &garbage]);
    let unknown = unknown.output().unwrap();
    let stderr = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains(r#"expected an answer to {"describe": true}, or a precision to be named"#),
        "{stderr}"
    );
}

fn a_domain_without_sense_is_refused() {
    let kernel = Kernel::new("hidden = { multiple_of = 0 }");
    let mut command = binned_experts(&["check", "--engine", "reference", "--domain", text(&kernel.domain())]);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("hidden.multiple_of: expected at least 1, found 0"),
        "{stderr}"
    );
}

fn a_profile_that_the_domain_rules_out_is_refused() {
    let kernel = Kernel::new("tokens = { min = 1 }");
    let arguments = ["check", "--engine", "reference", "--profile", "no-tokens", "--domain"];
    let output = binned_experts(&arguments).arg(kernel.domain()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr.contains("profile no-tokens: expected one that the domain does not rule out"),
        "{stderr}"
    );
}
