//! Shares of a check as one report.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::Place;

/// Writes what the shares of a check print, and gives the files.
fn shares(place: &Place, mode: &str, count: usize) -> Vec<PathBuf> {
    let share = |number| {
        let shard = format!("{number}/{count}");
        let left = place.check(mode, &["--cases", "30", "--format", "json", "--shard", &shard]);
        let path = place.path(&format!("{mode}-{number}-of-{count}.json"));
        std::fs::write(&path, left.stdout).unwrap();
        path
    };
    (1..=count).map(share).collect()
}

fn report(place: &Place, files: &[PathBuf]) -> crate::support::Left {
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    place.run(&[&["report"], &files[..]].concat())
}

/// A report without the failures, whose first differs, and the times.
fn totals(text: &str) -> Vec<&str> {
    let table = text.lines().skip_while(|line| !line.starts_with("| engine"));
    table
        .filter(|line| !line.starts_with("time:") && !line.contains(", first seed"))
        .collect()
}

#[test]
fn shares_say_together_what_the_whole_says() {
    let place = Place::new();
    for (mode, code) in [("right", 0), ("wrong", 1)] {
        let (whole, three) = (shares(&place, mode, 1), shares(&place, mode, 3));
        let (whole, three) = (report(&place, &whole), report(&place, &three));
        assert_eq!((whole.code, three.code), (Some(code), Some(code)), "{}", three.stderr);
        assert_eq!(totals(&three.stdout), totals(&whole.stdout));
        assert!(totals(&whole.stdout).len() > 8, "{}", whole.stdout);
        assert_eq!(
            three.stdout.contains("smallest case found, in "),
            mode == "wrong",
            "{}",
            three.stdout
        );
    }
}

#[test]
fn a_missing_share_is_no_agreement() {
    let place = Place::new();
    let files = shares(&place, "right", 3);
    let left = report(&place, &files[..2]);
    assert_eq!(left.code, Some(2));
    assert!(
        left.stdout.contains("INCOMPLETE: shards 3/3 are missing"),
        "{}",
        left.stdout
    );
    // A failure that is there is one all the same.
    let left = report(&place, &shares(&place, "wrong", 3)[1..]);
    assert_eq!(left.code, Some(1), "{}", left.stdout);
}

#[test]
fn what_is_no_share_of_the_check_is_named() {
    let place = Place::new();
    let (three, two) = (shares(&place, "right", 3), shares(&place, "right", 2));
    let text = std::fs::read_to_string(&three[0]).unwrap();
    let written = |name: &str, text: &str| {
        let path = place.path(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let cut = written("cut.json", &text[..text.rfind("{").unwrap()]);
    let first = text.lines().next().unwrap();
    let cut_lines = written("cut-lines.json", &format!("{first}\n"));
    let other = written("other.json", "{\"type\": \"else\"}\n");
    let twice = written("twice.json", &format!("{text}{text}"));
    let mut spec: Value = serde_json::from_str(first).unwrap();
    spec["verdict"] = "disagree".into();
    spec["spec"]["alpha"] = "ten".into();
    let number = written("number.json", &format!("{spec}\n"));
    for (file, said) in [
        (&three[0], "expected each shard once, found shard 1/3"),
        (&two[0], "expected a shard of 3, found shard 1/2"),
        (&cut, "line "),
        (&cut_lines, "expected totals in the last line, found none"),
        (&other, "line 1: unknown variant `else`"),
        (&twice, "expected nothing after the totals"),
        (&number, "line 1: alpha: expected a number, found \"ten\""),
    ] {
        let left = report(&place, &[&three[..], std::slice::from_ref(file)].concat());
        assert_eq!(left.code, Some(2), "{}", left.stdout);
        assert!(
            left.stderr.contains(&format!("{}: ", file.display())) && left.stderr.contains(said),
            "{said}: {}",
            left.stderr
        );
    }
    assert_eq!(report(&place, &[place.path("nowhere.json")]).code, Some(2));
}
