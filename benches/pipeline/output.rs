//! What a run prints and writes: a table, the records of the seed's harness, a page and a chart.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::chart::chart;
use super::environment::{Environment, timestamp};
use super::measure::{FALLBACK_TOKENS, Measured, More, Times};
use super::stages::stages;
use super::validate::TOLERANCE;
use super::workload::{TOP_K, Workload};
use super::{Failure, Row};

/// A row for each workload.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "workload",
        "burst ms",
        "sustained ms",
        "TFLOP/s",
        "relative error",
        "bound used",
        "reference ms",
        "× reference",
        "its error",
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    align(&mut table, 1..9);
    table
}

pub(crate) fn align(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn cells(row: &Row) -> [String; 9] {
    let reference = row.reference.times.median();
    let machine = match &row.machine {
        None => [const { String::new() }; 5].map(|_| "–".to_owned()),
        Some((measured, more)) => [
            format!("{:.3}", measured.times.median()),
            format!("{:.3}", more.sustained.median()),
            format!(
                "{:.1}",
                row.workload.operations(row.kept) / measured.times.median() / 1e9
            ),
            format!("{:.2e}", measured.sample_error.relative),
            format!("{:.3}", measured.bound_used),
        ],
    };
    let [burst, sustained, rate, error, used] = machine;
    let times = |(measured, _): &(Measured, More)| format!("{:.0}", reference / measured.times.median());
    [
        row.name.clone(),
        burst,
        sustained,
        rate,
        error,
        used,
        format!("{reference:.0}"),
        row.machine.as_ref().map_or("–".to_owned(), times),
        format!("{:.2e}", row.reference.sample_error.relative),
    ]
}

/// Microseconds of each kernel, a row for each workload.
pub(crate) fn kernels(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let of = |row: &Row| {
        row.machine
            .as_ref()
            .map(|(_, more)| more.kernels.clone())
            .unwrap_or_default()
    };
    let names = rows.first().map(of).unwrap_or_default();
    let header = ["workload".to_owned()]
        .into_iter()
        .chain(names.iter().map(|(name, _)| format!("{name} µs")));
    table.set_header(header.chain(["together µs".to_owned()]));
    for row in rows {
        let times: Vec<f64> = of(row).iter().map(|(_, time)| 1e3 * time).collect();
        let sum = times.iter().sum::<f64>();
        let cells = times.iter().chain([&sum]).map(|time| format!("{time:.1}"));
        table.add_row([row.name.clone()].into_iter().chain(cells));
    }
    align(&mut table, 1..names.len() + 2);
    table
}

fn uses_tensor_cores(row: &Row) -> bool {
    row.machine.as_ref().is_some_and(|(_, more)| more.packed_bytes > 0)
}

/// Milliseconds with rows that are left to the fallback kernels, a row for each workload.
fn fallback(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let header = FALLBACK_TOKENS.map(|every| format!("1 in {every}"));
    table.set_header(["workload", "none"].map(str::to_owned).into_iter().chain(header));
    for row in rows {
        let Some((measured, more)) = &row.machine else { continue };
        let times = [measured.times.median()]
            .into_iter()
            .chain(more.fallback.iter().map(|(_, time)| *time));
        table.add_row(
            [row.name.clone()]
                .into_iter()
                .chain(times.map(|time| format!("{time:.3}"))),
        );
    }
    align(&mut table, 1..FALLBACK_TOKENS.len() + 2);
    table
}

/// Where the numbers come from.
pub(crate) fn facts(environment: &Environment) -> String {
    let device = environment.device.as_ref();
    let device = device.map_or("no GPU", |device| device.description.as_str());
    format!("device: {device}\nreference: {}", environment.cpu)
}

/// Writes `openai_moe.jsonl`, `pipeline.md` and `pipeline.svg`.
pub(crate) fn write(directory: &Path, environment: &Environment, rows: &[Row]) -> Result<(), Failure> {
    fs::create_dir_all(directory)?;
    let mut lines = String::new();
    for row in rows {
        for record in records(environment, row) {
            writeln!(lines, "{record}")?;
        }
    }
    fs::write(directory.join("openai_moe.jsonl"), lines)?;
    fs::write(directory.join("ours.jsonl"), ours(rows)?)?;
    fs::write(directory.join("pipeline.md"), page(environment, rows)?)?;
    fs::write(directory.join("pipeline.svg"), chart(environment, rows)?)?;
    Ok(())
}

fn page(environment: &Environment, rows: &[Row]) -> Result<String, Failure> {
    let mut page = String::from("# The pipeline on the seed's workloads\n\n");
    for line in facts(environment).lines() {
        writeln!(page, "- {line}")?;
    }
    writeln!(page, "- commit: {}", environment.commit)?;
    writeln!(page, "- date: {}", timestamp())?;
    writeln!(page, "- command: `{}`\n", environment.command)?;
    writeln!(page, "{}\n", table(rows))?;
    writeln!(page, "{CHART}")?;
    writeln!(page, "{}\n", kernels(rows))?;
    writeln!(page, "{STAGES}")?;
    writeln!(page, "{}\n", stages(rows))?;
    if rows.iter().any(uses_tensor_cores) {
        writeln!(page, "{EXACT}")?;
        writeln!(page, "{}\n", fallback(rows))?;
        for row in rows.iter().filter(|row| uses_tensor_cores(row)) {
            let Some((_, more)) = &row.machine else { continue };
            let megabytes = more.packed_bytes as f64 / 1e6;
            writeln!(
                page,
                "- {}: weights packed in {:.3} ms, {megabytes:.1} MB beside them",
                row.name, more.pack_ms
            )?;
        }
        page.push('\n');
    }
    page.push_str(EXPLANATION);
    for row in rows {
        let times = |name: &str, times: &Times| {
            let [low, middle, high] = [0.1, 0.5, 0.9].map(|share| times.quantile(share));
            format!(
                "| {} | {name} | {} | {low:.3} | {middle:.3} | {high:.3} |",
                row.name,
                times.raw.len()
            )
        };
        if let Some((measured, more)) = &row.machine {
            let all = [
                ("burst", &measured.times),
                ("sustained", &more.sustained),
                ("upload", &more.upload),
                ("download", &more.download),
            ];
            for (name, of) in all {
                writeln!(page, "{}", times(name, of))?;
            }
        }
        writeln!(page, "{}", times("reference", &row.reference.times))?;
    }
    Ok(page)
}

const CHART: &str = "\
![ms of each workload](pipeline.svg)

H 2880, I 2880, K 2, f32, unless it is a test; a capacity that drops nothing. Times are medians of the kernels, by
events, weights packed and inputs resident before: *burst* of runs queued one behind the other after 0.2 s of rest,
*sustained* of such runs after 0.3 s of them. TFLOP/s count 2·R·H·3I operations for R kept rows, in the burst.
*Relative error* is that of the outputs of 64 tokens, spread over the batch, against the definition in f64, in the
2-norm; *bound used* the largest share of an fp32 bound that one of them uses. *Its error* is the reference's.

Medians of each kernel, launched apart with an event before and one after it:
";

const STAGES: &str = "\
The stages: the fewest megabytes that each can move, its inputs read once and its outputs written once, and what it
computes. Gate_up and down share a kernel on the tensor cores:
";

const EXACT: &str = "\
Milliseconds of a burst with tokens that the tensor cores leave to the fallback kernels, one in so many:
";

const EXPLANATION: &str = "\
Transfers are timed apart, by the wall, from and to pageable memory.

| workload | what | runs | p10 ms | p50 ms | p90 ms |
|---|---|---|---|---|---|
";

/// A line a workload, as `benches/peers` reads them.
fn ours(rows: &[Row]) -> Result<String, Failure> {
    let mut lines = String::new();
    for row in rows {
        let Some((measured, more)) = &row.machine else { continue };
        let record = json!({
            "workload": row.name,
            "peer": "binned-experts",
            "class": "fp32",
            "burst_ms": measured.times.median(),
            "sustained_ms": more.sustained.median(),
            "relative_error": measured.sample_error.relative,
            "max_error": measured.sample_error.absmax,
        });
        writeln!(lines, "{record}")?;
    }
    Ok(lines)
}

/// A record for each implementation.
fn records(environment: &Environment, row: &Row) -> Vec<Value> {
    let device = environment.device.as_ref();
    let machine = device.zip(row.machine.as_ref()).map(|(device, (measured, _))| {
        let tags = json!({ "family": "binned_experts", "backend": device.kind });
        let against = "binned_experts_reference";
        (
            format!(
                "binned_experts_{}",
                if device.kind == "cuda" { "gpu" } else { device.kind }
            ),
            tags,
            device.kind,
            measured,
            against,
        )
    });
    let tags = json!({ "family": "binned_experts", "backend": "ndarray" });
    let against = "the definition in f64, on a sample of tokens";
    let reference = (
        "binned_experts_reference".to_owned(),
        tags,
        "cpu",
        &row.reference,
        against,
    );
    machine
        .into_iter()
        .chain([reference])
        .map(|(implementation, tags, device, measured, against)| {
            json!({
                "ts": timestamp(),
                "run": environment.run,
                "impl": implementation,
                "tags": tags,
                "wl": workload_json(&row.workload, device),
                "env": environment_json(environment),
                "lat_ms": times_json(&measured.times),
                "compile_ms": measured.first_ms,
                "peak_bytes": null,
                "ok": true,
                "absmax": measured.error.absmax,
                "corr": correctness_json(measured, against),
                "err": null,
            })
        })
        .collect()
}

fn workload_json(workload: &Workload, device: &str) -> Value {
    json!({
        "name": format!("{device}_{}", workload.name()),
        "batch": workload.batch,
        "seq_len": workload.sequence,
        "hidden_dim": workload.hidden,
        "expert_dim": 2 * workload.intermediate,
        "num_experts": workload.experts,
        "top_k": TOP_K,
        "dtype": "float32",
        "device": if device == "cuda" { "cuda" } else { "cpu" },
    })
}

fn environment_json(environment: &Environment) -> Value {
    let device = environment.device.as_ref();
    json!({
        "torch": null,
        "cuda": device.map_or("", |device| &device.cuda),
        "gpu": device.map_or("", |device| &device.gpu),
        "sm": device.map_or("", |device| &device.compute_capability),
        "py": null,
        "plat": format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn times_json(times: &Times) -> Value {
    let spread = times.spread();
    json!({
        "p10": times.quantile(0.1),
        "p50": times.median(),
        "p90": times.quantile(0.9),
        "mean": times.mean(),
        "iqr": spread,
        "raw_times": times.raw,
        "has_warnings": spread > 0.1 * times.median(),
        "reps": times.raw.len(),
        "warmup": times.warmup,
    })
}

fn correctness_json(measured: &Measured, against: &str) -> Value {
    json!({
        "ok": true,
        "rtol": TOLERANCE,
        "atol": TOLERANCE,
        "absmax": measured.error.absmax,
        "mae": measured.error.mae,
        "mse": measured.error.mse,
        "ref": against,
        "bound_used": measured.bound_used,
    })
}
