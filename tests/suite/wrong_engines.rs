//! Every planted bug is found, and every misbehaviour is named.

use clap::ValueEnum;
use libtest_mimic::Trial;
use predicates::str::contains;

use crate::planted::{BlockBug, Bug, LayerBug, Misbehaviour, SharedBug, TypeBug, ViewBug, name_of};
use crate::runner::{binned_experts, check, check_program, planted};
use crate::trials::{named, trial};

/// Bugs that need thousands of assignments. Such cases take long to shrink, so these are run on files, which are not
/// shrunk.
const BUGS_OF_MANY: [Bug; 7] = [
    Bug::SortsOneBlock,
    Bug::RowCountWraps,
    Bug::RowOffsetWraps,
    Bug::GridAxis,
    Bug::HistogramRace,
    Bug::HistogramRaceNowAndThen,
    Bug::CountsInBf16,
];

/// That a failing case is made as small as can be is for other tests to see.
const FEW_TRIES: &[&str] = &["--shrink-budget", "30"];

/// How a bug is found.
struct Found {
    /// What the engine claims.
    precision: &'static str,
    cases: &'static str,
    profiles: &'static [&'static str],
    verdict: &'static str,
}

impl Found {
    fn new(bug: Bug) -> Found {
        // Most bugs show in cases of sizes up to 8, which take little time to shrink.
        let tiny = Found {
            precision: "fp32",
            cases: "150",
            profiles: &["tiny"],
            verdict: "disagree",
        };
        let of_all = |precision, cases| Found {
            precision,
            cases,
            profiles: &[],
            ..tiny
        };
        let of = |profiles, verdict| Found {
            cases: "60",
            profiles,
            verdict,
            ..tiny
        };
        match bug {
            Bug::FirstExpertsOnly
            | Bug::ScansOneWarp
            | Bug::DroppedTimesZero
            | Bug::OtherExpertsTimesZero
            | Bug::LimitLostOnWidePath
            | Bug::NanSwallowed
            | Bug::ContractionTail => of_all("fp32", "100"),
            Bug::AlternateColumns => of_all("fp32", "300"),
            Bug::LastTileGroup | Bug::CountRoundedDown | Bug::LastChunk => of_all("fp32", "20"),
            Bug::F16Sums => of_all("f16", "300"),
            Bug::Bf16Sums => of_all("bf16", "300"),
            Bug::CombinedInBf16 => of_all("bf16", "600"),
            Bug::DividesByTokens => of(&["no-tokens"], "refused"),
            Bug::CapacityRefused => of(&["capacity-huge"], "refused"),
            Bug::RowsKept => of(&["capacity-zero"], "wrong-shape"),
            Bug::ActivationsBeyond1024 | Bug::WidePathFrom1536 => of(&["long"], "disagree"),
            Bug::StagesTooSmallFor8192 | Bug::WidthOf512Assumed => of(&["long"], "refused"),
            Bug::Top14Refused => Found {
                cases: "600",
                ..of(&["many-experts"], "refused")
            },
            Bug::SplitDepthInBf16 => Found {
                precision: "bf16",
                ..of(&["long", "cancelling"], "disagree")
            },
            Bug::TwentyTwoOf512 => of(&["many-experts"], "disagree"),
            Bug::FewSlotsInBf16 => Found {
                precision: "bf16",
                ..of(&["exact"], "disagree")
            },
            Bug::LastBinUnwritten => Found {
                cases: "100",
                ..of(&["many-experts"], "disagree")
            },
            _ => tiny,
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial(&[], bugs_of_many_assignments_are_found),
        trial(&[], sums_of_16_bits_are_refused_where_terms_cancel),
        trial(&[], a_wrong_stage_is_named),
        trial(&[], the_first_case_is_judged_again),
        trial(&[], a_hanging_program_is_started_anew),
        trial(&[], failing_cases_are_saved_and_replayed),
    ];
    let elsewhere = [&[Bug::Right, Bug::OldestResultOverwritten][..], &BUGS_OF_MANY].concat();
    for &bug in Bug::value_variants().iter().filter(|bug| !elsewhere.contains(bug)) {
        trials.push(named(format!("wrong_engines::bug::{}", name_of(bug)), &[], move || {
            bug_is_found(bug)
        }));
    }
    for &bug in TypeBug::value_variants() {
        trials.push(named(
            format!("wrong_engines::type_bug::{}", name_of(bug)),
            &[],
            move || type_bug_is_found(bug),
        ));
    }
    for &bug in LayerBug::value_variants() {
        trials.push(named(
            format!("wrong_engines::layer_bug::{}", name_of(bug)),
            &[],
            move || is_found_inside(bug, bug.needs()),
        ));
    }
    for &bug in SharedBug::value_variants() {
        trials.push(named(
            format!("wrong_engines::shared_bug::{}", name_of(bug)),
            &[],
            move || is_found_inside(bug, bug.needs()),
        ));
    }
    for &bug in BlockBug::value_variants() {
        trials.push(named(
            format!("wrong_engines::block_bug::{}", name_of(bug)),
            &[],
            move || is_found_inside(bug, "layers = ['gpt-oss-mxfp4']"),
        ));
    }
    for &bug in ViewBug::value_variants() {
        trials.push(named(
            format!("wrong_engines::view_bug::{}", name_of(bug)),
            &[],
            move || is_found_inside(bug, "views = ['strided', 'stepped', 'offset', 'transposed']"),
        ));
    }
    // What is a bug under a claim of fp32 is right under one of tf32.
    for (engine, precision) in [
        (Bug::Right, "fp32"),
        (Bug::Tf32Operands, "tf32"),
        (Bug::Right, "bf16"),
        (Bug::Right, "f16"),
    ] {
        let name = format!("wrong_engines::right::{precision}");
        trials.push(named(name, &[], move || right_engine_agrees(engine, precision)));
    }
    for &misbehaviour in Misbehaviour::value_variants() {
        if let Some(verdict) = verdict_on(misbehaviour) {
            let name = format!("wrong_engines::misbehaviour::{}", name_of(misbehaviour));
            trials.push(named(name, &[], move || misbehaviour_is_named(misbehaviour, verdict)));
        }
    }
    trials
}

/// None for what hangs, which has a test of its own.
fn verdict_on(misbehaviour: Misbehaviour) -> Option<&'static str> {
    match misbehaviour {
        Misbehaviour::Hang => None,
        Misbehaviour::Crash | Misbehaviour::CrashOnceInTen => Some("crashed"),
        Misbehaviour::Garbage | Misbehaviour::PrintsFirst => Some("garbage"),
        Misbehaviour::NoOutput | Misbehaviour::OtherName => Some("missing-output"),
        Misbehaviour::HalfFile => Some("unreadable"),
        Misbehaviour::WrongShape => Some("wrong-shape"),
        Misbehaviour::WrongType => Some("wrong-type"),
        Misbehaviour::Error => Some("refused"),
    }
}

