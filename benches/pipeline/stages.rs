//! What each stage of the pipeline moves and computes.

use comfy_table::{Table, presets};

use super::Row;
use super::measure::More;
use super::output::align;
use super::workload::TOP_K;

/// A stage of one run.
struct Stage {
    name: &'static str,
    milliseconds: f64,
    /// The fewest bytes it can move: each input read once, each output written once.
    bytes: f64,
    /// Operations of the products.
    operations: f64,
}

/// A row for each workload and stage.
pub(crate) fn stages(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["workload", "stage", "µs", "MB", "GB/s", "TFLOP/s"]);
    for row in rows {
        let Some((_, more)) = &row.machine else { continue };
        for stage in of_row(row, more) {
            let rate = |amount: f64| match amount {
                0.0 => String::new(),
                _ => format!("{:.0}", amount / stage.milliseconds),
            };
            table.add_row([
                row.name.clone(),
                stage.name.to_owned(),
                format!("{:.1}", 1e3 * stage.milliseconds),
                format!("{:.1}", stage.bytes / 1e6),
                rate(stage.bytes / 1e6),
                rate(stage.operations / 1e9),
            ]);
        }
    }
    align(&mut table, 2..6);
    table
}

fn of_row(row: &Row, more: &More) -> Vec<Stage> {
    let workload = &row.workload;
    let tokens = (workload.batch * workload.sequence) as f64;
    let (kept, experts) = (row.kept as f64, workload.experts as f64);
    let (hidden, intermediate) = (workload.hidden as f64, workload.intermediate as f64);
    let gate_up = experts * hidden * 2.0 * intermediate;
    let down = experts * intermediate * hidden;
    let products = workload.operations(row.kept);
    let has_tensor_cores = more.packed_bytes > 0;

    // Values of four bytes and operations; none for a kernel that has nothing to do.
    let of_kernel = |kernel: &str| match kernel {
        "count_assignments" | "rank_assignments" | "scan_bins" => Some(("route", tokens * TOP_K as f64 * 2.0, 0.0)),
        "split_tokens" => Some(("split_tokens", (tokens + kept) * hidden, 0.0)),
        // The activations are written, and read again.
        "experts" => Some((
            "experts",
            gate_up + down + kept * (2.0 * hidden + 2.0 * intermediate),
            products,
        )),
        "gate_up" if !has_tensor_cores => Some((
            "gate_up",
            gate_up + tokens * hidden + kept * intermediate,
            products * 2.0 / 3.0,
        )),
        "down" if !has_tensor_cores => Some(("down", down + kept * (intermediate + hidden), products / 3.0)),
        "combine" => Some(("combine", (kept + tokens) * hidden, 0.0)),
        _ => None,
    };
    let mut stages: Vec<Stage> = Vec::new();
    if has_tensor_cores {
        stages.push(Stage {
            name: "pack, once",
            milliseconds: more.pack_ms,
            bytes: 4.0 * (gate_up + down) + more.packed_bytes as f64,
            operations: 0.0,
        });
    }
    for (kernel, milliseconds) in &more.kernels {
        let Some((name, values, operations)) = of_kernel(kernel) else {
            continue;
        };
        match stages.last_mut().filter(|last| last.name == name) {
            // The kernels of a stage share what it moves.
            Some(last) => last.milliseconds += milliseconds,
            None => stages.push(Stage {
                name,
                milliseconds: *milliseconds,
                bytes: 4.0 * values,
                operations,
            }),
        }
    }
    stages
}
