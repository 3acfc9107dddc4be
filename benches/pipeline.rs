//! The pipeline on the seed's eight workloads: is it right, and how long does it take beside the reference?
//!
//! ```text
//! cargo bench --bench pipeline                        # all workloads, on the first GPU and by the reference
//! cargo bench --bench pipeline -- B1_S512 --out DIR   # those whose name contains it; results to DIR
//! cargo bench --bench pipeline -- --batch-invariant   # the pipeline in that mode
//! cargo bench --bench pipeline -- --test              # small ones in a moment, on the emulator if there is no GPU
//! ```
//!
//! Without a GPU it times the reference alone; with `BINNED_EXPERTS_REQUIRE_GPU=1` that is a failure. The status is 1 if an
//! output is wrong.

#[path = "pipeline/chart.rs"]
mod chart;
#[path = "pipeline/environment.rs"]
mod environment;
#[path = "pipeline/measure.rs"]
mod measure;
#[path = "pipeline/output.rs"]
mod output;
#[path = "pipeline/stages.rs"]
mod stages;
#[path = "pipeline/timed.rs"]
mod timed;
#[path = "pipeline/validate.rs"]
mod validate;
#[path = "pipeline/workload.rs"]
mod workload;

use std::collections::btree_map::{BTreeMap, Entry};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use binned_experts_gpu::{Cuda, Emulator, GpuError, Machine, Pipeline};
use binned_experts_reference::ExpertWeights;
use clap::Parser;

use environment::{Device, Environment};
use measure::{Clock, Effort, Measured, More};
use timed::Timed;
use validate::Sample;
use workload::Workload;

type Failure = Box<dyn std::error::Error>;

/// Times the pipeline and the reference on the seed's workloads.
#[derive(Parser)]
struct Args {
    /// Only workloads whose name contains this.
    filter: Option<String>,
    /// Folder for openai_moe.jsonl, pipeline.md and pipeline.svg [default: target/bench-results].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Small workloads, once; files to a folder that is thrown away unless --out names one.
    #[arg(long)]
    test: bool,
    /// With the same bits of a token in any batch, which cuts no tiles.
    #[arg(long)]
    batch_invariant: bool,
    /// Seconds for the reference on a workload; it runs twice at least.
    #[arg(long, default_value_t = 60)]
    reference_budget: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Everything measured on a workload.
struct Row {
    workload: Workload,
    /// The workload's name, with that of the device before it.
    name: String,
    /// Assignments that the capacity keeps.
    kept: usize,
    machine: Option<(Measured, More)>,
    reference: Measured,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    match Cuda::new() {
        Ok(cuda) => {
            let (device, clock) = (Device::of_cuda(&cuda)?, Clock::Events(cuda.stream().clone()));
            run_on(args, Some((cuda, device)), &clock)
        }
        Err(reason @ GpuError::Unavailable { .. }) if std::env::var_os("BINNED_EXPERTS_REQUIRE_GPU").is_none() => {
            println!("no GPU was found: {reason}");
            run_on(args, if args.test { host() } else { None }, &Clock::Wall)
        }
        Err(error) => Err(error.into()),
    }
}

/// The machine of the test where there is no GPU.
fn host() -> Option<(Emulator, Device)> {
    match Emulator::new() {
        Ok(host) => Some((host, Device::of_host())),
        Err(reason) => {
            println!("nor is there an emulator: {reason}");
            None
        }
    }
}

fn run_on<M: Machine>(args: &Args, machine: Option<(M, Device)>, clock: &Clock) -> Result<(), Failure> {
    let (machine, device) = machine.unzip();
    let environment = Environment::new(device);
    println!("{}\n", output::facts(&environment));

    let rows = measure_all(args, machine, clock, &environment)?;
    println!("{}\n", output::table(&rows));
    println!("{}\n", output::kernels(&rows));

    let temporary = tempfile::tempdir()?;
    let directory = match &args.out {
        Some(directory) => directory.clone(),
        None if args.test => temporary.path().to_owned(),
        None => PathBuf::from("target/bench-results"),
    };
    output::write(&directory, &environment, &rows)?;
    println!(
        "written: openai_moe.jsonl, pipeline.md and pipeline.svg in {}",
        directory.display()
    );
    Ok(())
}

fn measure_all<M: Machine>(
    args: &Args,
    machine: Option<M>,
    clock: &Clock,
    environment: &Environment,
) -> Result<Vec<Row>, Failure> {
    let mut workloads = if args.test {
        Workload::tiny()
    } else {
        Workload::of_seed()
    };
    workloads.retain(|workload| {
        let filter = args.filter.as_deref().unwrap_or_default();
        workload.name().contains(filter)
    });
    let first = workloads.first().ok_or("no workload has such a name")?;
    let mut weights = BTreeMap::from([(first.experts, first.weights()?)]);
    let mut pipeline = machine
        .map(|machine| {
            let stream = match clock {
                Clock::Events(stream) => Some(stream.clone()),
                Clock::Wall => None,
            };
            let pipeline = Pipeline::new(weights[&first.experts].clone(), Timed::new(machine, stream))?;
            Ok::<_, GpuError>(if args.batch_invariant {
                pipeline.batch_invariant()
            } else {
                pipeline
            })
        })
        .transpose()?;

    let device = environment.device.as_ref().map_or("cpu", |device| device.kind);
    let mut rows = Vec::new();
    for workload in workloads {
        let name = format!("{device}_{}", workload.name());
        eprintln!("{name}");
        let weights = match weights.entry(workload.experts) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(missing) => missing.insert(workload.weights()?),
        };
        let measured = measure(workload, weights, pipeline.as_mut(), clock, effort(args));
        rows.push(Row {
            name: name.clone(),
            ..measured.map_err(|failure| format!("{name}: {failure}"))?
        });
    }
    Ok(rows)
}

fn measure<M: Machine>(
    workload: Workload,
    weights: &Arc<ExpertWeights<f32>>,
    pipeline: Option<&mut Pipeline<Timed<M>>>,
    clock: &Clock,
    effort: Effort,
) -> Result<Row, Failure> {
    let problem = workload.problem(weights)?;
    let sample = Sample::new(&problem)?;
    let (reference, output) = measure::reference(&problem, &sample, effort)?;
    let machine = match pipeline {
        None => None,
        Some(pipeline) => {
            if !pipeline.weights().is_some_and(|own| Arc::ptr_eq(own, weights)) {
                pipeline.load_weights(weights.clone())?;
            }
            Some(measure::machine(pipeline, clock, &problem, &sample, &output, effort)?)
        }
    };
    let bins = problem.bins();
    Ok(Row {
        workload,
        name: workload.name(),
        kept: bins.assignments() - bins.dropped(problem.capacity()),
        machine,
        reference,
    })
}

fn effort(args: &Args) -> Effort {
    Effort {
        warmup: if args.test { 1 } else { 3 },
        repetitions: if args.test { 2 } else { 30 },
        pause: Duration::from_millis(if args.test { 0 } else { 200 }),
        load: Duration::from_millis(if args.test { 0 } else { 300 }),
        reference_repetitions: 2,
        reference_budget: Duration::from_secs(args.reference_budget),
    }
}
