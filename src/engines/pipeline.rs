//! The CUDA pipeline as an engine, on any machine.

use binned_experts_gpu::{CallLayer, GpuError, Machine, POISONS, Path, PathElement, Pipeline};
use binned_experts_reference::{ExpertWeights, Problem, TensorType, WeightOn};
use half::bf16;
use ndarray::{Array2, Array3};

use binned_experts_check::domain::{Taken, TieOrder};
use binned_experts_check::draw::mix;
use binned_experts_check::{
    AnyProblem, CaseElement, Domain, ElementType, Engine, Fault, Outcome, Precision, Stage, Stages,
};

/// `binned-experts-gpu` on one of its machines, with its stages. The workspaces are kept from case to case.
pub struct PipelineEngine<M: Machine> {
    name: &'static str,
    f32: Option<Pipeline<M>>,
    bf16: Option<Pipeline<M, bf16>>,
    pub(super) schedule: Scheduler<M>,
}

/// Sets what a case leaves open: the contents of undefined memory and, on the emulator, the order in which its threads
/// run. It is given a number that depends on the case.
type Scheduler<M> = Box<dyn Fn(&mut M, u64) + Send>;

/// An element type that engines have a pipeline for.
pub trait EngineElement: PathElement + CaseElement<WideElement = f32> {
    /// The pipeline for it.
    fn pipeline<M: Machine>(engine: &mut PipelineEngine<M>) -> &mut Option<Pipeline<M, Self>>;
}

impl EngineElement for f32 {
    fn pipeline<M: Machine>(engine: &mut PipelineEngine<M>) -> &mut Option<Pipeline<M>> {
        &mut engine.f32
    }
}

impl EngineElement for bf16 {
    fn pipeline<M: Machine>(engine: &mut PipelineEngine<M>) -> &mut Option<Pipeline<M, bf16>> {
        &mut engine.bf16
    }
}

impl<M: Machine> PipelineEngine<M> {
    /// Takes no element type yet.
    pub(super) fn new(name: &'static str, schedule: impl Fn(&mut M, u64) + Send + 'static) -> PipelineEngine<M> {
        PipelineEngine {
            name,
            f32: None,
            bf16: None,
            schedule: Box::new(schedule),
        }
    }

    /// Takes the element type of a path as well, on a machine for it alone. The weights come with the first case.
    pub(super) fn with<T: EngineElement>(
        mut self,
        machine: M,
        path: &'static Path<T>,
    ) -> Result<PipelineEngine<M>, GpuError> {
        let (none, no_bias) = (Array3::from_elem((0, 0, 0), T::ZERO), Array2::zeros((0, 0)));
        let weights = ExpertWeights::new(none.clone(), no_bias.clone(), none, no_bias)?;
        *T::pipeline(&mut self) = Some(Pipeline::with_path(weights, machine, path)?);
        Ok(self)
    }

    /// The same kernels where a token's row has the same bits in any batch.
    pub(crate) fn batch_invariant(self, name: &'static str) -> PipelineEngine<M> {
        PipelineEngine {
            name,
            f32: self.f32.map(Pipeline::batch_invariant),
            bf16: self.bf16.map(Pipeline::batch_invariant),
            schedule: self.schedule,
        }
    }

    /// Whether that holds for each element type that it takes.
    fn is_batch_invariant(&self) -> bool {
        self.f32.as_ref().is_none_or(Pipeline::is_batch_invariant)
            && self.bf16.as_ref().is_none_or(Pipeline::is_batch_invariant)
    }

    fn outcome(&mut self, problem: &AnyProblem, order: u64) -> Result<Outcome, Fault> {
        match problem {
            AnyProblem::F32(problem) => self.outcome_of(problem, order),
            AnyProblem::Bf16(problem) => self.outcome_of(problem, order),
            AnyProblem::F64(_) | AnyProblem::F16(_) => Err(self.not_taken(problem.element())),
        }
    }

    fn outcome_of<T: EngineElement>(&mut self, problem: &Problem<T>, order: u64) -> Result<Outcome, Fault> {
        let Some(mut pipeline) = T::pipeline(self).take() else {
            return Err(self.not_taken(T::TYPE));
        };
        (self.schedule)(pipeline.machine_mut(), number_of_case(problem, order));
        let found = stages(&mut pipeline, problem);
        *T::pipeline(self) = Some(pipeline);
        found.map(outcome_of).map_err(Fault::refused)
    }

    fn not_taken(&self, found: ElementType) -> Fault {
        Fault::refused(format!("{}: expected another element type, found {found}", self.name))
    }
}

impl<M: Machine> Engine for PipelineEngine<M> {
    fn name(&self) -> &str {
        self.name
    }

    fn domain(&self) -> Domain {
        let types = [
            (ElementType::F32, self.f32.is_some()),
            (ElementType::Bf16, self.bf16.is_some()),
        ];
        let taken = types.iter().filter(|(_, is_taken)| *is_taken);
        Domain {
            precision: Some(taken.map(|(element, _)| Precision::of(*element)).collect()),
            tie_order: Some(TieOrder::Given),
            deterministic: Some(true),
            batch_invariant: self.is_batch_invariant().then_some(true),
            layers: Some(Taken::Any),
            activation: Some(CallLayer::ACTIVATIONS.to_vec()),
            weight_on: Some(vec![WeightOn::Output]),
            bias_type: Some(vec![TensorType::Element]),
            routing_weight_type: Some(vec![TensorType::Element]),
            output_type: Some(vec![TensorType::Element]),
            shared_experts: Some(false),
            foreign: Some(Taken::Any),
            ..Domain::default()
        }
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 0)
    }

    fn rerun(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 1)
    }
}

fn stages<M: Machine, T: PathElement>(
    pipeline: &mut Pipeline<M, T>,
    problem: &Problem<T>,
) -> Result<binned_experts_gpu::Stages<T>, GpuError> {
    if !pipeline.has_weights_of(problem) {
        pipeline.load_weights(problem.weights().clone())?;
    }
    pipeline.forward_with_stages(problem)
}

fn outcome_of<T: CaseElement>(found: binned_experts_gpu::Stages<T>) -> Outcome {
    // An index that is negative on the machine is wrong in any position.
    let position = |index: &i32| usize::try_from(*index).unwrap_or(usize::MAX);
    let positions = |indices: Vec<i32>| indices.iter().map(position).collect::<Vec<_>>();
    let mut stages = Stages::default();
    if let Some(sorted_indices) = found.sorted_indices {
        stages = stages.with(Stage::SortedIndices, positions(sorted_indices));
    }
    if let Some(bins) = found.bins {
        stages = stages.with(Stage::Bins, positions(bins));
    }
    if let Some(gate_up) = found.gate_up {
        stages = stages.with(Stage::GateUp, gate_up.mapv(f64::from));
    }
    Outcome {
        output: found.output.into(),
        stages: stages
            .with(Stage::Activated, found.activated.mapv(f64::from))
            .with(Stage::ExpertOutput, found.expert_output.mapv(f64::from)),
    }
}

/// The poison of a number.
pub(super) fn poison_of(number: u64) -> u32 {
    POISONS[(mix(number) / 4 % 3) as usize]
}

/// A number that depends on the case and the order alone, so that a replay takes the same one.
fn number_of_case<T: PathElement>(problem: &Problem<T>, order: u64) -> u64 {
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
