//! A signal ends a run with what is known, and nothing is left.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Left, Place, left, rude};

/// A run whose program has begun to hang.
fn hanging(place: &Place, mode: &str) -> Child {
    started(place, place.check_command(mode, &["--cases", "50"]))
}

/// A command whose program runs.
fn started(place: &Place, mut command: Command) -> Child {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !place.processes().iter().any(|process| process.contains("rude")) {
        assert!(start.elapsed() < Duration::from_secs(30), "the program does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(300));
    child
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn ended(child: Child) -> Left {
    let start = Instant::now();
    let left = left(child.wait_with_output().unwrap());
    assert!(start.elapsed() < Duration::from_secs(20));
    left
}

#[test]
fn the_first_signal_ends_a_run_with_its_report() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = Place::new();
        let child = hanging(&place, "child");
        send(&child, signal);
        // As `timeout` and terminals do.
        send(&child, signal);
        let left = ended(child);
        assert_eq!(left.code, Some(code), "{}", left.stderr);
        assert!(
            left.stdout.contains("INTERRUPTED after 0 of 50 cases"),
            "{}",
            left.stdout
        );
        place.assert_nothing_left();
    }
}

#[test]
fn a_kill_leaves_no_process_and_no_file() {
    for wait in 0..5 {
        let place = Place::new();
        let child = hanging(&place, if wait % 2 == 0 { "child" } else { "never" });
        std::thread::sleep(Duration::from_millis(37 * wait));
        send(&child, Signal::KILL);
        assert_eq!(ended(child).code, None);
        place.assert_nothing_left();
    }
}

/// Without `--precision` the program is asked what it takes before there is a case.
#[test]
fn a_signal_ends_the_wait_for_a_description() {
    let place = Place::new();
    let program = rude("slow-start 100");
    let child = started(&place, place.command(&["check", "--command", &program]));
    send(&child, Signal::INT);
    let left = ended(child);
    assert_eq!(left.code, Some(130), "{}", left.stderr);
    place.assert_nothing_left();
}
