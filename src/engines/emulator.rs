//! The kernels on the emulator.

use binned_experts_check::draw::mix;
use binned_experts_gpu::{Emulator, GpuError, HOPPER_BF16, HOPPER_FP32, PORTABLE_BF16, PORTABLE_FP32, Path, Schedule};

use super::PipelineEngine;
use super::pipeline::{EngineElement, poison_of};

/// Memory accesses between pauses, in one case of four.
const ACCESS_INTERVAL: u32 = 64;

impl PipelineEngine<Emulator> {
    /// An emulator and a path of the caller's choice, such as an emulator with a planted fault. It takes the element type
    /// of the path.
    ///
    /// # Errors
    /// An error of the machine.
    pub fn on_emulator<T: EngineElement>(
        machine: Emulator,
        path: &'static Path<T>,
    ) -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::new("emulator-portable", schedule_of_case).with(machine, path)
    }

    /// The kernels on the CPU; each case decides the order in which its threads run.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn emulator_portable() -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::new("emulator-portable", schedule_of_case)
            .with(Emulator::new()?, &PORTABLE_FP32)?
            .with(Emulator::new()?, &PORTABLE_BF16)
    }

    /// The kernels for Hopper's tensor cores on the CPU, as on a GPU of three multiprocessors.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn emulator_hopper() -> Result<PipelineEngine<Emulator>, GpuError> {
        PipelineEngine::new("emulator-hopper", schedule_of_case)
            .with(Emulator::new()?, &HOPPER_FP32)?
            .with(Emulator::new()?, &HOPPER_BF16)
    }

    /// As [`emulator_hopper`](PipelineEngine::emulator_hopper), where a token's row has the same bits in any batch.
    ///
    /// # Errors
    /// [`GpuError::Unavailable`] if there was no C++ compiler.
    pub fn emulator_hopper_batch_invariant() -> Result<PipelineEngine<Emulator>, GpuError> {
        Ok(PipelineEngine::emulator_hopper()?.batch_invariant("emulator-hopper-batch-invariant"))
    }

    /// Runs the cases to come under one schedule.
    pub fn set_schedule(&mut self, schedule: Schedule) {
        self.schedule = Box::new(move |emulator, _| emulator.set_schedule(schedule));
    }
}

/// Each case decides the order in which its threads run, and the poison.
fn schedule_of_case(emulator: &mut Emulator, seed: u64) {
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
