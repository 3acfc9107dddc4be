//! A program for `--command` that misbehaves, for the tests of runs.
//!
//! `rude MODE` does one thing in every case. `rude soak SEED` draws a mode for each case from the seed and the number of
//! the case, so that a program that is started again goes on with another one.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use binned_experts_check::case::file::{read_case, read_tensors, write_tensors};
use binned_experts_check::engine::program::tensors;
use binned_experts_check::engine::{Reference, forward};
use binned_experts_check::{Stage, Tensor};

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

/// What a soak draws from. Right answers are the most frequent, so that no ten cases in a row stay without one.
const SOAK: [&str; 24] = [
    "right", "right", "right", "right", "right", "right", "right", "right", "right", "wrong", "late", "never", "twice",
    "garbage", "binary", "escapes", "die", "child", "orphan", "fifo", "symlink", "sparse", "flood", "nothing",
];

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mode = arguments.first().ok_or("expected a mode")?;
    let argument = arguments.get(1).map_or("0", String::as_str);
    if mode == "slow-start" {
        std::thread::sleep(Duration::from_secs_f64(argument.parse()?));
        say(r#"{"ready": true}"#)?;
    }
    let mut weights = None;
    for (number, line) in std::io::stdin().lock().lines().enumerate() {
        let request: serde_json::Value = serde_json::from_str(&line?)?;
        match mode.as_str() {
            "weights-apart" => {
                say(&told_of_weights(&request, &mut weights))?;
                continue;
            }
            "dies-now-and-then" if number == 6 => std::process::exit(3),
            _ => {}
        }
        let path = |name: &str| request[name].as_str().map(Path::new).ok_or("expected a path");
        let (case, output) = (path("case")?, path("output")?);
        let mode = match mode.as_str() {
            "soak" => drawn(case, argument.parse()?),
            "every-third-wrong" if number % 3 == 1 => "wrong",
            "every-third-wrong" => "right",
            mode => mode,
        };
        misbehave(mode, argument, case, output)?;
    }
    Ok(())
}

/// A mode for the case of a folder's number.
fn drawn(case: &Path, seed: u64) -> &'static str {
    let folder = case.parent().and_then(Path::file_name).unwrap_or_default();
    let number: u64 = folder.to_string_lossy().parse().unwrap_or_default();
    // SplitMix64.
    let mut bits = (seed << 32 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    SOAK[((bits ^ (bits >> 31)) % SOAK.len() as u64) as usize]
}

/// What is told of the experts' weights, and whether that can be.
fn told_of_weights(request: &serde_json::Value, known: &mut Option<String>) -> String {
    if request["describe"] == true {
        return r#"{"domain": {"precision": ["fp32"]}, "name": "apart", "weights_apart": true}"#.to_owned();
    }
    let tensors = |name: &str| {
        let path = request[name].as_str().unwrap_or_default();
        read_tensors(Path::new(path)).map(|tensors| Vec::from_iter(tensors.into_keys()))
    };
    let are_apart = matches!((tensors("case"), tensors("weights")), (Ok(case), Ok(weights))
        if weights == ["down_proj", "down_proj_bias", "gate_up_proj", "gate_up_proj_bias"]
            && case.iter().all(|name| !weights.contains(name)));
    let path = request["weights"].as_str().map(str::to_owned);
    let said = match request["weights_changed"].as_bool() {
        Some(true) if are_apart && path != *known => r#"{"skip": "other weights"}"#,
        Some(false) if are_apart && path == *known => r#"{"skip": "the same weights"}"#,
        _ => r#"{"error": "told wrongly"}"#,
    };
    *known = path;
    said.to_owned()
}

