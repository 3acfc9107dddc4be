//! What runs on the emulator: its own tests, and those of the kernels and the pipeline.

mod async_machine;
mod built;
mod common;
mod faults;
mod layers;
mod pipeline;
mod selftest;
mod selftest_bf16;
mod several;
mod tensor_cores;
mod tensor_cores_bf16;

use binned_experts_gpu::{Emulator, GpuError};
use libtest_mimic::Trial;

use crate::trials::{Need, name_of, named, trial};

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = Need::new("a C++ compiler", Some("CI"), || {
        Emulator::new().err().map(|error| error.to_string())
    });
    let needing_a_compiler = [
        async_machine::tests(),
        built::tests(),
        faults::tests(),
        layers::tests(),
        pipeline::tests(),
        selftest::tests(),
        selftest_bf16::tests(),
        several::tests(),
        tensor_cores::tests(),
        tensor_cores_bf16::tests(),
    ];
    let mut trials = vec![trial(&[], is_there_or_says_why_not)];
    trials.extend(
        needing_a_compiler
            .into_iter()
            .flatten()
            .map(|Test { name, run }| named(name, &[&compiler], run)),
    );
    trials
}

/// A test, which panics if it fails.
struct Test {
    name: &'static str,
    run: Box<dyn FnOnce() + Send>,
}

/// A function as a test, named after its module and itself.
fn test<F: FnOnce() + Send + 'static>(run: F) -> Test {
    Test {
        name: name_of::<F>(),
        run: Box::new(run),
    }
}

fn is_there_or_says_why_not() {
    match Emulator::new() {
        Ok(_) => {}
        Err(GpuError::Unavailable { machine, reason }) => assert!(machine == "emulator" && !reason.is_empty()),
        Err(error) => panic!("{error}"),
    }
}
