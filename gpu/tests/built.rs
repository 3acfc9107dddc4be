//! Machines that are built at run time.

mod common;

use binned_experts_gpu::{HostBuilder, Pipeline, Schedule, sources};

use common::{bits, host, problem};

#[test]
fn machines_share_no_state() {
    if host(0).is_none() {
        return;
    }
    let builder = HostBuilder::new().unwrap();
    let kernels = sources::KERNELS.map(|(name, text)| (name, text.to_owned()));
    let build = || {
        let machine = builder.build(&kernels, Schedule::default()).unwrap();
        machine.with_multiprocessors(2)
    };
    let problem = problem([40, 64, 64, 2, 1, 1000], 3);
    let stages = |machine| {
        let mut pipeline = Pipeline::new(problem.weights().clone(), machine).unwrap();
        pipeline.forward_with_stages(&problem).unwrap()
    };
    // What the second one makes must not be what the first one uses, which outlives it. A library goes with the next
    // one that is closed after the threads that ran it have ended.
    let (first, second, third) = (build(), build(), build());
    let expected = std::thread::scope(|scope| scope.spawn(|| stages(second)).join().unwrap());
    drop(third);
    assert_eq!(expected.fallback_rows, Some(0));
    let found = stages(first);
    assert_eq!(bits(&found), bits(&expected));
    assert_eq!(found.fallback_rows, Some(0));
}
