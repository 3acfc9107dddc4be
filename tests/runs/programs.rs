//! What a program does is its own fault, ends in time, and is told so that it can be read.

use std::time::{Duration, Instant};

use crate::support::{Place, rude};

/// The first case of one that misbehaves always, and what the report says of it.
const SAID: [(&str, &str); 12] = [
    ("fifo", "expected a plain file, found a device, a pipe or a socket"),
    ("symlink", "expected a plain file, found a symbolic link"),
    ("directory", "expected a plain file, found a directory"),
    ("sparse", "result file: expected at most"),
    ("nothing", "found no result file"),
    ("binary", "on stdout, found"),
    ("garbage", "bytes more"),
    ("escapes", "refused: \\u{1b}[31mred\\u{1b}[0m\\u{0}\\u{d}\\u{7} end"),
    ("die", "exit status: 3"),
    ("die", "\\u{1b}[31mTraceback: the last words"),
    ("orphan", "exit status: 4"),
    ("wrong", "values wrong"),
];

#[test]
fn misbehaviour_is_a_fault_of_the_program_and_is_said_in_plain_text() {
    for (mode, said) in SAID {
        let place = Place::new();
        let left = place.check(mode, &["--cases", "2"]);
        assert_eq!(left.code, Some(1), "{mode}: {}", left.stderr);
        assert!(left.stdout.contains(said), "{mode}: {}", left.stdout);
        let plain = |text: &str| {
            text.chars()
                .all(|character| !character.is_control() || character == '\n')
        };
        assert!(
            plain(&left.stdout) && left.stdout.len() < 30_000,
            "{mode}: {}",
            left.stdout
        );
        place.assert_nothing_left();
    }
}

#[test]
fn a_case_without_an_answer_ends_with_all_descendants() {
    for mode in ["never", "child"] {
        let place = Place::new();
        let start = Instant::now();
        let left = place.check(mode, &["--cases", "2", "--time-limit", "0.3", "--start-limit", "0.5"]);
        assert_eq!(left.code, Some(1));
        assert!(
            left.stdout.contains("not ready within 0.5 s of its start"),
            "{}",
            left.stdout
        );
        assert!(start.elapsed() < Duration::from_secs(30));
        place.assert_nothing_left();
    }
}

#[test]
fn a_long_start_is_not_a_long_case() {
    let place = Place::new();
    let arguments = ["--cases", "3", "--time-limit", "1.5", "--start-limit", "60"];
    let left = place.check("slow-start 3", &arguments);
    assert_eq!(left.code, Some(0), "{}{}", left.stdout, left.stderr);
}

#[test]
fn an_answer_that_comes_twice_fails_the_next_request() {
    let place = Place::new();
    let left = place.check("twice", &["--cases", "20", "--format", "json"]);
    let verdict = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["verdict"].clone();
    let verdicts: Vec<_> = left.stdout.lines().take(20).map(verdict).collect();
    // After garbage the program is started anew. A case may make two requests. An answer that is late enough passes for
    // that of the next request, whose result is then not there, or is taken away while the program writes it.
    let faults = ["garbage", "missing-output", "unreadable", "crashed"];
    let failing = verdicts.iter().filter(|verdict| *verdict != "agree");
    assert!(
        failing
            .clone()
            .all(|verdict| faults.iter().any(|fault| verdict == fault)),
        "{verdicts:?}"
    );
    assert!((8..=16).contains(&failing.count()), "{verdicts:?}");
}

#[test]
fn indices_of_32_bits_and_unknown_tensors_are_taken() {
    let place = Place::new();
    let left = place.check("extra", &["--cases", "20"]);
    assert_eq!(left.code, Some(0), "{}", left.stdout);
}

#[test]
fn a_program_that_removes_its_folders_is_asked_again() {
    let place = Place::new();
    let left = place.check("killed-folder", &["--cases", "3"]);
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    assert!(left.stdout.contains("found no result file"), "{}", left.stdout);
    place.assert_nothing_left();
}

#[test]
fn failures_are_counted_by_kind() {
    let place = Place::new();
    let left = place.check("numbered", &["--cases", "30"]);
    // In the case or in a call before it: one kind.
    let counted = "command: 30 cases, first seed 0: refused: H = # is not mine\n";
    assert!(left.stdout.contains(counted), "{}", left.stdout);
}

#[test]
fn a_failing_case_is_run_again_to_tell_how_often_it_fails() {
    // Each of the two cases takes a request, and so does each repetition.
    for (mode, said) in [
        ("wrong", "run again, it fails 5 of 5 times"),
        ("every-third-wrong", "run again, it fails 1 of 5 times"),
    ] {
        let place = Place::new();
        let arguments = ["--cases", "2", "--shrink-budget", "0", "--repeat", "5"];
        let left = place.check(mode, &arguments);
        assert_eq!(left.code, Some(1), "{}", left.stderr);
        assert!(left.stdout.contains(said), "{}", left.stdout);
    }
}

#[test]
fn a_run_ends_after_as_many_failures_as_are_wanted() {
    for (argument, failures) in [("--fail-fast", 1), ("--max-failures=3", 3)] {
        let place = Place::new();
        let left = place.check("nothing", &["--cases", "50", argument]);
        assert_eq!(left.code, Some(1));
        assert!(
            left.stdout.contains(&format!("(ended after {failures} of 50 cases)")),
            "{}",
            left.stdout
        );
    }
}

#[test]
fn an_engine_that_is_given_up_ends_its_run() {
    let place = Place::new();
    let left = place.check("die", &["--cases", "1000000"]);
    assert_eq!(left.code, Some(1));
    assert!(
        left.stdout.contains("(given up after 10 of 1000000 cases"),
        "{}",
        left.stdout
    );
}

#[test]
fn the_smallest_case_is_the_same_however_long_a_try_takes() {
    let place = Place::new();
    let tries = |budget: &str| {
        let left = place.check("wrong", &["--cases", "1", "--shrink-budget", budget]);
        let line = left.stdout.lines().find(|line| line.starts_with("smallest case"));
        line.map(str::to_owned)
    };
    let (whole, again) = (tries("500"), tries("500"));
    assert!(whole.is_some() && whole == again, "{whole:?} {again:?}");
    assert!(tries("2").unwrap().contains("in 2 tries and not to the end"));
    assert_eq!(tries("0"), None);
}

#[test]
fn a_failing_case_can_be_shrunk_later() {
    let place = Place::new();
    place.check("wrong", &["--cases", "1", "--shrink-budget", "0"]);
    let case = place.saved().pop().unwrap();
    let program = rude("wrong");
    let arguments = [
        "shrink",
        case.to_str().unwrap(),
        "--command",
        &program,
        "--precision",
        "fp32",
    ];
    let left = place.run(&arguments);
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    let smaller = case.with_file_name("command-seed-0-shrunk.toml");
    let text = std::fs::read_to_string(smaller).unwrap();
    assert!(text.contains("hidden = 1\n"), "{text}");
    let right = rude("right");
    let arguments = [
        "shrink",
        case.to_str().unwrap(),
        "--command",
        &right,
        "--precision",
        "fp32",
    ];
    assert_eq!(place.run(&arguments).code, Some(0));
}
