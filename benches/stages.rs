//! Each stage of the reference on the seed's workload B1_S512_E2 (T 512, H 2880, I 2880, E 2, K 2, f32), and the whole
//! beside ndarray's own `dot` for the same products of the kept rows, in turns in one run.
//!
//! `cargo bench` measures; with `-- --test` each runs once. The status is 1 if the whole takes more than 1.5 times the
//! products.

use std::hint::black_box;
use std::time::Instant;

use binned_experts_check::{AnyProblem, CaseSpec};
use binned_experts_reference::{
    Problem, Trace, activate, binned_experts_ref, binned_gather, binned_scatter, down, gate_up, select_weights,
    sort_tokens_by_expert,
};
use criterion::Criterion;
use ndarray::Axis;

/// The most that the whole may take, in times of its products.
const MAX_RATIO: f64 = 1.5;
/// Turns of the comparison with `dot`.
const TURNS: usize = 7;

const WORKLOAD: &str = "element = 'f32'\nbatch = 1\nsequence = 512\nhidden = 2880\nintermediate = 2880\nexperts = 2\n\
    top_k = 2\ncapacity = 1024\nalpha = 1.702\nlimit = 7.0\nseed = 0\nrouting = 'uniform'\nvalues = 'gentle'\n\
    weights = 'normalised'";

fn main() {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    let spec: CaseSpec = WORKLOAD.parse().expect("the workload is a case");
    let Ok(AnyProblem::F32(problem)) = spec.build() else {
        panic!("the workload is an f32 case")
    };
    let trace = binned_experts_ref(&problem).expect("the workload fits the memory");
    assert!(
        trace.output.iter().any(|value| *value != 0.0),
        "the workload computes nothing"
    );

    bench_stages(&mut criterion, &problem, &trace);
    criterion.final_summary();

    let ratio = median((0..TURNS).map(|_| ratio_to_products(&problem, &trace)).collect());
    println!("binned_experts_ref / ndarray dot of the same products: {ratio:.3} (median of {TURNS} turns)");
    assert!(ratio <= MAX_RATIO, "expected at most {MAX_RATIO}");
}

fn bench_stages(criterion: &mut Criterion, problem: &Problem<f32>, trace: &Trace<f32>) {
    let dims = problem.dims();
    let (bins, weights) = (problem.bins(), problem.weights());
    let x = problem
        .hidden_states()
        .to_shape((dims.tokens, dims.hidden))
        .expect("rows of tokens");
    let routing_weights = problem
        .routing_weights()
        .to_shape((dims.tokens, dims.experts))
        .expect("rows of tokens");

    let mut group = criterion.benchmark_group("reference/B1_S512_E2");
    group.bench_function("sort_tokens_by_expert", |b| {
        b.iter(|| sort_tokens_by_expert(problem.router_indices(), dims.experts));
    });
    group.bench_function("binned_gather", |b| {
        b.iter(|| binned_gather(x.view(), bins, dims.capacity, dims.top_k))
    });
    group.bench_function("gate_up", |b| b.iter(|| gate_up(&trace.gathered, weights)));
    group.bench_function("activate", |b| {
        b.iter(|| activate(&trace.gate_up, problem.layer().activation, problem.activation()))
    });
    group.bench_function("down", |b| b.iter(|| down(&trace.activated, weights)));
    group.bench_function("select_weights", |b| {
        b.iter(|| select_weights(routing_weights.view(), problem.router_indices()));
    });
    group.bench_function("binned_scatter", |b| {
        b.iter(|| {
            binned_scatter::<_, _, f32>(
                &trace.expert_output,
                bins,
                &trace.selected_weights,
                dims.capacity,
                dims.top_k,
            )
        });
    });
    group.bench_function("binned_experts_ref", |b| b.iter(|| binned_experts_ref(problem)));
    group.finish();
}

/// Time of the whole in units of the time of its products, one after the other.
fn ratio_to_products(problem: &Problem<f32>, trace: &Trace<f32>) -> f64 {
    let start = Instant::now();
    black_box(binned_experts_ref(black_box(problem)).expect("it ran before"));
    let whole = start.elapsed();
    let start = Instant::now();
    for expert in 0..problem.dims().experts {
        let weights = problem.weights();
        black_box(
            trace
                .gathered
                .expert(expert)
                .dot(&weights.gate_up_proj().index_axis(Axis(0), expert)),
        );
        black_box(
            trace
                .activated
                .expert(expert)
                .dot(&weights.down_proj().index_axis(Axis(0), expert)),
        );
    }
    whole.as_secs_f64() / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
