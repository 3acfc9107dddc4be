//! The CUDA pipeline as an engine, on a GPU and on the host machine.

use std::sync::Arc;

use binned_experts_gpu::{
    Cuda, Emulator, GpuError, HOPPER_FP32, Machine, POISONS, PORTABLE_FP32, Path, Pipeline, Schedule,
};
use binned_experts_reference::{ExpertWeights, Problem};
use ndarray::{Array2, Array3};

use super::{Engine, Fault, Outcome, Stages};
use crate::case::mix;
use crate::precision::Class;
use crate::tensor::{AnyProblem, ElementType};

/// `binned-experts-gpu` on one of its machines, with its stages. The workspace is kept from case to case.
pub struct GpuEngine<M: Machine> {
    name: &'static str,
    pipeline: Pipeline<M>,
    schedule: Scheduler<M>,
}

/// Sets what a case leaves open: the contents of undefined memory and, on the host machine, the order in which its threads
/// run. Another number gives another choice.
type Scheduler<M> = Box<dyn Fn(&mut M, &Problem<f32>, u64)>;

impl GpuEngine<Emulator> {
    /// A host machine and a path of the caller's choice, such as a machine with a planted fault.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn on_host(machine: Emulator, path: &'static Path) -> Result<GpuEngine<Emulator>, GpuError> {
        GpuEngine::new("host", machine, path, schedule_of_case)
    }

    /// The kernels on the CPU; each case decides the order in which its threads run.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn host() -> Result<GpuEngine<Emulator>, GpuError> {
        GpuEngine::on_host(Emulator::new()?, &PORTABLE_FP32)
    }

    /// The kernels for Hopper's tensor cores on the CPU, as on a GPU of three multiprocessors.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn host_tensor_cores() -> Result<GpuEngine<Emulator>, GpuError> {
        GpuEngine::new("host-tensor-cores", Emulator::new()?, &HOPPER_FP32, schedule_of_case)
    }

    /// Runs the cases to come under one schedule.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = Box::new(move |host, _, _| host.set_schedule(schedule));
    }
}

impl GpuEngine<Cuda> {
    /// A GPU and a path of the caller's choice, such as a GPU with a planted fault; each case decides the poison, if it has one.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn on_cuda(machine: Cuda, path: &'static Path) -> Result<GpuEngine<Cuda>, GpuError> {
        GpuEngine::new("cuda", machine, path, set_poison)
    }

    /// The kernels on the first GPU, whose workspace starts poisoned.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda() -> Result<GpuEngine<Cuda>, GpuError> {
        GpuEngine::on_cuda(Cuda::new()?.with_poison(POISONS[0]), &HOPPER_FP32)
    }

    /// As [`cuda`](GpuEngine::cuda), with the kernels that every GPU runs.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there is none.
    pub fn cuda_portable() -> Result<GpuEngine<Cuda>, GpuError> {
        let machine = Cuda::new()?.with_poison(POISONS[0]);
        GpuEngine::new("cuda-portable", machine, &PORTABLE_FP32, set_poison)
    }
}

impl<M: Machine> GpuEngine<M> {
    /// A pipeline whose weights come with the first case.
    fn new(
        name: &'static str,
        machine: M,
        path: &'static Path,
        schedule: impl Fn(&mut M, &Problem<f32>, u64) + 'static,
    ) -> Result<GpuEngine<M>, GpuError> {
        let (none, no_bias) = (Array3::zeros((0, 0, 0)), Array2::zeros((0, 0)));
        let weights = ExpertWeights::new(none.clone(), no_bias.clone(), none, no_bias)?;
        Ok(GpuEngine {
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

impl<M: Machine> Engine for GpuEngine<M> {
    fn name(&self) -> &str {
        self.name
    }

    fn class(&self, element: ElementType) -> Option<Class> {
        (element == ElementType::F32).then_some(Class::Fp32)
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn takes_order(&self) -> bool {
        true
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 0)
    }

    fn forward_in_another_order(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.outcome(problem, 1)
    }
}

impl<M: Machine> GpuEngine<M> {
    fn outcome(&mut self, problem: &AnyProblem, order: u64) -> Result<Outcome, Fault> {
        let AnyProblem::F32(problem) = problem else {
            return Err(Fault::refused("f32 only"));
        };
        let found = self.stages(problem, order).map_err(Fault::refused)?;
        let positions = |indices: &[i32]| {
            // An index that is negative on the machine is wrong in any position.
            indices
                .iter()
                .map(|index| usize::try_from(*index).unwrap_or(usize::MAX))
                .collect()
        };
        let stages = Stages {
            sorted_indices: Some(positions(&found.sorted_indices)),
            bins: Some(positions(&found.bins)),
            selected_weights: None,
            gathered: None,
            gate_up: Some(found.gate_up.mapv(f64::from)),
            activated: Some(found.activated.mapv(f64::from)),
            expert_output: Some(found.expert_output.mapv(f64::from)),
        };
        Ok(Outcome {
            output: found.output.into(),
            stages,
        })
    }
}

/// Memory accesses between pauses, in one case of four.
const ACCESS_INTERVAL: u32 = 64;

fn schedule_of_case(host: &mut Emulator, problem: &Problem<f32>, order: u64) {
    let seed = number_of_case(problem, order);
    host.set_schedule(Schedule {
        seed,
        access_interval: if mix(seed).is_multiple_of(4) {
            ACCESS_INTERVAL
        } else {
            0
        },
        poison: poison_of(seed),
        ..Schedule::default()
    });
}

fn set_poison(cuda: &mut Cuda, problem: &Problem<f32>, order: u64) {
    cuda.set_poison(poison_of(number_of_case(problem, order)));
}

fn poison_of(number: u64) -> u32 {
    POISONS[(mix(number) / 4 % 3) as usize]
}

/// A number that depends on the case and the order alone, so that a replay takes the same one.
fn number_of_case(problem: &Problem<f32>, order: u64) -> u64 {
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
