//! What fails here is no fault of a kernel, and nothing ends in a panic or an abort.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Stdio;

use crate::support::{Place, left, rude};

/// A case without an element, of any number of experts.
fn empty_case(experts: u64) -> Vec<u8> {
    let tensor =
        |shape: &[u64], dtype: &str| serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [0, 0]});
    let header = serde_json::json!({
        "__metadata__": {"expert_capacity": "1"},
        "hidden_states": tensor(&[1, 0, 0], "F32"),
        "router_indices": tensor(&[0, 1], "I64"),
        "routing_weights": tensor(&[1, 0, experts], "F32"),
        "gate_up_proj": tensor(&[experts, 0, 0], "F32"),
        "gate_up_proj_bias": tensor(&[experts, 0], "F32"),
        "down_proj": tensor(&[experts, 0, 0], "F32"),
        "down_proj_bias": tensor(&[experts, 0], "F32"),
    })
    .to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat()
}

#[test]
fn nothing_compared_is_not_agreement() {
    let place = Place::new();
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/010-bf16-wide-sum.toml");
    let program = rude("right");
    let skipped = place.run(&["replay", cases, "--command", &program, "--precision", "fp32"]);
    assert_eq!(skipped.code, Some(2), "{}", skipped.stdout);
    assert!(skipped.stdout.contains("INCONCLUSIVE"), "{}", skipped.stdout);
    assert_eq!(place.run(&["replay", cases, "--engine", "reference"]).code, Some(0));
    assert_eq!(
        place.run(&["check", "--engine", "reference", "--cases", "0"]).code,
        Some(2)
    );
}

#[test]
fn sizes_beyond_all_tensors_are_refused_before_memory_is() {
    let place = Place::new();
    std::fs::create_dir(place.path("golden")).unwrap();
    for experts in [(1 << 20) + 1, 1 << 31, 1 << 33, 1 << 50] {
        std::fs::write(place.path("golden/empty.safetensors"), empty_case(experts)).unwrap();
        let case = "golden/empty.safetensors";
        for arguments in [
            &["run", case, "--engine", "reference", "--out", "o"][..],
            &["replay", case],
            &["check", "--cases", "0", "--golden", "golden", "--engine", "reference"],
        ] {
            let left = place.run(arguments);
            assert_eq!(left.code, Some(2), "{}", left.stderr);
            let told = format!(
                "{case}: experts: expected at most 1048576 where no tensor holds an element of it, found {experts}"
            );
            assert!(left.stderr.contains(&told), "{}", left.stderr);
        }
    }
    std::fs::write(place.path("golden/empty.safetensors"), empty_case(1 << 20)).unwrap();
    let left = place.run(&["replay", "golden/empty.safetensors", "--engine", "reference"]);
    assert_eq!(left.code, Some(0), "{}", left.stderr);
}

#[test]
fn any_number_of_cases_is_begun() {
    for cases in ["1000000000", "18446744073709551615"] {
        let place = Place::new();
        let left = place.check("nothing", &["--cases", cases, "--fail-fast"]);
        assert_eq!(left.code, Some(1), "{}", left.stderr);
    }
}

#[test]
fn output_goes_to_what_is_there() {
    let place = Place::new();
    // With the usual alpha and limit, so that the file has one line of metadata: several have no order.
    let case = |out: &str| place.run(&["case", "--seed", "1", "--out", out]);
    assert_eq!(case("plain").code, Some(0));
    let bytes = std::fs::read(place.path("plain")).unwrap();
    let mode = |name: &str| std::fs::metadata(place.path(name)).unwrap().permissions().mode();
    std::fs::write(place.path("made"), "").unwrap();
    assert_eq!(mode("plain"), mode("made"));

    std::os::unix::fs::symlink("real", place.path("link")).unwrap();
    assert_eq!(case("link").code, Some(0));
    assert!(std::fs::symlink_metadata(place.path("link")).unwrap().is_symlink());
    assert!(std::fs::read(place.path("real")).unwrap() == bytes);

    assert!(
        std::process::Command::new("mkfifo")
            .arg(place.path("pipe"))
            .status()
            .unwrap()
            .success()
    );
    let pipe = place.path("pipe");
    let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap());
    assert_eq!(case("pipe").code, Some(0));
    assert!(reader.join().unwrap() == bytes);
    assert!(std::fs::metadata(place.path("pipe")).unwrap().file_type().is_fifo());

    let full = case("/dev/full");
    assert_eq!(full.code, Some(2));
    assert!(std::fs::metadata("/dev/full").unwrap().file_type().is_char_device());
}

#[test]
fn streams_that_cannot_be_written_are_no_panic() {
    let place = Place::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [
        &["check", "--engine", "foo"][..],
        &["engines"],
        &["replay", "nowhere"],
        &["--nothing"],
    ] {
        let both = place.command(arguments).stdout(full()).stderr(full()).status().unwrap();
        assert_eq!(both.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_server_answers_every_line() {
    let place = Place::new();
    let mut command = place.command(&["serve", "reference"]);
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = server.stdin.take().unwrap();
    let mut stdout = server.stdout.take().unwrap();
    let writer = std::thread::spawn(move || {
        stdin.write_all(b"\xff\xfe\n{}\n").unwrap();
        for _ in 0..50 {
            stdin.write_all(&vec![0; 1 << 20]).unwrap();
        }
        stdin.write_all(b"\nno JSON\n").unwrap();
    });
    let mut answers = String::new();
    stdout.read_to_string(&mut answers).unwrap();
    writer.join().unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert_eq!(answers.lines().count(), 4, "{answers}");
    assert!(
        answers.lines().nth(2).unwrap().contains("found a longer one"),
        "{answers}"
    );
}

/// The limit on the size of a file stands for a disk that is full: no privilege is needed to set it.
#[test]
fn a_full_disk_is_an_error_of_the_run() {
    let place = Place::new();
    let program = rude("right");
    let check = place.command(&["check", "--command", &program, "--precision", "fp32", "--cases", "5"]);
    let mut shell = std::process::Command::new("sh");
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$@\"", "sh"])
        .arg(check.get_program())
        .args(check.get_args())
        .current_dir(place.path(""))
        .env("TMPDIR", place.path("tmp"));
    let left = left(shell.output().unwrap());
    assert_eq!(left.code, Some(2), "{}", left.stdout);
    assert!(
        left.stderr.contains("case.safetensors: File too large"),
        "{}",
        left.stderr
    );
    assert!(left.stdout.contains("by an error of this machine"), "{}", left.stdout);
    place.assert_nothing_left();
}

#[test]
fn a_temporary_folder_that_cannot_be_named_is_an_error_of_the_run() {
    let place = Place::new();
    let program = rude("right");
    let folder = place.path("").join(OsStr::from_bytes(b"\xff"));
    std::fs::create_dir(&folder).unwrap();
    let mut check = place.command(&["check", "--command", &program, "--precision", "fp32", "--cases", "5"]);
    assert_eq!(left(check.env("TMPDIR", folder).output().unwrap()).code, Some(2));
}