/// Also where values strain the bounds.
fn right_engine_agrees(engine: Bug, precision: &str) {
    let strained = ["--profile", "wide-range", "--profile", "cancelling"];
    for (cases, profiles) in [("150", &[][..]), ("60", &strained)] {
        let checked = check_program(&planted(engine), precision, &[&["--cases", cases], profiles].concat());
        assert_eq!(checked.first_complaint(), None);
        assert_eq!(
            (checked.code, checked.cases.len().to_string()),
            (Some(0), cases.to_owned())
        );
    }
}

fn bug_is_found(bug: Bug) {
    let Found {
        precision,
        cases,
        profiles,
        verdict,
    } = Found::new(bug);
    let profiles: Vec<[&str; 2]> = profiles.iter().map(|profile| ["--profile", profile]).collect();
    let arguments = [&["--cases", cases, "--fail-fast"], FEW_TRIES, profiles.as_flattened()].concat();
    let checked = check_program(&planted(bug), precision, &arguments);
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec![verdict]));
    let complaint = checked.first_complaint().unwrap();
    assert!(complaint["shrunk"].is_object(), "{complaint}");
}

/// Within 200 cases of the domain that it needs.
fn is_found_inside(bug: impl ValueEnum, needs: &str) {
    let folder = tempfile::tempdir().unwrap();
    let domain = folder.path().join("domain.toml");
    std::fs::write(&domain, needs).unwrap();
    let (program, domain) = (planted(bug), domain.to_str().unwrap());
    let of_domain = [
        "--command",
        &program,
        "--domain",
        domain,
        "--cases",
        "200",
        "--fail-fast",
    ];
    let tiny = ["--profile", "tiny"];
    let checked = check(&[&of_domain[..], &tiny, FEW_TRIES].concat());
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec!["disagree"]));
    assert!(checked.first_complaint().unwrap()["shrunk"].is_object());
}

