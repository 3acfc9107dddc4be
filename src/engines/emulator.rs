//! The kernels on the emulator.

use binned_experts_check::draw::mix;
use binned_experts_gpu::{Emulator, GpuError, HOPPER_FP32, PORTABLE_FP32, Path, Schedule};
use binned_experts_reference::Problem;

use super::PipelineEngine;
use super::pipeline::{number_of_case, poison_of};

/// Memory accesses between pauses, in one case of four.
const ACCESS_INTERVAL: u32 = 64;

impl PipelineEngine<Emulator> {
    /// An emulator and a path of the caller's choice, such as an emulator with a planted fault.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn on_emulator(machine: Emulator, path: &'static Path) -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::new("emulator-portable", machine, path, schedule_of_case)
    }

    /// The kernels on the CPU; each case decides the order in which its threads run.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn emulator_portable() -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::on_emulator(Emulator::new()?, &PORTABLE_FP32)
    }

    /// The kernels for Hopper's tensor cores on the CPU, as on a GPU of three multiprocessors.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn emulator_hopper() -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::new("emulator-hopper", Emulator::new()?, &HOPPER_FP32, schedule_of_case)
    }

    /// Runs the cases to come under one schedule.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = Box::new(move |emulator, _, _| emulator.set_schedule(schedule));
    }
}

/// Each case decides the order in which its threads run, and the poison.
fn schedule_of_case(emulator: &mut Emulator, problem: &Problem<f32>, order: u64) {
    let seed = number_of_case(problem, order);
    emulator.set_schedule(Schedule {
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
