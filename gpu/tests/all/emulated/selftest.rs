//! The emulator finds the faults that are planted in `emulator/selftest.cu`.

use super::{Test, test};
use binned_experts_gpu::{Arg, Emulator, EmulatorBuffer, GpuError, Launch, Machine, NamedArg, POISONS, Schedule};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(collectives_give_what_cuda_defines),
        test(a_missing_barrier_gives_wrong_results),
        test(barriers_and_collectives_that_not_all_reach_are_reported),
        test(an_index_out_of_bounds_is_reported_with_buffer_index_and_length),
        test(an_argument_covers_only_the_bytes_that_it_names),
        test(memory_starts_poisoned),
        test(atomics_lose_no_addition_and_plain_sums_do),
        test(a_race_between_blocks_shows_within_fifty_seeds),
        test(accesses_that_no_barrier_orders_are_reported),
        test(a_seed_gives_the_same_schedule_again),
        test(launches_that_do_not_fit_are_refused),
    ]
}

fn emulator(schedule: Schedule) -> Emulator {
    Emulator::with_schedule(schedule).unwrap()
}

fn seeded(seed: u64) -> Schedule {
    Schedule {
        seed,
        ..Schedule::default()
    }
}

/// Launches a kernel on a buffer of `values`, and returns what it leaves there.
fn run<T: bytemuck::Pod>(
    emulator: &mut Emulator,
    kernel: &'static str,
    (grid, block): (u32, u32),
    values: &[T],
    more: &[NamedArg<'_, EmulatorBuffer>],
) -> Result<Vec<T>, GpuError> {
    let mut buffer = emulator.alloc(size_of_val(values))?;
    emulator.upload(&mut buffer, bytemuck::cast_slice(values))?;
    let mut args = vec![("values", Arg::Buffer(&buffer, size_of_val(values)))];
    args.extend_from_slice(more);
    emulator.launch(
        Launch {
            kernel,
            grid,
            block,
            shared: 0,
        },
        &args,
    )?;
    let mut results = values.to_vec();
    emulator.download(&buffer, 0, bytemuck::cast_slice_mut(&mut results))?;
    Ok(results)
}

fn report<T: std::fmt::Debug>(result: Result<T, GpuError>) -> String {
    match result {
        Err(GpuError::Launch { report, .. }) => report,
        other => panic!("expected a report, found {other:?}"),
    }
}

/// What is left of a sum to which many threads add, some of them in vain: it depends on the order of their accesses.
pub(super) fn plain_sum(emulator: &mut Emulator) -> Result<f32, GpuError> {
    run(emulator, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).map(|sum| sum[0])
}

/// A race, whose report names the thread and the element where it shows first.
pub(super) fn race(emulator: &mut Emulator) -> Result<i32, GpuError> {
    let more = [("between", Arg::I64(0)), ("then", Arg::I64(0))];
    run(emulator, "selftest_order", (2, 64), &[0i32; 128], &more).map(|flags| flags[0])
}

fn collectives_give_what_cuda_defines() {
    for seed in 0..20 {
        let mut emulator = emulator(seeded(seed));
        let results = run(&mut emulator, "selftest_collectives", (1, 32), &[0i32; 128], &[]).unwrap();
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

fn a_missing_barrier_gives_wrong_results() {
    let expected: Vec<f32> = (1..=256).map(|thread| (thread % 256) as f32).collect();
    for seed in 0..20 {
        let mut emulator = emulator(seeded(seed));
        let results = run(&mut emulator, "selftest_missing_barrier", (1, 256), &[0.0f32; 256], &[]).unwrap();
        assert_ne!(results, expected, "seed {seed}");
    }
}

fn barriers_and_collectives_that_not_all_reach_are_reported() {
    for seed in 0..20 {
        let mut emulator = emulator(seeded(seed));
        let divergent = report(run(
            &mut emulator,
            "selftest_divergent_barrier",
            (1, 64),
            &[0i32; 64],
            &[],
        ));
        assert!(divergent.contains("divergent barrier"), "{divergent}");
        assert!(divergent.contains("selftest.cu:"), "{divergent}");
        let kernel = "selftest_barrier_against_collective";
        let deadlock = report(run(&mut emulator, kernel, (1, 32), &[0i32; 32], &[]));
        assert!(deadlock.contains("deadlock"), "{deadlock}");
        assert!(deadlock.contains("16 threads wait at barrier"), "{deadlock}");
        assert!(deadlock.contains("16 threads wait in a collective"), "{deadlock}");
        let returned = report(run(&mut emulator, "selftest_returned_lane", (1, 32), &[0i32; 32], &[]));
        assert!(
            returned.contains("have returned") || returned.contains("deadlock"),
            "{returned}"
        );
    }
}

fn an_index_out_of_bounds_is_reported_with_buffer_index_and_length() {
    let mut emulator = emulator(seeded(1));
    let values = [1.0f32; 40];
    let mut results = emulator.alloc(32 * 4).unwrap();
    emulator.discard(&mut results, 32 * 4).unwrap();
    for (index, bad) in [(9, "values[40] of length 40"), (-1, "values[-1] of length 40")] {
        let more = [("results", Arg::Buffer(&results, 32 * 4)), ("index", Arg::I64(index))];
        let report = report(run(&mut emulator, "selftest_read", (1, 32), &values, &more));
        assert!(report.contains("selftest_read: out of bounds: "), "{report}");
        assert!(report.contains(bad), "{report}");
        assert!(report.contains("in block (0, 0, 0), thread ("), "{report}");
    }
    let more = [("results", Arg::Buffer(&results, 32 * 4)), ("index", Arg::I64(8))];
    run(&mut emulator, "selftest_read", (1, 32), &values, &more).unwrap();
    let shared = report(run(
        &mut emulator,
        "selftest_shared_index",
        (1, 32),
        &values,
        &[("index", Arg::I64(1))],
    ));
    assert!(shared.contains("values[32] of length 32"), "{shared}");
}

fn an_argument_covers_only_the_bytes_that_it_names() {
    let mut emulator = emulator(seeded(1));
    let values = emulator.alloc(64 * 4).unwrap();
    let results = emulator.alloc(32 * 4).unwrap();
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
    let report = report(emulator.launch(launch, &args(31 * 4)));
    assert!(report.contains("values[31] of length 31"), "{report}");
    let expected = GpuError::Transfer { bytes: 256, found: 260 };
    assert_eq!(emulator.launch(launch, &args(65 * 4)), Err(expected));
}

fn memory_starts_poisoned() {
    for poison in POISONS {
        let mut emulator = emulator(Schedule { poison, ..seeded(3) });
        // Shared memory, in every block.
        let results = run(&mut emulator, "selftest_shared_poison", (200, 32), &[0.0f32; 6400], &[]).unwrap();
        assert!(results.iter().all(|value| value.to_bits() == poison));
        let mut buffer = emulator.alloc(20).unwrap();
        let mut words = [0u32; 5];
        emulator
            .download(&buffer, 0, bytemuck::cast_slice_mut(&mut words))
            .unwrap();
        assert_eq!(words, [poison; 5]);
        emulator.upload(&mut buffer, &[0; 20]).unwrap();
        for (used, expected) in [(8, [poison, poison, 0, 0, 0]), (20, [poison; 5])] {
            emulator.discard(&mut buffer, used).unwrap();
            emulator
                .download(&buffer, 0, bytemuck::cast_slice_mut(&mut words))
                .unwrap();
            assert_eq!(words, expected, "{used}");
        }
        let expected = GpuError::Transfer { bytes: 20, found: 21 };
        assert_eq!(emulator.discard(&mut buffer, 21), Err(expected));
    }
}

fn atomics_lose_no_addition_and_plain_sums_do() {
    let dense = Schedule {
        seed: 5,
        resident_blocks: 4,
        access_interval: 2,
        ..Schedule::default()
    };
    let mut emulator = emulator(dense);
    assert_eq!(
        run(&mut emulator, "selftest_atomic_sum", (9, 64), &[0.0f32], &[]).unwrap(),
        [576.0]
    );
    let plain = run(&mut emulator, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).unwrap();
    assert!(plain[0] < 576.0, "{plain:?}");
    emulator.set_schedule(seeded(5));
    assert_eq!(
        run(&mut emulator, "selftest_plain_sum", (9, 64), &[0.0f32], &[]).unwrap(),
        [576.0]
    );
}

fn a_race_between_blocks_shows_within_fifty_seeds() {
    let (assignments, experts) = (100usize, 4usize);
    let expert_of: Vec<i32> = (0..assignments as i32).map(|assignment| assignment % 4).collect();
    let mut wrong = 0;
    for seed in 0..50 {
        let mut emulator = emulator(seeded(seed));
        let mut counts = emulator.alloc(experts * 4).unwrap();
        emulator
            .upload(&mut counts, bytemuck::cast_slice(&[0.0f32; 4]))
            .unwrap();
        let bins = emulator.alloc(experts * 4).unwrap();
        let more = [
            ("counts", Arg::Buffer(&counts, experts * 4)),
            ("bins", Arg::Buffer(&bins, experts * 4)),
            ("assignments", Arg::I64(assignments as i64)),
            ("experts", Arg::I64(experts as i64)),
        ];
        run(&mut emulator, "selftest_racing_bins", (4, 32), &expert_of, &more).unwrap();
        let mut found = [0.0f32; 4];
        emulator
            .download(&bins, 0, bytemuck::cast_slice_mut(&mut found))
            .unwrap();
        wrong += usize::from(found != [25.0, 50.0, 75.0, 100.0]);
    }
    assert!(wrong > 25, "seen at {wrong} of 50 seeds");
}

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
        let mut emulator = emulator(seeded(seed));
        let mut order = |(between, then)| {
            let more = [("between", Arg::I64(between)), ("then", Arg::I64(then))];
            run(&mut emulator, "selftest_order", (2, 64), &[0i32; 128], &more)
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
        let counters = run(&mut emulator, "selftest_counters", (3, 64), &[0i32; 193], &[]).unwrap();
        assert_eq!((counters[0], &counters[1..]), (192, &[2; 192][..]));
    }
}

fn a_seed_gives_the_same_schedule_again() {
    let lost = |seed| {
        plain_sum(&mut emulator(Schedule {
            seed,
            resident_blocks: 4,
            access_interval: 2,
            ..Schedule::default()
        }))
    };
    for seed in 0..5 {
        assert_eq!(lost(seed), lost(seed));
    }
    assert!((1..5).any(|seed| lost(seed) != lost(0)));
}

fn launches_that_do_not_fit_are_refused() {
    let mut emulator = emulator(seeded(1));
    let unknown = report(run(&mut emulator, "no_such_kernel", (1, 32), &[0i32], &[]));
    assert!(unknown.contains("there is no such kernel"), "{unknown}");
    let surplus = report(run(
        &mut emulator,
        "selftest_atomic_sum",
        (1, 32),
        &[0.0f32],
        &[("index", Arg::I64(1))],
    ));
    assert!(surplus.contains("expected 1 arguments, found 2"), "{surplus}");
    let more = [("results", Arg::F32(1.0)), ("index", Arg::I64(1))];
    let kind = report(run(&mut emulator, "selftest_read", (1, 32), &[0.0f32], &more));
    assert!(kind.contains("results: expected a buffer, found an f32"), "{kind}");
    let size = report(run(&mut emulator, "selftest_atomic_sum", (1, 32), &[0u8; 5], &[]));
    assert!(size.contains("5 bytes are no multiple of 4"), "{size}");
    let empty = report(run(&mut emulator, "selftest_atomic_sum", (0, 32), &[0i32], &[]));
    assert!(empty.contains("a grid of 0 blocks"), "{empty}");
    let wide = report(run(&mut emulator, "selftest_atomic_sum", (1, 1025), &[0i32], &[]));
    assert!(wide.contains("a block of 1025 threads"), "{wide}");
    assert_eq!(
        run(&mut emulator, "selftest_atomic_sum", (1, 32), &[0.0f32], &[]).unwrap(),
        [32.0]
    );
}
