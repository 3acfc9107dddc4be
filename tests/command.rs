//! The command from end to end: right engines, engines with published bugs planted, programs that break the protocol.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use assert_cmd::cargo::cargo_bin;
use binned_experts_check::Tensor;
use binned_experts_check::program::{positions, read_case, read_tensors};
use libtest_mimic::{Arguments, Failed, Trial};
use predicates::prelude::*;
use predicates::str::contains;
use support::{NUMPY, binned_experts, check, check_program, numpy_missing, planted};

/// Bugs of `tests/engines/planted.py` that cases of sizes up to 8 show, which take little time to shrink.
const BUGS_OF_TINY: [&str; 40] = [
    "rows-bounded-by-tokens",
    "eight-slots",
    "empty-group-cursor",
    "odd-counts",
    "slots-unset",
    "stale-slots",
    "padding-on-token-zero",
    "lost-increments",
    "tail-store-overhangs",
    "first-bin-wraps",
    "prefix-not-skipped",
    "duplicates-once",
    "histogram-short",
    "row-list-of-tokens",
    "capacity-off-by-one",
    "capacity-times-experts",
    "capacity-in-one-branch",
    "last-come-kept",
    "heaviest-kept",
    "offset-by-capacity",
    "unstable-sort",
    "weights-renormalised",
    "weight-by-slot",
    "first-slot-weight",
    "weight-ignored",
    "weight-on-input",
    "down-bias-unweighted",
    "down-bias-twice",
    "bias-lost",
    "gate-clamped-below",
    "up-clamped-above",
    "clamped-after",
    "limit-hard-coded",
    "alpha-hard-coded",
    "halves",
    "gate-up-swapped",
    "down-transposed",
    "gate-up-transposed",
    "tf32-operands",
    "exclusive-bins",
];

/// Bugs that need larger sizes or rarer values: the precision they claim, and a number of cases that finds them.
const BUGS_OF_ALL: [(&str, &str, &str); 14] = [
    ("first-experts-only", "fp32", "100"),
    ("scans-one-warp", "fp32", "100"),
    ("dropped-times-zero", "fp32", "100"),
    ("other-experts-times-zero", "fp32", "100"),
    ("limit-lost-on-wide-path", "fp32", "100"),
    ("nan-swallowed", "fp32", "100"),
    ("contraction-tail", "fp32", "100"),
    ("alternate-columns", "fp32", "300"),
    ("last-tile-group", "fp32", "20"),
    ("count-rounded-down", "fp32", "20"),
    ("last-chunk", "fp32", "20"),
    ("f16-sums", "f16", "300"),
    ("bf16-sums", "bf16", "300"),
    ("combined-in-bf16", "bf16", "600"),
];

/// Bugs that need thousands of assignments. Such cases take long to shrink, so these are run on files, which are not
/// shrunk.
const BUGS_OF_MANY: [&str; 7] = [
    "sorts-one-block",
    "row-count-wraps",
    "row-offset-wraps",
    "grid-axis",
    "histogram-race",
    "histogram-race-now-and-then",
    "counts-in-bf16",
];

/// Bugs that show otherwise, with the profile drawn from and the verdict.
const OTHER_BUGS: [(&str, &str, &str); 4] = [
    ("divides-by-tokens", "no-tokens", "refused"),
    ("capacity-refused", "capacity-huge", "refused"),
    ("rows-kept", "capacity-zero", "wrong-shape"),
    ("last-bin-unwritten", "many-experts", "disagree"),
];

/// Misbehaviours and their verdicts. All but the one that prints first are right on cases whose K is not 2.
const MISBEHAVIOURS: [(&str, &str); 10] = [
    ("crash", "crashed"),
    ("crash-once-in-ten", "crashed"),
    ("garbage", "garbage"),
    ("prints-first", "garbage"),
    ("no-output", "missing-output"),
    ("other-name", "missing-output"),
    ("half-file", "unreadable"),
    ("wrong-shape", "wrong-shape"),
    ("wrong-type", "wrong-type"),
    ("error", "refused"),
];

macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        vec![$(trial(stringify!($test), $test)),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let mut trials = trials![
        engines_are_listed,
        the_reference_agrees_quietly,
        every_line_of_json_parses,
        goldens_are_run_with_each_order,
        run_writes_the_output_and_the_stages,
        a_served_engine_agrees,
        a_server_answers_what_is_wrong_and_goes_on,
        case_and_replay_agree,
        text_comes_from_standard_input,
        what_cannot_run_has_status_2,
        programs_that_are_no_engines_fail,
        a_reader_that_stops_ends_the_run_quietly,
    ];
    let missing = numpy_missing();
    if let Some(reason) = &missing {
        eprintln!("tests of engines in Python: {reason}");
    }
    let fails = std::env::var_os("CI").is_some();
    trials.extend(python_trials().into_iter().map(|trial| match &missing {
        None => trial,
        Some(reason) if fails => {
            let reason = reason.clone();
            Trial::test(trial.name().to_owned(), move || Err(Failed::from(reason)))
        }
        Some(_) => trial.with_ignored_flag(true),
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn python_trials() -> Vec<Trial> {
    let mut trials = trials![
        the_planted_engine_without_a_bug_agrees,
        every_planted_engine_is_tested,
        bugs_of_many_assignments_are_found,
        a_wrong_stage_is_named,
        a_hanging_program_is_started_anew,
        failing_cases_are_saved_and_replayed,
        numpy_agrees_on_goldens,
        numpy_takes_an_order,
        sums_of_16_bits_are_refused_where_terms_cancel,
    ];
    for precision in ["fp32", "tf32", "bf16", "f16"] {
        trials.push(trial(&format!("numpy_agrees::{precision}"), move || {
            numpy_agrees(precision)
        }));
        trials.push(trial(
            &format!("numpy_agrees_on_strained_values::{precision}"),
            move || numpy_agrees_on_strained_values(precision),
        ));
    }
    for name in BUGS_OF_TINY {
        trials.push(trial(&format!("bug::{name}"), move || {
            bug_is_found(name, "fp32", &["--cases", "150", "--profile", "tiny"], "disagree");
        }));
    }
    for (name, precision, cases) in BUGS_OF_ALL {
        trials.push(trial(&format!("bug::{name}"), move || {
            bug_is_found(name, precision, &["--cases", cases], "disagree");
        }));
    }
    for (name, profile, verdict) in OTHER_BUGS {
        trials.push(trial(&format!("bug::{name}"), move || {
            let arguments = ["--cases", "60", "--profile", profile];
            bug_is_found(name, "fp32", &arguments, verdict);
        }));
    }
    for (name, verdict) in MISBEHAVIOURS {
        trials.push(trial(&format!("misbehaviour::{name}"), move || {
            misbehaviour_is_named(name, verdict)
        }));
    }
    trials
}

fn trial(name: &str, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

fn engines_are_listed() {
    let listed = contains("reference")
        .and(contains("definition"))
        .and(contains("command"));
    binned_experts(&["engines"]).assert().success().stdout(listed);
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

fn numpy_takes_an_order() {
    let arguments = ["--command", NUMPY, "--precision", "fp32"];
    written_tensors_read_back(&arguments, &["bins", "output", "sorted_indices"]);
}

/// `run` of a golden in the order that PyTorch took, against PyTorch's own output.
fn written_tensors_read_back(engine: &[&str], names: &[&str]) {
    let golden = "tests/goldens/skewed.safetensors";
    let directory = tempfile::tempdir().unwrap();
    let written = directory.path().join("result.safetensors");
    binned_experts(&["run", golden, "--order", "cpu.sorted_indices", "--out"])
        .arg(&written)
        .args(engine)
        .assert()
        .success()
        .stdout("")
        .stderr("");
    let case = read_case(&Path::new(env!("CARGO_MANIFEST_DIR")).join(golden)).unwrap();
    let tensors = read_tensors(&written).unwrap();
    assert_eq!(Vec::from_iter(tensors.keys()), names);
    assert_eq!(tensors["output"].shape(), case.problem.output_shape());
    let (found, right) = (tensors["output"].to_f64(), case.others["cpu.output"].to_f64());
    assert!(
        found
            .iter()
            .zip(&right)
            .all(|(found, right)| (found - right).abs() <= 1e-4)
    );
    let order = |tensor: &Tensor| positions("order", tensor).unwrap();
    assert_eq!(
        order(&tensors["sorted_indices"]),
        order(&case.others["cpu.sorted_indices"])
    );
}

fn a_served_engine_agrees() {
    let program = format!("{} serve reference", cargo_bin("binned-experts").display());
    let checked = check(&["--command", &program, "--precision", "fp32", "--cases", "60"]);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 60));
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

fn text_comes_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let spec = binned_experts(&["case", "--seed", "3", "--out"])
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

fn what_cannot_run_has_status_2() {
    let program = |program| ["check", "--precision", "fp32", "--command", program];
    let cases: [(&[&str], &str); 9] = [
        (&program("/nowhere/kernel"), "could not start \"/nowhere/kernel\""),
        (&program(""), "expected a program"),
        (&program("'unclosed"), "expected a program"),
        (&["check", "--command", "true"], "--precision"),
        (&["check", "--engine", "nobody"], "; found nobody"),
        (&["check", "--engine", "definition"], "it cannot be checked"),
        (&["check", "--golden", "nowhere"], "could not read nowhere"),
        (&["check", "--profile", "nothing"], "expected one of tiny"),
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

fn programs_that_are_no_engines_fail() {
    for (program, verdict) in [("sleep 1000", "not-ready"), ("false", "crashed"), ("cat", "garbage")] {
        let arguments = [
            "--cases",
            "16",
            "--profile",
            "tiny",
            "--time-limit",
            "0.05",
            "--start-limit",
            "0.05",
        ];
        let checked = check_program(program, "fp32", &arguments);
        assert_eq!(checked.code, Some(1), "{program}");
        assert_eq!(checked.cases[0]["verdict"], verdict, "{program}");
        assert_eq!(checked.totals["totals"][0]["agree"], 0, "{program}");
    }
}

fn numpy_agrees(precision: &str) {
    let checked = check_program(NUMPY, precision, &["--cases", "300"]);
    assert_eq!(checked.first_complaint(), None);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 300));
}

fn numpy_agrees_on_strained_values(precision: &str) {
    let arguments = ["--cases", "150", "--profile", "wide-range", "--profile", "cancelling"];
    let checked = check_program(NUMPY, precision, &arguments);
    assert_eq!(checked.first_complaint(), None);
    assert_eq!((checked.code, checked.cases.len()), (Some(0), 150));
}

fn numpy_agrees_on_goldens() {
    let checked = check_program(NUMPY, "fp32", &["--golden", "tests/goldens", "--cases", "0"]);
    assert_eq!((checked.code, checked.complaints()), (Some(0), vec!["skip"]));
    assert!(checked.verdicts().contains(&"agree"));
}

fn the_planted_engine_without_a_bug_agrees() {
    for precision in ["fp32", "bf16", "f16"] {
        let checked = check_program(&planted("right"), precision, &["--cases", "60"]);
        assert_eq!(checked.first_complaint(), None);
    }
}

fn every_planted_engine_is_tested() {
    let listed = std::process::Command::new("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines/planted.py"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let tested: BTreeSet<&str> = BUGS_OF_TINY
        .into_iter()
        .chain(BUGS_OF_ALL.iter().map(|bug| bug.0))
        .chain(BUGS_OF_MANY)
        .chain(OTHER_BUGS.iter().map(|bug| bug.0))
        .chain(MISBEHAVIOURS.iter().map(|bug| bug.0))
        .chain(["right", "hang"])
        .collect();
    assert_eq!(listed.lines().collect::<BTreeSet<&str>>(), tested);
}

fn bug_is_found(name: &str, precision: &str, arguments: &[&str], verdict: &str) {
    let checked = check_program(&planted(name), precision, arguments);
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec![verdict]));
    let complaint = checked.first_complaint().unwrap();
    assert!(complaint["shrunk"].is_object(), "{complaint}");
}

/// In about half of the cases; of any values, in one of a hundred.
fn sums_of_16_bits_are_refused_where_terms_cancel() {
    for (name, precision) in [("bf16-sums", "bf16"), ("f16-sums", "f16")] {
        let arguments = ["--cases", "60", "--profile", "cancelling", "--profile", "tile-edges"];
        let checked = check_program(&planted(name), precision, &arguments);
        let refused = checked
            .verdicts()
            .iter()
            .filter(|verdict| **verdict == "disagree")
            .count();
        assert!(refused >= 20, "{name}: refused on {refused} of 60");
    }
}

fn bugs_of_many_assignments_are_found() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..24 {
        let seed = seed.to_string();
        binned_experts(&["case", "--seed", &seed, "--profile", "many-assignments", "--out"])
            .arg(directory.path().join(format!("{seed}.safetensors")))
            .assert()
            .success();
    }
    let directory = directory.path().to_str().unwrap();
    for name in BUGS_OF_MANY {
        let checked = check_program(&planted(name), "fp32", &["--golden", directory, "--cases", "0"]);
        assert_eq!(
            (checked.code, checked.complaints()),
            (Some(1), vec!["disagree", "skip"]),
            "{name}"
        );
    }
}

fn a_wrong_stage_is_named() {
    let checked = check_program(&planted("exclusive-bins"), "fp32", &["--cases", "20"]);
    assert_eq!(checked.first_complaint().unwrap()["stage"], "bins");
}

fn a_hanging_program_is_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let program = planted(&format!("hang {}", mark.display()));
    let arguments = ["--cases", "20", "--profile", "tiny", "--time-limit", "3"];
    let checked = check_program(&program, "fp32", &arguments);
    let verdicts = checked.verdicts();
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec!["timed-out"]));
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "agree").count(), 19);
    assert_eq!(*verdicts.last().unwrap(), "agree");
}

fn misbehaviour_is_named(name: &str, verdict: &str) {
    let checked = check_program(&planted(name), "fp32", &["--cases", "30", "--profile", "tiny"]);
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec![verdict]));
    assert_eq!(checked.verdicts().contains(&"agree"), name != "prints-first");
    assert_eq!(checked.cases.len(), 30);
}

fn failing_cases_are_saved_and_replayed() {
    let program = planted("error");
    let checked = check_program(&program, "fp32", &["--cases", "40", "--profile", "tiny"]);
    let seed = checked.first_complaint().unwrap()["case"]
        .as_str()
        .unwrap()
        .replace(' ', "-");
    let saved = checked.saved();
    for name in [format!("command-{seed}.toml"), format!("command-{seed}-shrunk.toml")] {
        let path = saved.iter().find(|path| path.ends_with(&name)).unwrap();
        let replayed = binned_experts(&["replay", "--command", &program, "--precision", "fp32"])
            .arg(path)
            .assert();
        replayed
            .code(1)
            .stdout(contains("refused: ValueError('no kernel for K = 2')"));
    }
}
