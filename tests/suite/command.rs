//! The command from end to end.

use std::process::Stdio;

use assert_cmd::cargo::cargo_bin;
use binned_experts_check::case::file::read_tensors;
use libtest_mimic::Trial;
use predicates::prelude::*;
use predicates::str::contains;

use crate::runner::{binned_experts, check, check_program, written_tensors_read_back};
use crate::trials::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(&[], engines_are_listed),
        trial(&[], former_names_of_engines_are_taken_with_a_note),
        trial(&[], the_reference_agrees_quietly),
        trial(&[], every_line_of_json_parses),
        trial(&[], goldens_are_run_with_each_order),
        trial(&[], run_writes_the_output_and_the_stages),
        trial(&[], a_served_engine_agrees),
        trial(&[], a_precision_without_a_program_draws_cases_of_its_element_type),
        trial(&[], a_server_answers_what_is_wrong_and_goes_on),
        trial(&[], case_and_replay_agree),
        trial(&[], a_sampled_case_is_judged_by_replay_and_compare),
        trial(&[], text_comes_from_standard_input),
        trial(&[], what_cannot_run_has_status_2),
        trial(&[], programs_that_are_no_engines_fail),
        trial(&[], a_reader_that_stops_ends_the_run_quietly),
    ]
}

fn engines_are_listed() {
    let listed = contains("reference")
        .and(contains("definition"))
        .and(contains("command"));
    binned_experts(&["engines"]).assert().success().stdout(listed);
}

fn former_names_of_engines_are_taken_with_a_note() {
    for (former, name) in [
        ("host", "emulator-portable"),
        ("host-tensor-cores", "emulator-hopper"),
        ("cuda", "cuda-hopper"),
    ] {
        let note = format!("note: the engine {former} is now called {name}; the old name goes with the next release\n");
        // Where an engine is not available, that is told by the new name.
        let mut command = binned_experts(&["check", "--engine", former, "--cases", "1"]);
        let output = command.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        let rest = stderr
            .strip_prefix(&note)
            .unwrap_or_else(|| panic!("{former}: {stderr}"));
        match output.status.code() {
            Some(0) => assert_eq!(rest, ""),
            code => assert!(
                code == Some(2) && rest.contains(&format!("{name}: not available")),
                "{rest}"
            ),
        }
    }
}

fn the_reference_agrees_quietly() {
    let plain = predicate::function(|text: &str| !text.contains(['\r', '\x1b']));
    let last = predicate::function(|text: &str| text.lines().last().is_some_and(|line| line.starts_with("AGREE")));
    let mut command = binned_experts(&["check", "--engine", "reference", "--cases", "50"]);
    command.assert().success().stdout(plain.and(last)).stderr("");
}

fn every_line_of_json_parses() {
    let checked = check(&["--engine", "reference", "--engine", "reference", "--cases", "40"]);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 80));
    assert!(
        checked
            .cases
            .iter()
            .all(|case| case["verdict"] == "agree" && case["spec"].is_object())
    );
    assert_eq!(checked.totals["agrees"], true);
    assert_eq!(checked.totals["totals"][1]["agree"], 40);
    assert!(checked.saved().is_empty());
}

fn goldens_are_run_with_each_order() {
    let checked = check(&["--engine", "reference", "--golden", "tests/goldens", "--cases", "0"]);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 3 * 29));
}

fn run_writes_the_output_and_the_stages() {
    written_tensors_read_back(
        &["--engine", "reference"],
        &[
            "activated",
            "bins",
            "expert_output",
            "gate_up",
            "gathered",
            "output",
            "selected_weights",
            "sorted_indices",
        ],
    );
}

fn a_served_engine_agrees() {
    let program = format!("{} serve reference", cargo_bin("binned-experts").display());
    let checked = check(&["--command", &program, "--precision", "fp32", "--cases", "60"]);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 60));
}

fn a_precision_without_a_program_draws_cases_of_its_element_type() {
    let checked = check(&["--engine", "reference", "--precision", "bf16", "--cases", "20"]);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 20));
    for case in &checked.cases {
        assert_eq!(case["spec"]["element"], "bf16", "{case}");
    }
}

fn a_server_answers_what_is_wrong_and_goes_on() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/skewed.safetensors");
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("result.safetensors");
    let request = |case: &str| serde_json::json!({"case": case, "output": &written}).to_string();
    let lines = ["no JSON".to_owned(), request("nowhere"), request(golden)].join("\n");
    let output = binned_experts(&["serve", "reference"])
        .write_stdin(lines)
        .output()
        .unwrap();
    assert!(output.status.success());
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<serde_json::Value> = answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(answers[0]["error"].is_string() && answers[1]["error"].is_string());
    assert_eq!(answers[2], serde_json::json!({"ok": true}));
    assert!(read_tensors(&written).unwrap().contains_key("expert_output"));
    let mut unknown = binned_experts(&["serve", "nothing"]);
    unknown.assert().code(2).stderr(contains("found nothing"));
    let mut image = binned_experts(&["serve", "reference", "--image", golden]);
    image.assert().code(2);
}

