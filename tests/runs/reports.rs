//! What machines read of a run.

use serde_json::{Value, json};

use crate::support::{Place, rude};

fn schema() -> jsonschema::Validator {
    let text = include_str!("../../docs/report.schema.json");
    jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_line_is_of_the_schema() {
    let schema = schema();
    let place = Place::new();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");
    let reference = [
        "check",
        "--engine",
        "reference",
        "--cases",
        "200",
        "--format",
        "json",
        "--golden",
        golden,
    ];
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases");
    let of_texts = ["--cases", "0", "--format", "json", "--cases-from", cases];
    let of_texts = [&["check", "--engine", "reference"], &of_texts[..]].concat();
    let mut texts = vec![place.run(&reference).stdout, place.run(&of_texts).stdout];
    for mode in ["wrong", "nothing", "escapes", "die", "garbage", "sparse", "twice"] {
        texts.push(place.check(mode, &["--cases", "20", "--format", "json"]).stdout);
    }
    texts.push(
        place
            .check("twice", &["--cases", "20", "--format", "json", "--measure"])
            .stdout,
    );
    let lines: Vec<Value> = texts.iter().flat_map(|text| lines(text)).collect();
    assert!(lines.len() > 400);
    for line in &lines {
        if let Some(error) = schema.iter_errors(line).next() {
            panic!("{error} at {}: {line}", error.instance_path());
        }
    }
    let wrong = lines.iter().find(|line| line["verdict"] == "disagree").unwrap();
    let mismatch = &wrong["mismatch"];
    assert!(
        mismatch["at"]["token"].is_u64() && mismatch["bound"].is_f64(),
        "{mismatch}"
    );
    assert_eq!(wrong["shrunk"]["spec"]["hidden"], 1);
    let sampled: Vec<&Value> = lines.iter().filter(|line| line["sampled"]["tokens"] == 300).collect();
    assert_eq!(sampled.len(), 1);
    assert!(
        sampled[0]["verdict"] == "agree" && sampled[0]["spec"]["sampled"] == true,
        "{}",
        sampled[0]
    );
    let measured = &lines.last().unwrap()["totals"][0]["measured"][0];
    assert!(
        measured["claims"].is_array() && measured["element"] == "f32",
        "{measured}"
    );
}

#[test]
fn the_schema_refuses_other_lines() {
    let schema = schema();
    let place = Place::new();
    let text = place.check("wrong", &["--cases", "1", "--format", "json"]).stdout;
    let lines = lines(&text);
    for (line, field, value) in [
        (0, "verdict", json!("fine")),
        (0, "version", json!(2)),
        (0, "spec", json!("text")),
        (0, "mismatch", json!({"at": 1})),
        (1, "end", json!("other")),
        (1, "cases", json!(-1)),
    ] {
        let mut changed = lines[line].clone();
        assert!(schema.is_valid(&changed));
        changed[field] = value;
        assert!(!schema.is_valid(&changed), "{field}: {changed}");
    }
}

#[test]
fn junit_has_a_test_for_each_case() {
    let place = Place::new();
    for (mode, failures, errors) in [("wrong", 6, 0), ("escapes", 0, 6), ("right", 0, 0)] {
        place.check(mode, &["--cases", "6", "--junit", "junit.xml"]);
        let text = std::fs::read_to_string(place.path("junit.xml")).unwrap();
        let totals = format!("tests=\"6\" skipped=\"0\" failures=\"{failures}\" errors=\"{errors}\"");
        assert!(text.contains(&totals), "{mode}: {text}");
        assert_eq!(text.matches("<testcase name=\"seed ").count(), 6, "{text}");
        assert!(
            text.chars()
                .all(|character| !character.is_control() || character == '\n')
        );
    }
    let left = place.check("right", &["--cases", "1", "--junit", "nowhere/junit.xml"]);
    assert_eq!(left.code, Some(2));
}

/// Each case of which agrees, so that no other test says so.
#[test]
fn junit_says_that_too_few_cases_were_compared() {
    let place = Place::new();
    let enough = ["--cases", "6", "--junit", "junit.xml", "--at-least"];
    for (least, tests, errors) in [("6", 6, 0), ("7", 7, 1)] {
        place.check("right", &[&enough[..], &[least]].concat());
        let text = std::fs::read_to_string(place.path("junit.xml")).unwrap();
        let totals = format!("tests=\"{tests}\" skipped=\"0\" failures=\"0\" errors=\"{errors}\"");
        assert!(text.contains(&totals), "{text}");
        assert_eq!(
            text.contains("expected at least 7\" type=\"inconclusive\""),
            errors == 1,
            "{text}"
        );
    }
}

/// Each case of which agrees as well.
#[test]
fn junit_says_that_an_engine_is_biased() {
    let place = Place::new();
    for (mode, tests, failures, code) in [("right", 100, 0, 0), ("larger", 101, 1, 1)] {
        let program = rude(mode);
        let claim = ["check", "--command", &program, "--precision", "bf16"];
        let cases = ["--profile", "tiny", "--profile", "gentle", "--cases", "100"];
        let left = place.run(&[&claim[..], &cases, &["--junit", "junit.xml"]].concat());
        let text = std::fs::read_to_string(place.path("junit.xml")).unwrap();
        assert_eq!(left.code, Some(code), "{}", left.stdout);
        let totals = format!("tests=\"{tests}\" skipped=\"0\" failures=\"{failures}\" errors=\"0\"");
        assert!(text.contains(&totals), "{text}");
        let is_told =
            text.contains("<testcase name=\"all cases\">") && text.contains(" standard errors\" type=\"biased\"");
        assert_eq!(is_told, mode == "larger", "{text}");
    }
}
