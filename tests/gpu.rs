//! The CUDA pipeline on a GPU, and that a planted race fails there; on the emulator the zoo plants the same one.
//!
//! Where there is no GPU its tests are ignored; with `BINNED_EXPERTS_REQUIRE_GPU=1` they fail.
//! `BINNED_EXPERTS_GPU_CASES` is the number of generated cases. The folder of the sources is taken from `BINNED_EXPERTS_ROOT`
//! where the binary runs on another machine than the one it was built on.

#[path = "gpu/on_device.rs"]
mod on_device;
#[path = "suite/trials.rs"]
mod trials;

use std::path::PathBuf;
use std::process::ExitCode;

use binned_experts::engines::PipelineEngine;
use binned_experts::zoo::{Animal, KernelPath};
use binned_experts_check::case::{Profile, Routing, RoutingProfile, SizeProfile, ValueProfile, Warmup};
use binned_experts_check::{
    AnyProblem, CaseSpec, CheckPlan, Domain, ElementType, Engine, Selection, Summary, check_engine,
};
use binned_experts_gpu::{
    Cuda, GpuError, HOPPER_BF16, HOPPER_FP32, POISONS, PORTABLE_FP32, PathElement, Pipeline, cuda, sources,
};
use binned_experts_reference::{ExpertWeights, Problem};
use libtest_mimic::Failed;
use ndarray::{Array2, Array3, Axis};
use trials::{Need, trial};

fn main() -> ExitCode {
    let gpu = Need::new("a GPU", Some("BINNED_EXPERTS_REQUIRE_GPU"), || reason(Cuda::new()));
    let nvrtc = Need::new("NVRTC", None, || reason(cuda::compiler_version()));
    let mut trials = on_device::trials(&gpu);
    trials.extend([
        trial(&[&gpu], generated_cases_agree),
        trial(&[&gpu], generated_cases_agree_in_bf16),
        trial(&[&gpu], goldens_agree_in_every_order),
        trial(&[&gpu], goldens_agree_in_bf16),
        trial(&[&gpu], layers_of_other_models_agree),
        trial(&[&gpu], layers_of_other_models_agree_in_bf16),
        trial(&[&gpu], goldens_of_other_models_agree),
        trial(&[&gpu], two_runs_give_the_same_bits),
        trial(&[&gpu], two_runs_give_the_same_bits_in_bf16),
        trial(&[&gpu], a_token_has_the_same_bits_in_any_batch),
        trial(&[&gpu], a_token_has_the_same_bits_in_any_batch_where_that_is_claimed),
        trial(&[&gpu], two_pipelines_share_a_device),
        trial(&[&gpu], unpoisoned_workspaces_agree),
        trial(&[&gpu], out_of_memory_is_an_error_and_nothing_is_lost),
        trial(&[&gpu, &nvrtc], compiled_kernels_agree),
        // The last: its faults may leave nothing of the device to this process.
        trial(&[&gpu, &nvrtc], a_race_fails_on_the_gpu),
    ]);
    trials::run(trials)
}

/// Why something is not there.
fn reason<T>(found: Result<T, GpuError>) -> Option<String> {
    found.err().map(|error| error.to_string())
}

fn root() -> PathBuf {
    std::env::var_os("BINNED_EXPERTS_ROOT").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from)
}

fn f32_cases(cases: usize, profiles: Vec<Profile>) -> CheckPlan {
    cases_of(ElementType::F32, Domain::default(), cases, profiles)
}

/// Cases that the kernels in bf16 take.
fn bf16_cases(cases: usize, profiles: Vec<Profile>) -> CheckPlan {
    cases_of(ElementType::Bf16, KernelPath::HopperBf16.domain(), cases, profiles)
}

fn cases_of(element: ElementType, domain: Domain, cases: usize, profiles: Vec<Profile>) -> CheckPlan {
    let selection = Selection {
        domain,
        elements: vec![element],
        ..Selection::default().with_profiles(profiles)
    };
    CheckPlan {
        cases,
        selection,
        ..CheckPlan::default()
    }
}

