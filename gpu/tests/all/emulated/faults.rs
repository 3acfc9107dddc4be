//! A machine that fails at any point: each failure is reported, and the pipeline then gives the right result.

use std::cell::Cell;
use std::rc::Rc;

use binned_experts_gpu::{Arg, Emulator, EmulatorBuffer, GpuError, Launch, Machine, Pipeline};

use super::common::{emulator, problem};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(the_pipeline_is_usable_after_any_failure),
        test(the_pipeline_is_usable_after_any_failure_with_tensor_cores),
    ]
}

/// The emulator, failing at one of its calls.
struct Failing {
    emulator: Emulator,
    /// Calls until the failure; none if there is none to come.
    left: Rc<Cell<Option<usize>>>,
}

impl Failing {
    fn call(&mut self, error: impl FnOnce() -> GpuError) -> Result<(), GpuError> {
        let left = self.left.get();
        self.left.set(left.and_then(|left| left.checked_sub(1)));
        if left == Some(0) { Err(error()) } else { Ok(()) }
    }
}

fn driver() -> GpuError {
    GpuError::Driver {
        report: "planted".to_owned(),
    }
}

impl Machine for Failing {
    type Buffer = EmulatorBuffer;

    fn name(&self) -> &'static str {
        "failing"
    }

    fn alloc(&mut self, bytes: usize) -> Result<EmulatorBuffer, GpuError> {
        self.call(|| GpuError::OutOfMemory {
            machine: "failing",
            bytes,
        })?;
        self.emulator.alloc(bytes)
    }

    fn upload(&mut self, buffer: &mut EmulatorBuffer, bytes: &[u8]) -> Result<(), GpuError> {
        self.call(driver)?;
        self.emulator.upload(buffer, bytes)
    }

    fn download(&mut self, buffer: &EmulatorBuffer, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.call(driver)?;
        self.emulator.download(buffer, bytes)
    }

    fn discard(&mut self, buffer: &mut EmulatorBuffer) -> Result<(), GpuError> {
        self.call(driver)?;
        self.emulator.discard(buffer)
    }

    fn tensor_cores(&self) -> Option<u32> {
        self.emulator.tensor_cores()
    }

    fn launch(&mut self, launch: Launch, args: &[Arg<'_, EmulatorBuffer>]) -> Result<(), GpuError> {
        self.call(|| GpuError::Launch {
            kernel: launch.kernel,
            report: "planted".to_owned(),
        })?;
        self.emulator.launch(launch, args)
    }
}

fn expect_recovery(with_tensor_cores: bool) {
    let machine = emulator(1);
    let emulator = if with_tensor_cores {
        machine.with_tensor_cores(2)
    } else {
        machine
    };
    let left = Rc::new(Cell::new(None));
    let machine = Failing {
        emulator,
        left: left.clone(),
    };
    let (small, large) = (problem([5, 40, 33, 2, 2, 4], 1), problem([90, 40, 33, 3, 2, 50], 2));
    let mut pipeline = Pipeline::new(small.weights().clone(), machine).unwrap();
    let expected = pipeline.forward(&small).unwrap();
    let mut failures = 0;
    for calls in 0.. {
        left.set(Some(calls));
        let loaded = pipeline.load_weights(large.weights().clone());
        let outcome = loaded.and_then(|()| pipeline.forward(&large));
        let failed = left.get().is_none();
        assert_eq!(outcome.is_err(), failed, "call {calls}: {outcome:?}");
        left.set(None);
        if pipeline.weights().gate_up_proj().dim() != small.weights().gate_up_proj().dim() {
            pipeline.load_weights(small.weights().clone()).unwrap();
        }
        let found = pipeline.forward(&small).unwrap();
        assert_eq!(
            found.mapv(f32::to_bits),
            expected.mapv(f32::to_bits),
            "after call {calls}"
        );
        if !failed {
            break;
        }
        failures += 1;
    }
    // Buffers, uploads and launches of the weights and of a forward.
    assert!(failures > 30, "{failures} calls failed");
}

fn the_pipeline_is_usable_after_any_failure() {
    expect_recovery(false);
}

fn the_pipeline_is_usable_after_any_failure_with_tensor_cores() {
    expect_recovery(true);
}
