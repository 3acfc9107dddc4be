//! The CUDA pipeline as an engine, on any machine.

use std::sync::Arc;

use binned_experts_gpu::{GpuError, Machine, POISONS, Path, Pipeline};
use binned_experts_reference::{ExpertWeights, Problem};
use ndarray::{Array2, Array3};

use binned_experts_check::domain::TieOrder;
use binned_experts_check::draw::mix;
use binned_experts_check::{AnyProblem, Domain, Engine, Fault, Outcome, Precision, Stage, Stages};

/// `binned-experts-gpu` on one of its machines, with its stages. The workspace is kept from case to case.
pub struct PipelineEngine<M: Machine> {
    name: &'static str,
    pipeline: Pipeline<M>,
    pub(super) schedule: Scheduler<M>,
}

/// Sets what a case leaves open: the contents of undefined memory and, on the emulator, the order in which its threads
/// run. Another number gives another choice.
type Scheduler<M> = Box<dyn Fn(&mut M, &Problem<f32>, u64)>;

impl<M: Machine> PipelineEngine<M> {
    /// A pipeline whose weights come with the first case.
    pub(super) fn new(
        name: &'static str,
        machine: M,
        path: &'static Path,
        schedule: impl Fn(&mut M, &Problem<f32>, u64) + 'static,
    ) -> Result<PipelineEngine<M>, GpuError> {
        let (none, no_bias) = (Array3::zeros((0, 0, 0)), Array2::zeros((0, 0)));
        let weights = ExpertWeights::new(none.clone(), no_bias.clone(), none, no_bias)?;
        Ok(PipelineEngine {
            name,
            pipeline: Pipeline::with_path(weights, machine, path)?,
            schedule: Box::new(schedule),
        })
    }

    fn stages(&mut self, problem: &Problem<f32>, order: u64) -> Result<binned_experts_gpu::Stages, GpuError> {
        (self.schedule)(self.pipeline.machine_mut(), problem, order);
        if !Arc::ptr_eq(self.pipeline.weights(), problem.weights()) {
            self.pipeline.load_weights(problem.weights().clone())?;
        }
        self.pipeline.forward_with_stages(problem)
    }
}

impl<M: Machine> Engine for PipelineEngine<M> {
    fn name(&self) -> &str {
        self.name
    }

    fn domain(&self) -> Domain {
        Domain {
            tie_order: Some(TieOrder::Given),
            deterministic: Some(true),
            ..Domain::of(Precision::Fp32)
        }
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 0)
    }

    fn rerun(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 1)
    }
}

impl<M: Machine> PipelineEngine<M> {
    fn outcome(&mut self, problem: &AnyProblem, order: u64) -> Result<Outcome, Fault> {
        let AnyProblem::F32(problem) = problem else {
            return Err(Fault::refused("f32 only"));
        };
        let found = self.stages(problem, order).map_err(Fault::refused)?;
        // An index that is negative on the machine is wrong in any position.
        let position = |index: &i32| usize::try_from(*index).unwrap_or(usize::MAX);
        let positions = |indices: &[i32]| indices.iter().map(position).collect::<Vec<_>>();
        let stages = Stages::default()
            .with(Stage::SortedIndices, positions(&found.sorted_indices))
            .with(Stage::Bins, positions(&found.bins))
            .with(Stage::GateUp, found.gate_up.mapv(f64::from))
            .with(Stage::Activated, found.activated.mapv(f64::from))
            .with(Stage::ExpertOutput, found.expert_output.mapv(f64::from));
        Ok(Outcome {
            output: found.output.into(),
            stages,
        })
    }
}

/// The poison of a number.
pub(super) fn poison_of(number: u64) -> u32 {
    POISONS[(mix(number) / 4 % 3) as usize]
}

/// A number that depends on the case and the order alone, so that a replay takes the same one.
pub(super) fn number_of_case(problem: &Problem<f32>, order: u64) -> u64 {
    let dims = problem.dims();
    let sizes = [
        dims.tokens,
        dims.hidden,
        dims.intermediate,
        dims.experts,
        dims.top_k,
        dims.capacity,
    ];
    let ids = problem.router_indices();
    let numbers = sizes
        .iter()
        .map(|size| *size as u64)
        .chain(ids.iter().map(|id| *id as u64));
    numbers.fold(order, |seed, number| mix(seed ^ number))
}