/// By its verdict, or by the sums over the run, which an engine that agrees everywhere is biased by.
fn type_bug_is_found(bug: TypeBug) {
    let folder = tempfile::tempdir().unwrap();
    let domain = folder.path().join("domain.toml");
    std::fs::write(&domain, bug.needs()).unwrap();
    let of_domain = ["--command", &planted(bug), "--domain", domain.to_str().unwrap()];
    let checked = check(&[&of_domain[..], &["--cases", "200"], FEW_TRIES].concat());
    assert_eq!(checked.code, Some(1));
    let complaints = checked.complaints();
    if complaints.is_empty() {
        let sums = checked.totals["totals"][0]["sums"].as_array().unwrap();
        let estimates = sums.iter().flat_map(|sums| sums["estimates"].as_array().unwrap());
        let biased = estimates.filter(|estimate| estimate["biased"] == true);
        let directions: Vec<&str> = biased.map(|estimate| estimate["direction"].as_str().unwrap()).collect();
        assert!(directions.contains(&bug.shows_as()), "{directions:?}");
    } else {
        assert!(complaints.contains(&bug.shows_as()), "{complaints:?}");
    }
}

/// In about half of the cases; of any values, in one of a hundred.
fn sums_of_16_bits_are_refused_where_terms_cancel() {
    for (bug, precision) in [(Bug::Bf16Sums, "bf16"), (Bug::F16Sums, "f16")] {
        let arguments = ["--cases", "60", "--profile", "cancelling", "--profile", "tile-edges"];
        let checked = check_program(&planted(bug), precision, &arguments);
        let refused = checked
            .verdicts()
            .iter()
            .filter(|verdict| **verdict == "disagree")
            .count();
        assert!(refused >= 20, "{bug:?}: refused on {refused} of 60");
    }
}

fn bugs_of_many_assignments_are_found() {
    let directory = tempfile::tempdir().unwrap();
    for seed in 0..36 {
        let seed = seed.to_string();
        binned_experts(&["case", "--seed", &seed, "--profile", "many-assignments", "--out"])
            .arg(directory.path().join(format!("{seed}.safetensors")))
            .assert()
            .success();
    }
    let directory = directory.path().to_str().unwrap();
    for bug in BUGS_OF_MANY {
        let checked = check_program(&planted(bug), "fp32", &["--golden", directory, "--cases", "0"]);
        assert_eq!(
            (checked.code, checked.complaints()),
            (Some(1), vec!["disagree", "skip"]),
            "{bug:?}"
        );
    }
}

fn a_wrong_stage_is_named() {
    let checked = check_program(&planted(Bug::ExclusiveBins), "fp32", &["--cases", "20"]);
    assert_eq!(checked.first_complaint().unwrap()["stage"], "bins");
}

/// Nothing else is wrong, and no file of a case shows it.
fn the_first_case_is_judged_again() {
    let program = planted(Bug::OldestResultOverwritten);
    for (cases, code) in [("10", 0), ("40", 1)] {
        let checked = check_program(&program, "fp32", &["--cases", cases, "--profile", "tiny"]);
        assert_eq!(checked.code, Some(code));
        let complaint = checked
            .first_complaint()
            .map(|complaint| complaint["case"].as_str().unwrap());
        assert_eq!(complaint, (code == 1).then_some("seed 0, the first case again"));
        assert!(checked.saved().is_empty());
    }
}

fn a_hanging_program_is_started_anew() {
    let directory = tempfile::tempdir().unwrap();
    let mark = directory.path().join("mark");
    let program = format!("{} {}", planted(Misbehaviour::Hang), mark.display());
    let arguments = ["--cases", "20", "--profile", "tiny", "--time-limit", "3"];
    let checked = check_program(&program, "fp32", &arguments);
    let verdicts = checked.verdicts();
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec!["timed-out"]));
    assert_eq!(verdicts.iter().filter(|verdict| **verdict == "agree").count(), 19);
    assert_eq!(*verdicts.last().unwrap(), "agree");
}

/// All but what prints first are right on cases whose K is not 2.
fn misbehaviour_is_named(misbehaviour: Misbehaviour, verdict: &str) {
    let arguments = [&["--cases", "30", "--profile", "tiny"], FEW_TRIES].concat();
    let checked = check_program(&planted(misbehaviour), "fp32", &arguments);
    assert_eq!((checked.code, checked.complaints()), (Some(1), vec![verdict]));
    assert_eq!(
        checked.verdicts().contains(&"agree"),
        misbehaviour != Misbehaviour::PrintsFirst
    );
    assert_eq!(checked.cases.len(), 30);
}

fn failing_cases_are_saved_and_replayed() {
    let program = planted(Misbehaviour::Error);
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
        replayed.code(1).stdout(contains("refused: no kernel for K = 2"));
    }
}