/// Whether the engine was compared and agrees on everything.
fn agrees(summary: &Summary) -> Result<(), Failed> {
    if summary.agrees() {
        Ok(())
    } else {
        Err(summary.to_string().into())
    }
}

fn check_cuda(plan: &CheckPlan) -> Result<(), Failed> {
    agrees(&check_engine(&mut PipelineEngine::cuda_hopper()?, plan))
}

/// The number of generated cases.
fn generated() -> usize {
    std::env::var("BINNED_EXPERTS_GPU_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(500)
}

fn generated_cases_agree() -> Result<(), Failed> {
    check_cuda(&f32_cases(generated(), Vec::new()))
}

fn generated_cases_agree_in_bf16() -> Result<(), Failed> {
    check_cuda(&bf16_cases(generated(), Vec::new()))?;
    // Most of these are left to the portable kernels.
    check_cuda(&cases_of(ElementType::Bf16, Domain::default(), generated(), Vec::new()))
}

fn goldens_agree_in_every_order() -> Result<(), Failed> {
    check_goldens(f32_cases(0, Vec::new()))
}

fn goldens_agree_in_bf16() -> Result<(), Failed> {
    check_goldens(bf16_cases(0, Vec::new()))
}

fn check_goldens(plan: CheckPlan) -> Result<(), Failed> {
    let golden = goldens("tests/goldens")?;
    check_cuda(&CheckPlan { golden, ..plan })
}

fn goldens(folder: &str) -> Result<Vec<PathBuf>, Failed> {
    let files = std::fs::read_dir(root().join(folder))?.map(|entry| Ok(entry?.path()));
    Ok(files.collect::<Result<_, std::io::Error>>()?)
}

/// Layers of other models and ids that are not local, as far as the kernels take them.
fn of_other_models(plan: CheckPlan) -> Result<CheckPlan, Failed> {
    let layers: Domain = include_str!("layers.toml").parse()?;
    let domain = plan.selection.domain.meet(&layers);
    let selection = Selection {
        domain,
        ..plan.selection
    };
    Ok(CheckPlan { selection, ..plan })
}

fn layers_of_other_models_agree() -> Result<(), Failed> {
    let plan = of_other_models(f32_cases(generated(), Vec::new()))?;
    check_cuda(&plan)?;
    agrees(&check_engine(&mut PipelineEngine::cuda_portable()?, &plan))
}

fn layers_of_other_models_agree_in_bf16() -> Result<(), Failed> {
    check_cuda(&of_other_models(bf16_cases(generated(), Vec::new()))?)
}

/// Those that the kernels do not take are skipped.
fn goldens_of_other_models_agree() -> Result<(), Failed> {
    let golden = goldens("tests/layers")?;
    let plan = CheckPlan {
        cases: 0,
        golden,
        ..CheckPlan::default()
    };
    for mut engine in [PipelineEngine::cuda_hopper()?, PipelineEngine::cuda_portable()?] {
        agrees(&check_engine(&mut engine, &plan))?;
    }
    Ok(())
}

fn two_runs_give_the_same_bits() -> Result<(), Failed> {
    check_cuda(&f32_cases(300, vec![Profile::Warmup(Warmup::Same)]))
}

fn two_runs_give_the_same_bits_in_bf16() -> Result<(), Failed> {
    check_cuda(&bf16_cases(300, vec![Profile::Warmup(Warmup::Same)]))
}

/// Tokens of the largest batch, and how many others are made of them.
const TOKENS: usize = 4097;
const BATCHES: usize = 1000;

/// Sizes of batches; between them come others.
const SIZES: [usize; 16] = [1, 2, 7, 8, 9, 16, 17, 96, 97, 256, 257, 512, 513, 1024, 4096, TOKENS];

/// Tokens at other places: each batch begins at another one, and takes one of so many.
fn tokens_of(number: usize) -> Vec<usize> {
    let size = if number.is_multiple_of(2) {
        SIZES[number / 2 % SIZES.len()]
    } else {
        1 + number * number % 600
    };
    // Each is coprime to TOKENS, so that no token comes twice.
    let step = [1, 2, 3, 5, 1000, TOKENS - 1][number % 6];
    (0..size).map(|token| (number * 37 + token * step) % TOKENS).collect()
}

/// A pipeline that claims the same bits in any batch, on a GPU.
fn same_bits_in_batches<T: PathElement>(all: &Problem<T>) -> Result<(), Failed> {
    let mut pipeline = Pipeline::new(all.weights().clone(), Cuda::new()?)?.batch_invariant();
    let expected = pipeline.forward(all)?;
    for number in 0..BATCHES {
        let tokens = tokens_of(number);
        let some = Problem::new(
            all.hidden_states().select(Axis(1), &tokens),
            all.router_indices().select(Axis(0), &tokens),
            all.routing_weights().select(Axis(1), &tokens),
            all.weights().clone(),
            2 * TOKENS,
        )?
        .with_activation(all.activation());
        let bytes = |output: Array3<T>| bytemuck::cast_slice::<T, u8>(&output.into_iter().collect::<Vec<_>>()).to_vec();
        if bytes(pipeline.forward(&some)?) != bytes(expected.select(Axis(1), &tokens)) {
            return Err(format!("batch {number} of {} tokens: other bits than in all", tokens.len()).into());
        }
    }
    Ok(())
}

fn a_token_has_the_same_bits_in_any_batch() -> Result<(), Failed> {
    for element in [ElementType::F32, ElementType::Bf16] {
        let spec = CaseSpec {
            element,
            batch: 1,
            sequence: TOKENS,
            hidden: 264,
            intermediate: 328,
            experts: 4,
            top_k: 2,
            capacity: 2 * TOKENS,
            routing: Routing::Profile(RoutingProfile::Uniform),
            values: ValueProfile::Gentle,
            special: None,
            against: None,
            warmup: None,
            order: None,
            ..CaseSpec::from_seed(0, &bf16_cases(0, Vec::new()).selection)
        };
        match spec.build()? {
            AnyProblem::F32(all) => same_bits_in_batches(&all)?,
            AnyProblem::Bf16(all) => same_bits_in_batches(&all)?,
            other => return Err(format!("expected f32 or bf16, found {}", other.element()).into()),
        }
    }
    Ok(())
}

fn a_token_has_the_same_bits_in_any_batch_where_that_is_claimed() -> Result<(), Failed> {
    for mut engine in [
        PipelineEngine::cuda_hopper_batch_invariant()?,
        PipelineEngine::cuda_portable()?,
    ] {
        if !engine.domain().is_batch_invariant() {
            return Err(format!("{}: expected the claim", engine.name()).into());
        }
        agrees(&check_engine(&mut engine, &f32_cases(300, Vec::new())))?;
        agrees(&check_engine(&mut engine, &bf16_cases(300, Vec::new())))?;
    }
    Ok(())
}

/// Without the poison, which initcheck would take for a write.
fn unpoisoned_workspaces_agree() -> Result<(), Failed> {
    for path in [&HOPPER_FP32, &PORTABLE_FP32] {
        agrees(&check_engine(
            &mut PipelineEngine::on_cuda(Cuda::new()?, path)?,
            &f32_cases(60, Vec::new()),
        ))?;
    }
    agrees(&check_engine(
        &mut PipelineEngine::on_cuda(Cuda::new()?, &HOPPER_BF16)?,
        &bf16_cases(60, Vec::new()),
    ))
}

/// A case in f32 by its seed number.
fn problem(seed: u64) -> Result<Problem<f32>, Failed> {
    let selection = f32_cases(0, vec![Profile::Size(SizeProfile::TileEdges)]).selection;
    match CaseSpec::from_seed(seed, &selection).build()? {
        AnyProblem::F32(problem) => Ok(problem),
        other => Err(format!("expected f32, found {}", other.element()).into()),
    }
}

/// Whether two outputs are the same bit for bit; a NaN equals a NaN and nothing else.
fn same_bits(found: &Array3<f32>, expected: &Array3<f32>) -> bool {
    let same = |(found, expected): (&f32, &f32)| {
        found.to_bits() == expected.to_bits() || (found.is_nan() && expected.is_nan())
    };
    found.dim() == expected.dim() && found.iter().zip(expected).all(same)
}

fn two_pipelines_share_a_device() -> Result<(), Failed> {
    let first = Cuda::new()?;
    let second = Cuda::on_stream(first.stream().context().new_stream()?)?;
    let (one, other) = (problem(1)?, problem(2)?);
    let mut pipelines = (
        Pipeline::new(one.weights().clone(), first)?,
        Pipeline::new(other.weights().clone(), second)?,
    );
    let expected = (pipelines.0.forward(&one)?, pipelines.1.forward(&other)?);
    for _ in 0..20 {
        let found = (pipelines.0.forward(&one)?, pipelines.1.forward(&other)?);
        if !(same_bits(&found.0, &expected.0) && same_bits(&found.1, &expected.1)) {
            return Err("the results of two streams differ from those of the first run".into());
        }
    }
    Ok(())
}

fn out_of_memory_is_an_error_and_nothing_is_lost() -> Result<(), Failed> {
    // The activations of the large problem would take 2^38 bytes.
    let small = problem(3)?;
    let mut pipeline = Pipeline::new(small.weights().clone(), Cuda::new()?)?;
    let before = pipeline.forward(&small)?;
    let (tokens, inner) = (1 << 18, 1 << 18);
    let weights = ExpertWeights::new(
        Array3::zeros((1, 0, 2 * inner)),
        Array2::zeros((1, 2 * inner)),
        Array3::zeros((1, inner, 0)),
        Array2::zeros((1, 0)),
    )?;
    let large = Problem::new(
        Array3::zeros((1, tokens, 0)),
        Array2::zeros((tokens, 1)),
        Array3::zeros((1, tokens, 1)),
        weights,
        tokens,
    )?;
    pipeline.load_weights(large.weights().clone())?;
    let error = pipeline.forward(&large).err();
    if !matches!(error, Some(GpuError::OutOfMemory { .. })) {
        return Err(format!("expected OutOfMemory, found {error:?}").into());
    }
    pipeline.load_weights(small.weights().clone())?;
    let after = pipeline.forward(&small)?;
    if same_bits(&after, &before) {
        return Ok(());
    }
    Err("the pipeline gives other results after the error".into())
}

/// The kernels compiled on this machine agree as the kept ones do.
fn compiled_kernels_agree() -> Result<(), Failed> {
    let machine = machine_with(&cuda::source())?;
    agrees(&check_engine(
        &mut PipelineEngine::on_cuda(machine, &HOPPER_FP32)?,
        &f32_cases(100, Vec::new()),
    ))
}

/// A GPU with kernels compiled from a source.
fn machine_with(source: &str) -> Result<Cuda, Failed> {
    let own = Cuda::new()?;
    let image = cuda::compile(source, &own.architecture()?)?.image;
    #[expect(unsafe_code, reason = "machine code can only be trusted")]
    // SAFETY: compiled from this crate's sources. What a planted fault can spoil is device memory of this test alone.
    let machine = unsafe { Cuda::with_image(own.stream().clone(), image) }?;
    Ok(machine.with_poison(POISONS[0]))
}

/// The race of a published port, as the zoo has it: a histogram is read while other blocks still add to it.
const RACE: &str = "histogram-read-before-it-is-complete";

fn a_race_fails_on_the_gpu() -> Result<(), Failed> {
    let file = root().join("tests/zoo").join(RACE).with_extension("toml");
    let kernels = Animal::parse(RACE, &std::fs::read_to_string(file)?)?.kernels()?;
    let machine = machine_with(&sources::joined(kernels.iter().map(|(_, text)| text.as_str())))?;
    let profiles = vec![
        Profile::Size(SizeProfile::ManyAssignments),
        Profile::Routing(RoutingProfile::Uniform),
    ];
    let mut engine = PipelineEngine::on_cuda(machine, &HOPPER_FP32)?;
    let summary = check_engine(&mut engine, &f32_cases(50, profiles));
    let totals = &summary.engines[0];
    eprintln!(
        "race: {} of {} cases disagree, {} faults",
        totals.disagree,
        totals.compared(),
        totals.fault
    );
    if totals.disagree + totals.fault > 0 {
        Ok(())
    } else {
        Err("the race was not caught".into())
    }
}
