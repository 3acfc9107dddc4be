//! Machines that are built at run time.

use binned_experts_gpu::{EmulatorBuilder, Pipeline, Schedule, sources};

use super::common::{bits, problem};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![test(machines_share_no_state)]
}

fn machines_share_no_state() {
    let builder = EmulatorBuilder::new().unwrap();
    let kernels = sources::KERNELS.map(|(name, text)| (name, text.to_owned()));
    let build = || {
        // SAFETY: the kernels are this crate's.
        let machine = unsafe { builder.build(&kernels, Schedule::default()) }.unwrap();
        machine.with_multiprocessors(2)
    };
    let problem = problem([40, 64, 64, 2, 1, 1000], 3);
    let stages = |machine| {
        let mut pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
        pipeline.forward_with_stages(&problem).unwrap()
    };
    // What the second one makes must not be what the first one uses, which outlives it: its library goes with it.
    let (first, second, third) = (build(), build(), build());
    let expected = std::thread::scope(|scope| scope.spawn(|| stages(second)).join().unwrap());
    drop(third);
    assert_eq!(expected.fallback_rows, Some(0));
    let found = stages(first);
    assert_eq!(bits(&found), bits(&expected));
    assert_eq!(found.fallback_rows, Some(0));
}