fn misbehave(mode: &str, argument: &str, case: &Path, output: &Path) -> Result {
    match mode {
        "right" | "slow-start" | "dies-now-and-then" => answer(case, output, |_| {})?,
        "odd" if read_case(case)?.problem.dims().hidden % 2 == 1 => return say(r#"{"error": "H is odd"}"#),
        "odd" => answer(case, output, |_| {})?,
        "marking" => {
            mark(Path::new(argument))?;
            answer(case, output, |_| {})?;
        }
        "wrong" => answer(case, output, |values| values.iter_mut().for_each(|value| *value += 1.0))?,
        // Less than what bf16 rounds.
        "larger" => answer(case, output, |values| {
            values.iter_mut().for_each(|value| *value *= 1.003)
        })?,
        "extra" => answer_with_extras(case, output)?,
        "late" => {
            answer(case, output, |_| {})?;
            std::thread::sleep(Duration::from_secs(2));
        }
        "never" => sleep(),
        "twice" => {
            answer(case, output, |_| {})?;
            say(r#"{"ok": true}"#)?;
        }
        "garbage" => say(&"garbage ".repeat(20_000))?,
        "binary" => say_bytes(b"\xff\xfe\x00\x1b[31m\n")?,
        "escapes" => return say(r#"{"error": "\u001b[31mred\u001b[0m\u0000\r\u0007 end"}"#),
        "numbered" => return say(&format!(r#"{{"error": "H = {} is not mine"}}"#, case.as_os_str().len())),
        "die" => {
            eprintln!("\x1b[31mTraceback: the last words");
            std::process::exit(3);
        }
        "child" => {
            descendant("trap '' TERM; sleep 7777")?;
            sleep();
        }
        "orphan" => {
            descendant("trap '' TERM; sleep 7777")?;
            std::process::exit(4);
        }
        "fifo" => run("mkfifo", &[output])?,
        "symlink" => run("ln", &[Path::new("-s"), Path::new("/dev/zero"), output])?,
        "directory" => std::fs::create_dir(output)?,
        "sparse" => std::fs::File::create(output)?.set_len(1 << 40)?,
        "flood" => {
            std::io::stderr().write_all(&b"flood ".repeat(50_000))?;
            answer(case, output, |_| {})?;
        }
        "nothing" => {}
        "killed-folder" => std::fs::remove_dir_all(output.parent().and_then(Path::parent).ok_or("no folder")?)?,
        "fill" => std::fs::write(argument, vec![0; 1 << 20])?,
        _ => return Err(format!("expected a mode, found {mode}").into()),
    }
    say(r#"{"ok": true}"#)
}

/// Leaves a mark while it waits a little, and a file that says how many marks it saw.
fn mark(folder: &Path) -> Result {
    let own = folder.join(format!("at-{}", std::process::id()));
    std::fs::write(&own, "")?;
    std::thread::sleep(Duration::from_millis(30));
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<Vec<_>>>()?;
    let seen = names.iter().filter(|name| name.starts_with("at-")).count();
    std::fs::write(folder.join(format!("saw-{seen}-{}", std::process::id())), "")?;
    Ok(std::fs::remove_file(own)?)
}

/// The right result, with its output changed.
fn answer(case: &Path, output: &Path, change: impl FnOnce(&mut [f64])) -> Result {
    let problem = read_case(case)?.problem;
    let outcome = forward(&mut Reference, &problem)?;
    let mut tensors = tensors(&outcome, &problem, 1 << 16);
    let mut values = ndarray::ArrayD::from_shape_vec(outcome.output.shape(), outcome.output.to_f64())?;
    if let Some(values) = values.as_slice_mut() {
        change(values);
    }
    tensors.insert(Stage::Output.to_string(), Tensor::from_f64(values, problem.element()));
    Ok(write_tensors(output, &tensors)?)
}

/// The right output with indices of 32 bits and a tensor that nobody knows, of a type that nobody knows.
fn answer_with_extras(case: &Path, output: &Path) -> Result {
    let problem = read_case(case)?.problem;
    let values = forward(&mut Reference, &problem)?.output;
    let single: Vec<u8> = values
        .to_f64()
        .iter()
        .flat_map(|value| (*value as f32).to_le_bytes())
        .collect();
    let bins: Vec<u8> = problem
        .bins()
        .ends()
        .iter()
        .flat_map(|end| (*end as i32).to_le_bytes())
        .collect();
    let (bins_at, mask_at) = (single.len(), single.len() + bins.len());
    let header = serde_json::json!({
        "output": {"dtype": "F32", "shape": values.shape(), "data_offsets": [0, bins_at]},
        "bins": {"dtype": "I32", "shape": [bins.len() / 4], "data_offsets": [bins_at, mask_at]},
        "mask": {"dtype": "BOOL", "shape": [1], "data_offsets": [mask_at, mask_at + 1]},
    })
    .to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    for part in [header.as_bytes(), &single, &bins, &[1]] {
        file.extend(part);
    }
    Ok(std::fs::write(output, file)?)
}

fn descendant(script: &str) -> Result {
    let mut command = Command::new("sh");
    // It holds neither pipe, as a kernel that is left on a GPU.
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn()?;
    Ok(())
}

fn run(program: &str, arguments: &[&Path]) -> Result {
    Command::new(program).args(arguments).status()?;
    Ok(())
}

fn sleep() {
    std::thread::sleep(Duration::from_secs(7777));
}

fn say(line: &str) -> Result {
    say_bytes(format!("{line}\n").as_bytes())
}

fn say_bytes(bytes: &[u8]) -> Result {
    let mut stdout = std::io::stdout();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}
