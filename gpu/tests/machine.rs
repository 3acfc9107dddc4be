//! The host machine finds the faults that are planted in `host/selftest.cu`.

#![cfg(feature = "selftest")]

use binned_experts_gpu::{Arg, GpuError, Host, HostBuffer, Launch, Machine, NamedArg, Schedule};

/// The machine, or none where there is no C++ compiler.
fn host(schedule: Schedule) -> Option<Host> {
    match Host::with_schedule(schedule) {
        Ok(host) => Some(host),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "{error}");
            eprintln!("skipped: {error}");
            None
        }
    }
}

fn seeded(seed: u64) -> Schedule {
    Schedule {
        seed,
        ..Schedule::default()
    }
}

/// Launches a kernel on a buffer of `values`, and returns what it leaves there.
fn run<T: bytemuck::Pod>(
    host: &mut Host,
    kernel: &'static str,
    (grid, block): (u32, u32),
    values: &[T],
    more: &[NamedArg<'_, HostBuffer>],
) -> Result<Vec<T>, GpuError> {
    let mut buffer = host.alloc(size_of_val(values))?;
    host.upload(&mut buffer, bytemuck::cast_slice(values))?;
    let mut args = vec![("values", Arg::Buffer(&buffer, size_of_val(values)))];
    args.extend_from_slice(more);
    host.launch(
        Launch {
            kernel,
            grid,
            block,
            shared: 0,
        },
        &args,
    )?;
    let mut results = values.to_vec();
    host.download(&buffer, bytemuck::cast_slice_mut(&mut results))?;
    Ok(results)
}

fn report<T: std::fmt::Debug>(result: Result<T, GpuError>) -> String {
    match result {
        Err(GpuError::Launch { report, .. }) => report,
        other => panic!("expected a report, found {other:?}"),
    }
}

#[test]
fn collectives_give_what_cuda_defines() {
    for seed in 0..20 {
        let Some(mut host) = host(seeded(seed)) else { return };
        let results = run(&mut host, "selftest_collectives", (1, 32), &[0i32; 128], &[]).unwrap();
        for lane in 0..32i32 {
            let [up, xor, from, digest] = [0, 32, 64, 96].map(|start| results[start + lane as usize]);
            assert_eq!(up, if lane >= 3 { lane - 3 } else { lane });
            assert_eq!(xor, lane ^ 9);
            assert_eq!(from, 25);
            let peers = (0..32).filter(|other| other % 5 == lane % 5).count() as i32;
            assert_eq!(digest, 11 * 100 + peers);
        }
    }
}

#[test]
fn a_missing_barrier_gives_wrong_results() {
    let expected: Vec<f32> = (1..=256).map(|thread| (thread % 256) as f32).collect();
    for seed in 0..20 {
        let Some(mut host) = host(seeded(seed)) else { return };
        let results = run(&mut host, "selftest_missing_barrier", (1, 256), &[0.0f32; 256], &[]).unwrap();
        assert_ne!(results, expected, "seed {seed}");
    }
}

#[test]
fn barriers_and_collectives_that_not_all_reach_are_reported() {
    for seed in 0..20 {
        let Some(mut host) = host(seeded(seed)) else { return };
        let divergent = report(run(&mut host, "selftest_divergent_barrier", (1, 64), &[0i32; 64], &[]));
        assert!(divergent.contains("divergent barrier"), "{divergent}");
        assert!(divergent.contains("selftest.cu:"), "{divergent}");
        let kernel = "selftest_barrier_against_collective";
        let deadlock = report(run(&mut host, kernel, (1, 32), &[0i32; 32], &[]));
        assert!(deadlock.contains("deadlock"), "{deadlock}");
        assert!(deadlock.contains("16 threads wait at barrier"), "{deadlock}");
        assert!(deadlock.contains("16 threads wait in a collective"), "{deadlock}");
        let returned = report(run(&mut host, "selftest_returned_lane", (1, 32), &[0i32; 32], &[]));
        assert!(
            returned.contains("have returned") || returned.contains("deadlock"),
            "{returned}"
        );
    }
}

#[test]
fn an_index_out_of_bounds_is_reported_with_buffer_index_and_length() {
    let Some(mut host) = host(seeded(1)) else { return };
    let values = [1.0f32; 40];
    let mut results = host.alloc(32 * 4).unwrap();
    host.discard(&mut results).unwrap();
    for (index, bad) in [(9, "values[40] of length 40"), (-1, "values[-1] of length 40")] {
        let more = [("results", Arg::Buffer(&results, 32 * 4)), ("index", Arg::I64(index))];
        let report = report(run(&mut host, "selftest_read", (1, 32), &values, &more));
        assert!(report.contains("selftest_read: out of bounds: "), "{report}");
        assert!(report.contains(bad), "{report}");
        assert!(report.contains("in block (0, 0, 0), thread ("), "{report}");
    }
    let more = [("results", Arg::Buffer(&results, 32 * 4)), ("index", Arg::I64(8))];
    run(&mut host, "selftest_read", (1, 32), &values, &more).unwrap();
    let shared = report(run(
        &mut host,
        "selftest_shared_index",
        (1, 32),
        &values,
        &[("index", Arg::I64(1))],
    ));
    assert!(shared.contains("values[32] of length 32"), "{shared}");
}

#[test]
fn an_argument_covers_only_the_bytes_that_it_names() {
    let Some(mut host) = host(seeded(1)) else { return };
    let values = host.alloc(64 * 4).unwrap();
    let results = host.alloc(32 * 4).unwrap();
    let launch = Launch {
        kernel: "selftest_read",
        grid: 1,
        block: 32,
        shared: 0,
    };
    let args = |bytes| {
        [
            ("values", Arg::Buffer(&values, bytes)),
            ("results", Arg::Buffer(&results, 32 * 4)),
            ("index", Arg::I64(0)),
        ]
    };
    let report = report(host.launch(launch, &args(31 * 4)));
    assert!(report.contains("values[31] of length 31"), "{report}");
    let expected = GpuError::Transfer { bytes: 256, found: 260 };
    assert_eq!(host.launch(launch, &args(65 * 4)), Err(expected));
}

#[test]
fn memory_starts_poisoned() {
    for poison in Schedule::POISONS {
        let Some(mut host) = host(Schedule { poison, ..seeded(3) }) else {
            return;
        };
        // Shared memory, in every block.
        let results = run(&mut host, "selftest_shared_poison", (200, 32), &[0.0f32; 6400], &[]).unwrap();
        assert!(results.iter().all(|value| value.to_bits() == poison));
        let mut buffer = host.alloc(20).unwrap();
        let mut words = [0u32; 5];
        host.download(&buffer, bytemuck::cast_slice_mut(&mut words)).unwrap();
        assert_eq!(words, [poison; 5]);
        host.upload(&mut buffer, &[0; 20]).unwrap();
        host.discard(&mut buffer).unwrap();
        host.download(&buffer, bytemuck::cast_slice_mut(&mut words)).unwrap();
        assert_eq!(words, [poison; 5]);
    }
}

#[test]
fn atomics_lose_no_addition_and_plain_sums_do() {
    let dense = Schedule {
        seed: 5,
        resident_blocks: 4,
        access_interval: 2,
        ..Schedule::default()
    };
    let Some(mut host) = host(dense) else { return };
    assert_eq!(
        run(&mut host, "selftest_atomic_sum", (9, 64), &[0.0f32], &[]).unwrap(),
        [576.0]
    );
    let plain = run(&mut host, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).unwrap();
    assert!(plain[0] < 576.0, "{plain:?}");
    host.set_schedule(seeded(5));
    assert_eq!(
        run(&mut host, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).unwrap(),
        [576.0]
    );
}

#[test]
fn a_race_between_blocks_shows_within_fifty_seeds() {
    let (assignments, experts) = (100usize, 4usize);
    let expert_of: Vec<i32> = (0..assignments as i32).map(|assignment| assignment % 4).collect();
    let mut wrong = 0;
    for seed in 0..50 {
        let Some(mut host) = host(seeded(seed)) else { return };
        let mut counts = host.alloc(experts * 4).unwrap();
        host.upload(&mut counts, bytemuck::cast_slice(&[0.0f32; 4])).unwrap();
        let bins = host.alloc(experts * 4).unwrap();
        let more = [
            ("counts", Arg::Buffer(&counts, experts * 4)),
            ("bins", Arg::Buffer(&bins, experts * 4)),
            ("assignments", Arg::I64(assignments as i64)),
            ("experts", Arg::I64(experts as i64)),
        ];
        run(&mut host, "selftest_racing_bins", (4, 32), &expert_of, &more).unwrap();
        let mut found = [0.0f32; 4];
        host.download(&bins, bytemuck::cast_slice_mut(&mut found)).unwrap();
        wrong += usize::from(found != [25.0, 50.0, 75.0, 100.0]);
    }
    assert!(wrong > 25, "seen at {wrong} of 50 seeds");
}

#[test]
fn accesses_that_no_barrier_orders_are_reported() {
    let [nothing, a_match, a_sync, a_barrier] = [0, 1, 2, 3];
    let [reads, adds, reads_of_other_warps, adds_of_other_blocks] = [0, 1, 2, 3];
    let sound = [
        (a_sync, reads),
        (a_sync, adds),
        (a_barrier, reads),
        (a_barrier, adds),
        (a_barrier, reads_of_other_warps),
    ];
    let racing = [
        (nothing, reads),
        (nothing, adds),
        (a_match, reads),
        (a_match, adds),
        (a_sync, reads_of_other_warps),
        (a_barrier, adds_of_other_blocks),
    ];
    // Whatever the order in which threads run, and the values.
    for seed in 0..40 {
        let Some(mut host) = host(seeded(seed)) else { return };
        let mut order = |(between, then)| {
            let more = [("between", Arg::I64(between)), ("then", Arg::I64(then))];
            run(&mut host, "selftest_order", (2, 64), &[0i32; 128], &more)
        };
        for case in sound {
            let flags = order(case).unwrap();
            let expected = 1 + i32::from(case.1 == adds);
            assert_eq!(flags, [expected; 128], "{case:?}");
        }
        for case in racing {
            let race = report(order(case));
            assert!(race.contains("race: values["), "{case:?}: {race}");
            assert!(race.contains("with no barrier between"), "{case:?}: {race}");
        }
        let counters = run(&mut host, "selftest_counters", (3, 64), &[0i32; 193], &[]).unwrap();
        assert_eq!((counters[0], &counters[1..]), (192, &[2; 192][..]));
    }
}

#[test]
fn a_seed_gives_the_same_schedule_again() {
    let lost = |seed| {
        let mut host = host(Schedule {
            seed,
            resident_blocks: 4,
            access_interval: 2,
            ..Schedule::default()
        })?;
        Some(run(&mut host, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).unwrap())
    };
    for seed in 0..5 {
        assert_eq!(lost(seed), lost(seed));
    }
    assert!(lost(0).is_none() || (1..5).any(|seed| lost(seed) != lost(0)));
}

#[test]
fn launches_that_do_not_fit_are_refused() {
    let Some(mut host) = host(seeded(1)) else { return };
    let unknown = report(run(&mut host, "no_such_kernel", (1, 32), &[0i32], &[]));
    assert!(unknown.contains("there is no such kernel"), "{unknown}");
    let surplus = report(run(
        &mut host,
        "selftest_atomic_sum",
        (1, 32),
        &[0.0f32],
        &[("surplus", Arg::I64(1))],
    ));
    assert!(surplus.contains("expected 1 arguments, found 2"), "{surplus}");
    let more = [("results", Arg::F32(1.0)), ("index", Arg::I64(1))];
    let kind = report(run(&mut host, "selftest_read", (1, 32), &[0.0f32], &more));
    assert!(kind.contains("results: expected a buffer, found an f32"), "{kind}");
    let size = report(run(&mut host, "selftest_atomic_sum", (1, 32), &[0u8; 5], &[]));
    assert!(size.contains("5 bytes are no multiple of 4"), "{size}");
    let empty = report(run(&mut host, "selftest_atomic_sum", (0, 32), &[0i32], &[]));
    assert!(empty.contains("a grid of 0 blocks"), "{empty}");
    let wide = report(run(&mut host, "selftest_atomic_sum", (1, 1025), &[0i32], &[]));
    assert!(wide.contains("a block of 1025 threads"), "{wide}");
    assert_eq!(
        run(&mut host, "selftest_atomic_sum", (1, 32), &[0.0f32], &[]).unwrap(),
        [32.0]
    );
}
