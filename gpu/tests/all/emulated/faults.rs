//! A machine that fails at any point: each failure is reported, and the pipeline then gives the right result.

use std::cell::Cell;
use std::rc::Rc;

use binned_experts_check::CaseElement;
use binned_experts_gpu::{
    Capabilities, Emulator, EmulatorBuffer, GpuError, HOPPER_BF16, HOPPER_FP32, Launch, Machine, NamedArg,
    PORTABLE_FP32, Path, PathElement, Pipeline,
};
use binned_experts_reference::Problem;
use ndarray::Array3;

use super::common::{emulator, problem, problem_bf16};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(the_pipeline_is_usable_after_any_failure),
        test(the_pipeline_is_usable_after_any_failure_with_tensor_cores),
        test(the_pipeline_is_usable_after_any_failure_in_bf16),
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

// SAFETY: all calls that do not fail are passed on.
unsafe impl Machine for Failing {
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

    fn download(&mut self, buffer: &EmulatorBuffer, first: usize, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.call(driver)?;
        self.emulator.download(buffer, first, bytes)
    }

    fn discard(&mut self, buffer: &mut EmulatorBuffer, used: usize) -> Result<(), GpuError> {
        self.call(driver)?;
        self.emulator.discard(buffer, used)
    }

    fn capabilities(&self) -> Capabilities {
        self.emulator.capabilities()
    }

    unsafe fn launch(&mut self, launch: Launch, args: &[NamedArg<'_, EmulatorBuffer>]) -> Result<(), GpuError> {
        self.call(|| GpuError::Launch {
            kernel: launch.kernel,
            report: "planted".to_owned(),
        })?;
        self.emulator.launch(launch, args)
    }
}

fn expect_recovery<T: PathElement + CaseElement<WideElement = f32>>(
    path: &'static Path<T>,
    [small, large]: [Problem<T>; 2],
) {
    let emulator = emulator(1);
    let left = Rc::new(Cell::new(None));
    let machine = Failing {
        emulator,
        left: left.clone(),
    };
    let mut pipeline = Pipeline::with_path(small.weights().clone(), machine, path).unwrap();
    let expected = pipeline.forward(&small).unwrap();
    let mut failures = 0;
    for calls in 0.. {
        left.set(Some(calls));
        let loaded = pipeline.load_weights(large.weights().clone());
        let outcome = loaded.and_then(|()| pipeline.forward(&large));
        let failed = left.get().is_none();
        assert_eq!(outcome.is_err(), failed, "call {calls}: {outcome:?}");
        left.set(None);
        if pipeline.weights().unwrap().gate_up_proj().dim() != small.weights().gate_up_proj().dim() {
            pipeline.load_weights(small.weights().clone()).unwrap();
        }
        let found = pipeline.forward(&small).unwrap();
        let bits = |output: &Array3<T>| output.mapv(|value| value.to_f64().to_bits());
        assert_eq!(bits(&found), bits(&expected), "after call {calls}");
        if !failed {
            break;
        }
        failures += 1;
    }
    // Buffers, uploads and launches of the weights and of a forward.
    assert!(failures > 25, "{failures} calls failed");
}

const SMALL: [usize; 6] = [5, 40, 33, 2, 2, 4];
const LARGE: [usize; 6] = [90, 40, 33, 3, 2, 50];

fn the_pipeline_is_usable_after_any_failure() {
    expect_recovery(&PORTABLE_FP32, [problem(SMALL, 1), problem(LARGE, 2)]);
}

fn the_pipeline_is_usable_after_any_failure_with_tensor_cores() {
    expect_recovery(&HOPPER_FP32, [problem(SMALL, 1), problem(LARGE, 2)]);
}

fn the_pipeline_is_usable_after_any_failure_in_bf16() {
    let problems = [[5, 40, 32, 2, 2, 4], [90, 40, 32, 3, 2, 50]].map(|sizes| problem_bf16(sizes, 1));
    expect_recovery(&HOPPER_BF16, problems);
}
