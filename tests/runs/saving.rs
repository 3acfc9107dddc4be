//! A failing case is there from the moment it is seen, and can always be run again.

use std::process::Command;

use crate::support::{Place, left, rude};

#[test]
fn two_runs_have_folders_of_their_own() {
    let place = Place::new();
    for precision in ["fp32", "bf16", "bf16"] {
        let program = rude("nothing");
        let arguments = ["check", "--cases", "1", "--command", &program, "--precision", precision];
        assert_eq!(place.run(&arguments).code, Some(1));
    }
    let saved = place.saved();
    assert_eq!(saved.len(), 6, "{saved:?}");
    let texts = saved.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let bf16 = texts.filter(|text| text.contains("element = \"bf16\"")).count();
    assert!((2..=4).contains(&bf16), "{bf16}");
}

#[test]
fn printed_lines_run_as_they_are() {
    let place = Place::new();
    for mode in ["escapes", "wrong"] {
        let checked = place.check(mode, &["--cases", "1"]);
        assert!(checked.stdout.starts_with("failing cases go to "), "{}", checked.stdout);
        let lines: Vec<&str> = checked
            .stdout
            .lines()
            .filter(|line| line.contains(" replay "))
            .collect();
        assert_eq!(lines.len(), 2, "{}", checked.stdout);
        for line in lines {
            let mut shell = Command::new("sh");
            shell
                .args(["-c", line])
                .current_dir(place.path(""))
                .env("TMPDIR", place.path("tmp"));
            let replayed = left(shell.output().unwrap());
            assert_eq!(replayed.code, Some(1), "{line}\n{}", replayed.stderr);
        }
    }
}

#[test]
fn a_failing_golden_is_replayed_with_its_order() {
    let place = Place::new();
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/skewed.safetensors");
    std::fs::create_dir(place.path("my goldens")).unwrap();
    std::fs::copy(goldens, place.path("my goldens/skewed.safetensors")).unwrap();
    let program = rude("nothing");
    let arguments = ["check", "--cases", "0", "--golden", "my goldens", "--command", &program];
    let checked = place.run(&[&arguments[..], &["--precision", "fp32"]].concat());
    let line = checked.stdout.lines().find(|line| line.contains(" replay ")).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(place.path(""));
    assert_eq!(left(shell.output().unwrap()).code, Some(1), "{line}");
}

/// The cases that are saved.
fn cases(place: &Place) -> Vec<std::path::PathBuf> {
    let mut saved = place.saved();
    saved.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    saved
}

#[test]
fn a_first_failure_is_saved_before_it_is_shrunk() {
    let program = rude("wrong");
    let arguments = ["check", "--command", &program, "--precision", "fp32", "--cases", "1"];
    for pause in 0..10 {
        let place = Place::new();
        let mut running = place
            .command(&arguments)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while cases(&place).is_empty() && running.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        std::thread::sleep(std::time::Duration::from_millis(pause));
        // Whenever the run is killed, what has the name of a case is one.
        let _ = running.kill();
        running.wait().unwrap();
        assert!(!cases(&place).is_empty());
        for path in cases(&place) {
            let text = std::fs::read_to_string(&path).unwrap();
            text.parse::<binned_experts_check::CaseSpec>().unwrap();
        }
        place.assert_nothing_left();
    }
}

#[test]
fn the_next_run_removes_what_a_killed_one_left_empty() {
    let place = Place::new();
    let folder = place.path("binned-experts-failures");
    let (empty, full, other) = (
        "2026-01-02T030405Z-command-fp32",
        "2026-01-02T030406Z-command-fp32",
        "2026-01-02",
    );
    for name in [empty, full, other] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
    }
    std::fs::write(folder.join(full).join("command-seed-0.toml"), "").unwrap();
    assert_eq!(place.check("right", &["--cases", "1"]).code, Some(0));
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, [other, full]);
}

#[test]
fn a_run_that_cannot_start_leaves_no_folder() {
    let place = Place::new();
    std::fs::create_dir(place.path("goldens")).unwrap();
    std::fs::write(place.path("goldens/bad.safetensors"), "").unwrap();
    let left = place.check("right", &["--golden", "goldens"]);
    assert_eq!(left.code, Some(2), "{}", left.stdout);
    assert!(!place.path("binned-experts-failures").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_told_before_the_run() {
    let place = Place::new();
    std::fs::write(place.path("file"), "").unwrap();
    let left = place.check("nothing", &["--save", "file/below"]);
    assert_eq!((left.code, left.stdout.as_str()), (Some(2), ""));
    assert!(
        left.stderr.contains("--save: could not write file/below"),
        "{}",
        left.stderr
    );
}

#[test]
fn nothing_is_left_of_a_run_without_failures() {
    let place = Place::new();
    assert_eq!(place.check("right", &["--cases", "5"]).code, Some(0));
    assert!(!place.path("binned-experts-failures").exists());
    place.assert_nothing_left();
}

#[test]
fn failed_cases_are_run_first_when_asked() {
    let place = Place::new();
    place.check("nothing", &["--cases", "3"]);
    let again = place.check("nothing", &["--cases", "1", "--rerun-failed", "--format", "json"]);
    let cases: Vec<serde_json::Value> = again
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<&str> = cases.iter().filter_map(|case| case["case"].as_str()).collect();
    assert_eq!(
        names,
        [
            "command-seed-0-shrunk",
            "command-seed-0",
            "command-seed-1",
            "command-seed-2",
            "seed 0"
        ]
    );
    let other = Place::new();
    assert_eq!(other.check("right", &["--rerun-failed"]).code, Some(2));
}

#[test]
fn shares_make_up_the_whole() {
    let place = Place::new();
    let cases = |shard: &str| {
        let arguments = [
            "check",
            "--engine",
            "reference",
            "--cases",
            "7",
            "--format",
            "json",
            "--shard",
            shard,
        ];
        let left = place.run(&arguments);
        let lines = left
            .stdout
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines
            .filter_map(|line| Some(line["case"].as_str()?.to_owned()))
            .collect::<Vec<_>>()
    };
    let mut all = [cases("1/3"), cases("2/3"), cases("3/3")].concat();
    all.sort();
    assert_eq!(all, cases("1/1"));
}
