//! The fuzz targets' bodies on fixed bytes, so that they run without a fuzzer.

use std::collections::BTreeSet;

use binned_experts::fuzz::{self, RoutingCase, ScheduleCase, ValuesCase};
use binned_experts_check::CaseSpec;
use binned_experts_check::judge;
use binned_experts_check::oracle::Coverage;
use libtest_mimic::Trial;

use crate::needs;
use crate::trials::trial;

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = needs::compiler();
    vec![
        trial(&[&compiler], routing_agrees_on_random_bytes),
        trial(&[&compiler], schedule_agrees_on_random_bytes),
        trial(&[], the_last_bytes_of_schedule_are_its_seed),
        trial(&[&compiler], values_agrees_on_random_bytes),
        trial(&[], an_input_prints_as_its_case),
        trial(&[], case_file_takes_goldens_and_any_damage_to_them),
        trial(&[], case_file_takes_any_text),
        trial(&[], case_file_takes_every_seed_of_the_fuzzer_for_what_it_is),
    ]
}

/// Bytes that depend on a number alone.
fn bytes(mut state: u64, length: usize) -> Vec<u8> {
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Of the bytes of the first so many numbers.
fn inputs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|seed| bytes(seed, seed as usize % 80))
}

/// How many of the cases contain something.
fn count<'a>(specs: impl IntoIterator<Item = &'a CaseSpec>, what: impl Fn(&Coverage) -> bool) -> usize {
    let coverage = |spec| Coverage::new(judge::Trial::from_spec(spec, &[]).unwrap().expected());
    specs
        .into_iter()
        .map(coverage)
        .filter(|coverage| what(coverage))
        .count()
}

fn routing_agrees_on_random_bytes() {
    let cases: Vec<_> = inputs(150).map(|bytes| RoutingCase::from_bytes(&bytes)).collect();
    for case in &cases {
        assert!(fuzz::routing(case) > 0, "{case:?}");
    }
    let specs = || cases.iter().map(|case| &case.0);
    assert!(count(specs(), |coverage| coverage.dropped) > 10);
    assert!(count(specs(), |coverage| coverage.duplicates) > 10);
    assert!(count(specs(), |coverage| coverage.empty_expert) > 10);
}

fn schedule_agrees_on_random_bytes() {
    let cases: Vec<_> = inputs(60).map(|bytes| ScheduleCase::from_bytes(&bytes)).collect();
    let interleavings: usize = cases.iter().map(fuzz::schedule).sum();
    assert_eq!(interleavings, 4 * cases.len());
    assert!(count(cases.iter().map(|case| &case.spec), |coverage| coverage.dropped) > 5);
}

fn the_last_bytes_of_schedule_are_its_seed() {
    let mut bytes = bytes(7, 60);
    let case = ScheduleCase::from_bytes(&bytes);
    *bytes.last_mut().unwrap() ^= 1;
    let other = ScheduleCase::from_bytes(&bytes);
    assert_eq!(case.spec, other.spec);
    assert_ne!(case.seed, other.seed);
}

fn values_agrees_on_random_bytes() {
    let cases: Vec<_> = inputs(150).map(|bytes| ValuesCase::from_bytes(&bytes)).collect();
    for case in &cases {
        assert!(fuzz::values(case) > 0, "{case:?}");
        assert!(case.0.special.is_some(), "{case:?}");
    }
    let specs = || cases.iter().map(|case| &case.0);
    assert!(count(specs(), |coverage| coverage.special_input) > 10);
    assert!(count(specs(), |coverage| coverage.special_output) > 10);
    assert!(count(specs(), |coverage| coverage.dropped) > 10);
}

fn an_input_prints_as_its_case() {
    for bytes in inputs(80) {
        let case = RoutingCase::from_bytes(&bytes);
        assert_eq!(format!("{case:?}").parse::<CaseSpec>(), Ok(case.0));
        let case = ScheduleCase::from_bytes(&bytes);
        assert_eq!(format!("{case:?}").parse::<CaseSpec>(), Ok(case.spec));
    }
}

fn case_file_takes_goldens_and_any_damage_to_them() {
    let golden = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/goldens/single_token.safetensors"
    ))
    .unwrap();
    assert_eq!(fuzz::case_file(&golden), ["case"]);
    let mut accepted = 0;
    for seed in 0..2000u64 {
        let mut damaged = golden.clone();
        for (at, byte) in bytes(seed, 4).chunks(2).map(|pair| (usize::from(pair[0]) * 4, pair[1])) {
            damaged[at] = byte;
        }
        accepted += fuzz::case_file(&damaged).len();
        assert_eq!(fuzz::case_file(&golden[..seed as usize % golden.len()]), [""; 0]);
    }
    assert!(0 < accepted && accepted < 2000, "{accepted} of 2000 read");
}

fn case_file_takes_any_text() {
    let case = std::fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/cases/006-nan-in-token.toml"
    ))
    .unwrap();
    assert_eq!(fuzz::case_file(case.as_bytes()), ["spec"]);
    let mut accepted = 0;
    for (at, _) in case.char_indices() {
        fuzz::case_file(&case.as_bytes()[..at]);
        accepted += fuzz::case_file(case.replace(&case[at..at + 1], "9").as_bytes()).len();
    }
    assert!(accepted > 0);
    fuzz::case_file(case.replace("7.0", "nan").as_bytes());
}

fn case_file_takes_every_seed_of_the_fuzzer_for_what_it_is() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/seeds/case_file");
    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kinds = fuzz::case_file(&std::fs::read(&path).unwrap());
        assert_eq!(kinds.len(), 1, "{}: {kinds:?}", path.display());
        seen.extend(kinds);
    }
    assert_eq!(Vec::from_iter(seen), ["answer", "case", "lines", "result", "spec"]);
}