fn case_and_replay_agree() {
    let directory = tempfile::tempdir().unwrap();
    let (file, text) = (directory.path().join("3.safetensors"), directory.path().join("3.toml"));
    let output = binned_experts(&["case", "--seed", "3", "--out"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(output.status.success());
    std::fs::write(&text, &output.stdout).unwrap();
    for path in [&file, &text] {
        let mut command = binned_experts(&["replay"]);
        command
            .arg(path)
            .assert()
            .success()
            .stdout(contains("reference: agree"))
            .stderr("");
    }
}

fn a_sampled_case_is_judged_by_replay_and_compare() {
    let counted = contains("of 300 tokens judged by the definition, all screened").and(contains("reference: agree"));
    binned_experts(&["replay", SAMPLED, "--engine", "reference"])
        .assert()
        .success()
        .stdout(counted);

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (case, output) = (path("case.safetensors"), path("output.safetensors"));
    binned_experts(&["case", SAMPLED, "--out", &case]).assert().success();
    let run = ["run", &case, "--engine", "reference", "--out", &output];
    binned_experts(&run).assert().success();
    binned_experts(&["compare", SAMPLED, &output, "--precision", "fp32"])
        .assert()
        .success()
        .stdout(contains(": agree"));
    binned_experts(&["compare", SAMPLED, "--precision", "fp32", "--bounds", &output])
        .assert()
        .code(2)
        .stderr(contains("expected a case that is judged whole"));
}

fn text_comes_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    // With the usual alpha and limit, so that the file has one line of metadata: several have no order.
    let spec = binned_experts(&["case", "--seed", "1", "--out"])
        .arg(directory.path().join("first.safetensors"))
        .output()
        .unwrap()
        .stdout;
    let second = directory.path().join("second.safetensors");
    let mut command = binned_experts(&["case", "-", "--out"]);
    command
        .arg(&second)
        .write_stdin(spec.clone())
        .assert()
        .success()
        .stdout(spec.clone());
    let first = std::fs::read(directory.path().join("first.safetensors")).unwrap();
    assert!(std::fs::read(&second).unwrap() == first);
    let mut command = binned_experts(&["replay", "-"]);
    command
        .write_stdin(spec)
        .assert()
        .success()
        .stdout(contains("reference: agree"));
}

/// A case of which some tokens are judged.
const SAMPLED: &str = "tests/cases/015-sampled.toml";

fn what_cannot_run_has_status_2() {
    let program = |program| ["check", "--precision", "fp32", "--command", program];
    let cases: [(&[&str], &str); 12] = [
        (&program("/nowhere/kernel"), "could not start \"/nowhere/kernel\""),
        (&program(""), "expected a program"),
        (&program("'unclosed"), "expected a program"),
        (&["check", "--command", "true"], "or a precision to be named"),
        (
            &["check", "--engine", "reference", "--precision", "tf32"],
            "expected engines that claim tf32 on f32, found reference, which claims fp32",
        ),
        (&["check", "--engine", "nobody"], "; found nobody"),
        (&["check", "--engine", "definition"], "it cannot be checked"),
        (&["check", "--golden", "nowhere"], "could not read nowhere"),
        (&["check", "--profile", "nothing"], "expected one of tiny"),
        (&["check", "--model", "nothing"], "expected one of mixtral-8x7b"),
        (&["check", "--tokens", "8"], "--model <NAME>"),
        (&["replay", "nowhere.toml"], "nowhere.toml"),
    ];
    for (arguments, message) in cases {
        binned_experts(arguments)
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(message));
    }
}

fn programs_that_are_no_engines_fail() {
    for (program, verdict) in [("sleep 1000", "not-ready"), ("false", "crashed"), ("cat", "garbage")] {
        let arguments = ["--cases", "16", "--profile", "tiny", "--start-limit", "0.5"];
        let checked = check_program(program, "fp32", &arguments);
        assert_eq!(checked.code, Some(1), "{program}");
        assert_eq!(checked.cases[0]["verdict"], verdict, "{program}");
        assert_eq!(checked.totals["totals"][0]["agree"], 0, "{program}");
    }
}

/// As `| head` does. The run ends before its last line.
fn a_reader_that_stops_ends_the_run_quietly() {
    let arguments: [&[&str]; 3] = [
        &[
            "check",
            "--format",
            "json",
            "--engine",
            "reference",
            "--cases",
            "1000000",
        ],
        &["replay", "tests/cases/009-small-limit.toml"],
        &["engines"],
    ];
    for arguments in arguments {
        // Gone before the first line, so that it does not matter how fast the command is.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(cargo_bin("binned-experts"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &*stderr), (Some(2), ""), "{arguments:?}");
    }
}
