//! The pipeline in bf16 at the sizes of gpt-oss on the first GPU: is it right, and how long does it take?
//!
//! ```text
//! cargo bench --bench bf16                # all shapes, as Markdown
//! cargo bench --bench bf16 -- --test      # small ones in a moment, on the emulator if there is no GPU
//! ```
//!
//! A time is that of whole forwards from routing to combine, weights packed and inputs resident before. Forwards are
//! queued in bursts and alternate between two layers with weights and routings of their own, so that each reads its weights
//! from memory. The status is 1 if an output is wrong.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use binned_experts_check::judge::{Trial, compare};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{AnyProblem, Outcome, Precision, Verdict};
use binned_experts_gpu::{Cuda, Emulator, GpuError, Machine, Pipeline, Uploaded};
use binned_experts_reference::{ExpertWeights, Problem};
use clap::Parser;
use cudarc::driver::{CudaStream, sys::CUevent_flags};
use half::bf16;
use ndarray::{Array2, Array3, Axis};

type Failure = Box<dyn std::error::Error>;

/// What an H100 with 80 GB of HBM3 reached: bytes a millisecond of a kernel that only reads memory, and operations a
/// millisecond of cuBLAS with a bf16 product of 8192 x 8192 x 8192, in short bursts.
const BYTES_A_MS: f64 = 3.11e9;
const OPERATIONS_A_MS: f64 = 774e9;

/// Matrices that differ; experts take them in turns, since to draw all would take minutes.
const DISTINCT: usize = 4;

