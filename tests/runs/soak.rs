//! Many cases of a program that does everything.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use binned_experts_check::CaseSpec;

use crate::support::Place;

/// Cases of the soak; `SOAK_CASES` asks for another number.
const CASES: usize = 200;

#[test]
fn every_case_has_one_verdict_and_nothing_is_left() {
    let cases = std::env::var("SOAK_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(CASES);
    let place = Place::new();
    let number = cases.to_string();
    // Of each kind of failure one case is made smaller, by a program that does something else in each try.
    let arguments = ["--cases", &number, "--format", "json", "--shrink-budget", "20"];
    let limits = ["--time-limit", "0.5", "--start-limit", "0.5"];
    let left = place.check("soak 1", &[&arguments[..], &limits].concat());
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

/// At ten moments that differ from run to run.
#[test]
fn a_kill_at_any_moment_leaves_what_was_saved() {
    let place = Place::new();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    let arguments = ["--cases", "10000", "--time-limit", "0.3", "--start-limit", "0.5"];
    let mut saved = 0;
    for kill in 0..10 {
        let mut command = place.check_command(&format!("soak {kill}"), &arguments);
        let mut running = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wait = Duration::from_millis(u64::from(seed.wrapping_mul(kill + 1) % 1500));
        std::thread::sleep(wait);
        running.kill().unwrap();
        running.wait().unwrap();
        let end = Instant::now();
        place.assert_nothing_left();
        assert!(end.elapsed() < Duration::from_secs(10), "killed after {wait:?}");
        let cases = place
            .saved()
            .into_iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"));
        for path in cases {
            let text = std::fs::read_to_string(&path).unwrap();
            text.parse::<CaseSpec>()
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            saved += 1;
        }
    }
    assert!(saved > 0, "no run came to a failing case");
    // What is left empty goes with the next run.
    std::thread::sleep(Duration::from_secs(1));
    place.check("right", &["--cases", "1"]);
    let folders = std::fs::read_dir(place.path("binned-experts-failures")).unwrap();
    for folder in folders {
        let folder = folder.unwrap().path();
        assert!(std::fs::read_dir(&folder).unwrap().count() > 0, "{}", folder.display());
    }
}
