//! What a run prints and writes: a table, the records of the seed's harness, a page and a chart.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::chart::chart;
use super::environment::{Environment, timestamp};
use super::measure::{Measured, Times, Transfers};
use super::validate::TOLERANCE;
use super::workload::{TOP_K, Workload};
use super::{Failure, Row};

/// A row for each workload.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "workload",
        "GPU ms",
        "p10 to p90",
        "TFLOP/s",
        "upload ms",
        "download ms",
        "reference ms",
        "× reference",
        "bound used",
    ]);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in 1..9 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn cells(row: &Row) -> [String; 9] {
    let none = || "–".to_owned();
    let reference = row.reference.times.median();
    let reference_ms = format!("{reference:.1}");
    let Some((measured, transfers)) = &row.machine else {
        let used = format!("{:.3}", row.reference.bound_used);
        return [
            row.name.clone(),
            none(),
            none(),
            none(),
            none(),
            none(),
            reference_ms,
            none(),
            used,
        ];
    };
    let times = &measured.times;
    [
        row.name.clone(),
        format!("{:.3}", times.median()),
        format!("{:.3} to {:.3}", times.quantile(0.1), times.quantile(0.9)),
        format!("{:.2}", row.workload.operations(row.kept) / times.median() / 1e9),
        format!("{:.3}", transfers.upload.median()),
        format!("{:.3}", transfers.download.median()),
        reference_ms,
        format!("{:.1}", reference / times.median()),
        format!("{:.3}", measured.bound_used),
    ]
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
        if let Some((measured, Transfers { upload, download })) = &row.machine {
            let all = [("kernels", &measured.times), ("upload", upload), ("download", download)];
            for (name, of) in all {
                writeln!(page, "{}", times(name, of))?;
            }
        }
        writeln!(page, "{}", times("reference", &row.reference.times))?;
    }
    Ok(page)
}

const EXPLANATION: &str = "\
![ms of each workload](pipeline.svg)

H 2880, I 2880, K 2, f32, unless it is a test; a capacity that drops nothing. Times are medians: of the kernels alone,
by events, weights and inputs resident; of the transfers apart, wall time from and to pageable memory. TFLOP/s count
2·R·H·3I operations for R kept rows. *Bound used* is the largest share of an fp32 bound that an output of 64 tokens,
spread over the batch, uses; without a GPU, that of the reference.

| workload | what | runs | p10 ms | p50 ms | p90 ms |
|---|---|---|---|---|---|
";

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