/// Times the pipeline in bf16 at the sizes of gpt-oss.
#[derive(Parser)]
struct Args {
    /// Small shapes, once.
    #[arg(long)]
    test: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
struct Plan {
    width: usize,
    experts: Vec<usize>,
    tokens: Vec<usize>,
    top_k: usize,
    bursts: usize,
    load: Duration,
}

impl Plan {
    fn new(test: bool) -> Plan {
        if test {
            return Plan {
                width: 72,
                experts: vec![4],
                tokens: vec![1, 40],
                top_k: 2,
                bursts: 1,
                load: Duration::ZERO,
            };
        }
        Plan {
            width: 2880,
            experts: vec![32, 128],
            tokens: vec![1, 8, 64, 512, 4096, 16384],
            top_k: 4,
            bursts: 7,
            load: Duration::from_millis(300),
        }
    }
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
    let plan = Plan::new(args.test);
    match Cuda::new() {
        Ok(first) => {
            println!("{}\n", first.description()?);
            let stream = first.stream().clone();
            let second = Cuda::on_stream(stream.clone())?;
            run_on(&plan, [first, second], Some(&stream))
        }
        Err(reason @ GpuError::Unavailable { .. }) if std::env::var_os("BINNED_EXPERTS_REQUIRE_GPU").is_none() => {
            println!("no GPU was found: {reason}");
            if args.test {
                run_on(&plan, [Emulator::new()?, Emulator::new()?], None)?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

fn run_on<M: Machine>(plan: &Plan, machines: [M; 2], stream: Option<&Arc<CudaStream>>) -> Result<(), Failure> {
    println!("| E | T | path | ms | under load | floor | floor / ms |\n|---|---|---|---|---|---|---|");
    let nothing = Arc::new(weights(plan.width, 0)?);
    let [first, second] = machines;
    let mut layers = [Pipeline::new(nothing.clone(), first)?, Pipeline::new(nothing, second)?];
    for &experts in &plan.experts {
        let weights = Arc::new(weights(plan.width, experts)?);
        for layer in &mut layers {
            layer.load_weights(weights.clone())?;
        }
        for &tokens in &plan.tokens {
            measure(plan, &mut layers, stream, tokens)?;
        }
    }
    Ok(())
}

/// Checks both layers, and prints the row of a shape.
fn measure<M: Machine>(
    plan: &Plan,
    layers: &mut [Pipeline<M, bf16>; 2],
    stream: Option<&Arc<CudaStream>>,
    tokens: usize,
) -> Result<(), Failure> {
    let weights = layers[0].weights().ok_or("expected weights of the host's")?.clone();
    let problem = |seed| problem(&weights, tokens, plan.top_k, seed);
    let problems = [problem(tokens as u64)?, problem(tokens as u64 + 1)?];
    let mut right = Vec::new();
    for (layer, problem) in layers.iter_mut().zip(&problems) {
        let output = layer.forward(problem)?;
        expect_right(problem, &output)?;
        right.push(output);
    }
    let path = layers[0].path().name();
    let [first, second] = layers;
    let mut uploaded = [first.upload(&problems[0])?, second.upload(&problems[1])?];
    let burst = if tokens <= 512 { 40 } else { 6 };
    let mut times = Vec::new();
    for _ in 0..plan.bursts {
        sleep(plan.load / 3);
        time(&mut uploaded, stream, 2)?;
        times.push(time(&mut uploaded, stream, burst)?);
    }
    times.sort_by(f64::total_cmp);
    let ms = times[times.len() / 2];
    let load = 1 + (plan.load.as_secs_f64() * 1e3 / ms) as usize;
    time(&mut uploaded, stream, load)?;
    let loaded = time(&mut uploaded, stream, load)?;
    for (uploaded, right) in uploaded.iter_mut().zip(&right) {
        let output = uploaded.download()?;
        if output.mapv(bf16::to_bits) != right.mapv(bf16::to_bits) {
            return Err(format!("T {tokens}: the timed runs computed something else").into());
        }
    }
    let floor = (floor(&problems[0]) + floor(&problems[1])) / 2.0;
    println!(
        "| {} | {tokens} | {path} | {ms:.4} | {loaded:.4} | {floor:.3} | {:.2} |",
        weights.experts(),
        floor / ms
    );
    Ok(())
}

/// Milliseconds of a forward, of so many in turns.
fn time<M: Machine>(
    uploaded: &mut [Uploaded<'_, M, bf16>; 2],
    stream: Option<&Arc<CudaStream>>,
    count: usize,
) -> Result<f64, Failure> {
    let event = || {
        let event = |stream: &Arc<CudaStream>| stream.record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
        stream.map(event).transpose()
    };
    let (start, wall) = (event()?, Instant::now());
    for i in 0..count {
        uploaded[i % 2].run()?;
    }
    let ms = match (start, event()?) {
        (Some(start), Some(end)) => {
            end.synchronize()?;
            f64::from(start.elapsed_ms(&end)?)
        }
        _ => wall.elapsed().as_secs_f64() * 1e3,
    };
    Ok(ms / count as f64)
}

/// The larger of two times: for the weights of the experts that have rows, and for the products.
fn floor(problem: &Problem<bf16>) -> f64 {
    let (dims, bins) = (problem.dims(), problem.bins());
    let matrix = (dims.hidden * 3 * dims.intermediate) as f64;
    let busy = (0..dims.experts)
        .filter(|&expert| !bins.range(expert).is_empty())
        .count();
    let bytes = busy as f64 * matrix * size_of::<bf16>() as f64;
    let operations = 2.0 * bins.assignments() as f64 * matrix;
    (bytes / BYTES_A_MS).max(operations / OPERATIONS_A_MS)
}

/// Compares the first and the last token with the definition. The capacity drops nothing, so that a token's result does not
/// depend on the others, and only the experts of the two matter.
fn expect_right(problem: &Problem<bf16>, output: &Array3<bf16>) -> Result<(), Failure> {
    let tokens: Vec<usize> = if output.dim().1 > 1 {
        vec![0, output.dim().1 - 1]
    } else {
        vec![0]
    };
    let ids = problem.router_indices().select(Axis(0), &tokens);
    let mut experts: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
    experts.sort_unstable();
    experts.dedup();
    let place = |&id: &i64| {
        experts
            .iter()
            .position(|&expert| expert == id as usize)
            .map_or(-1, |place| place as i64)
    };
    let weights = problem.weights();
    let part = Problem::new(
        problem.hidden_states().select(Axis(1), &tokens),
        ids.map(place),
        problem
            .routing_weights()
            .select(Axis(1), &tokens)
            .select(Axis(2), &experts),
        ExpertWeights::new(
            weights.gate_up_proj().select(Axis(0), &experts),
            weights.gate_up_proj_bias().select(Axis(0), &experts),
            weights.down_proj().select(Axis(0), &experts),
            weights.down_proj_bias().select(Axis(0), &experts),
        )?,
        problem.capacity(),
    )?;
    let trial = Trial::from_problem(AnyProblem::Bf16(part), &[Precision::BF16]);
    let bounds = trial.bounds(Precision::BF16).ok_or("no bounds")?;
    let outcome = Outcome::output(output.select(Axis(1), &tokens));
    match compare(trial.expected(), bounds, &outcome) {
        Verdict::Agree { .. } => Ok(()),
        verdict => Err(verdict_text(&verdict).into()),
    }
}

/// Projections of deviation 1 / sqrt(depth), so that some gates pass the limit; biases of deviation 0.1.
fn weights(width: usize, experts: usize) -> Result<ExpertWeights<bf16>, Failure> {
    let mut random = Random(experts as u64);
    let scale = 1.0 / (width as f32).sqrt();
    let distinct = experts.min(DISTINCT);
    let mut matrices =
        |columns: usize, scale: f32| Array3::from_shape_simple_fn((distinct, width, columns), || random.normal(scale));
    let (gate_up, down) = (matrices(2 * width, 3.0 * scale), matrices(width, scale));
    let mut biases = |columns: usize| Array2::from_shape_simple_fn((experts, columns), || random.normal(0.1).to_f32());
    let (gate_up_bias, down_bias) = (biases(2 * width), biases(width));
    let of_experts: Vec<usize> = (0..experts).map(|expert| expert % DISTINCT).collect();
    let repeated = |matrices: Array3<bf16>| matrices.select(Axis(0), &of_experts);
    Ok(ExpertWeights::new(
        repeated(gate_up),
        gate_up_bias,
        repeated(down),
        down_bias,
    )?)
}

/// Tokens of deviation 1, each with K different experts.
fn problem(
    weights: &Arc<ExpertWeights<bf16>>,
    tokens: usize,
    top_k: usize,
    seed: u64,
) -> Result<Problem<bf16>, Failure> {
    let (hidden, experts) = (weights.hidden(), weights.experts());
    let mut random = Random(seed << 20);
    let hidden_states = Array3::from_shape_simple_fn((1, tokens, hidden), || random.normal(1.0));
    let routing_weights = Array3::from_shape_simple_fn((1, tokens, experts), || random.normal(0.5).to_f32());
    let mut ids = Array2::zeros((tokens, top_k));
    let mut all: Vec<i64> = (0..experts as i64).collect();
    for mut row in ids.rows_mut() {
        for slot in 0..top_k {
            all.swap(slot, slot + random.next() as usize % (experts - slot));
            row[slot] = all[slot];
        }
    }
    Ok(Problem::new(
        hidden_states,
        ids,
        routing_weights,
        weights.clone(),
        tokens * top_k,
    )?)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Close to normal, of this deviation: four uniform numbers of 16 bits.
    fn normal(&mut self, deviation: f32) -> bf16 {
        let bits = self.next();
        let sum: i32 = [0, 16, 32, 48]
            .map(|shift| i32::from((bits >> shift) as u16))
            .iter()
            .sum();
        bf16::from_f32(deviation * (sum - 2 * 0xffff) as f32 * (3f32.sqrt() / 65536.0))
    }
}
