//! Several processes of one program, and what they are told of weights.

use std::path::Path;

use crate::support::{Place, rude};

/// The case and the verdict of each line.
fn told(text: &str) -> Vec<(String, String)> {
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    lines
        .map(|line| (text(&line["case"]), text(&line["verdict"])))
        .collect()
}

#[test]
fn jobs_say_what_one_says() {
    let place = Place::new();
    let run = |jobs: &str| place.check("odd", &["--cases", "60", "--format", "json", "--jobs", jobs]);
    let (one, four) = (run("1"), run("4"));
    assert_eq!((one.code, four.code), (Some(1), Some(1)), "{}", four.stderr);
    assert_eq!(told(&one.stdout), told(&four.stdout));
    place.assert_nothing_left();
    for refused in ["0", "257", "many"] {
        assert_eq!(place.check("right", &["--jobs", refused]).code, Some(2));
    }
}

#[test]
fn no_more_run_at_once_than_are_asked_for() {
    let place = Place::new();
    let marks = place.path("marks");
    std::fs::create_dir(&marks).unwrap();
    let mode = format!("marking {}", marks.display());
    let left = place.check(&mode, &["--cases", "40", "--jobs", "3"]);
    assert_eq!(left.code, Some(0), "{}{}", left.stdout, left.stderr);
    // Each process leaves a file with the most that it saw at work.
    let most = std::fs::read_dir(&marks).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap();
        name.strip_prefix("saw-")
            .map_or(0, |seen| seen.split('-').next().unwrap().parse().unwrap())
    });
    assert_eq!(most.max(), Some(3));
}

#[test]
fn a_crash_costs_one_case_of_one_process() {
    let place = Place::new();
    let left = place.check(
        "dies-now-and-then",
        &["--cases", "60", "--jobs", "3", "--format", "json"],
    );
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    let told = told(&left.stdout);
    let crashed = told.iter().filter(|(_, verdict)| verdict == "crashed").count();
    assert!((1..30).contains(&crashed), "{told:?}");
    place.assert_nothing_left();
}

#[test]
fn weights_apart_are_told_once_while_they_stay() {
    let place = Place::new();
    let program = rude("weights-apart");
    let arguments = [
        "check",
        "--command",
        &program,
        "--cases",
        "30",
        "--profile",
        "tiny",
        "--profile",
        "warmup-same",
    ];
    let left = place.run(&arguments);
    // Nothing is judged, since all is declined.
    assert_eq!(left.code, Some(2), "{}{}", left.stdout, left.stderr);
    assert!(left.stdout.contains("apart: 30 cases declined"), "{}", left.stdout);
    // Each case comes after its warm-up call.
    assert!(left.stdout.contains(": the same weights\n"), "{}", left.stdout);
    assert!(
        left.stdout.ends_with("INCONCLUSIVE: apart was compared on no case\n"),
        "{}",
        left.stdout
    );
    place.assert_nothing_left();
}

#[test]
fn weights_apart_give_the_same_results() {
    let place = Place::new();
    let serve = format!(
        "{} serve reference",
        assert_cmd::cargo::cargo_bin("binned-experts").display()
    );
    let left = place.run(&[
        "check",
        "--command",
        &serve,
        "--cases",
        "60",
        "--profile",
        "tiny",
        "--jobs",
        "2",
    ]);
    assert_eq!(left.code, Some(0), "{}{}", left.stdout, left.stderr);
}

#[test]
fn cases_of_a_folder_run_and_are_shrunk() {
    let place = Place::new();
    place.check("wrong", &["--cases", "3", "--shrink-budget", "0"]);
    let saved = place.saved();
    let folder = saved[0].parent().unwrap().to_str().unwrap().to_owned();
    let left = place.check("wrong", &["--cases", "0", "--cases-from", &folder, "--save", "again"]);
    assert_eq!(left.code, Some(1), "{}", left.stderr);
    assert!(left.stdout.contains("fails on command-seed-0\n"), "{}", left.stdout);
    assert!(left.stdout.contains("smallest case found"), "{}", left.stdout);
    assert_eq!(
        place.check("right", &["--cases", "0", "--cases-from", &folder]).code,
        Some(0)
    );
    std::fs::create_dir(place.path("empty")).unwrap();
    for (folder, said) in [
        ("empty", "no case as text (.toml) in empty"),
        ("none", "could not read none"),
    ] {
        let left = place.check("right", &["--cases-from", folder]);
        assert_eq!(left.code, Some(2));
        assert!(left.stderr.contains(said), "{}", left.stderr);
    }
    std::fs::write(Path::new(&folder).join("bad.toml"), "element = 'f32'").unwrap();
    let left = place.check("right", &["--cases-from", &folder]);
    assert_eq!(left.code, Some(2));
    assert!(left.stderr.contains("bad.toml"), "{}", left.stderr);
}
