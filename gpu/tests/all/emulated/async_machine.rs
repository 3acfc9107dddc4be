//! The emulator finds the faults that are planted in `emulator/selftest_async.cu`, and multiplies as tensor cores do.

use binned_experts_gpu::{Arg, Emulator, EmulatorBuffer, GpuError, Launch, Machine, NamedArg, Schedule};
use bytemuck::Pod;

use super::common::emulator;
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(copies_are_there_after_the_wait_and_not_before),
        test(copies_and_arrivals_that_do_not_fit_are_reported),
        test(words_are_published_before_they_are_copied),
        test(a_value_that_nothing_writes_is_reported),
        test(barriers_of_some_threads_hold_those_who_wait),
        test(products_stand_where_the_threads_expect_them),
        test(sums_are_truncated_as_the_tensor_cores_do),
        test(faults_of_products_are_found),
    ]
}

/// What a kernel leaves of a buffer of `values`, with another buffer and more as its further arguments.
pub(super) fn run<T: Pod>(
    emulator: &mut Emulator,
    launch: Launch,
    values: &[T],
    other: Option<&[u64]>,
    numbers: &[NamedArg<'_, EmulatorBuffer>],
) -> Result<Vec<T>, GpuError> {
    let mut buffer = emulator.alloc(size_of_val(values))?;
    emulator.upload(&mut buffer, bytemuck::cast_slice(values))?;
    let second = match other {
        None => None,
        Some(other) => {
            let mut buffer = emulator.alloc(size_of_val(other))?;
            emulator.upload(&mut buffer, bytemuck::cast_slice(other))?;
            Some((buffer, size_of_val(other)))
        }
    };
    let mut args = vec![("results", Arg::Buffer(&buffer, size_of_val(values)))];
    args.extend(
        second
            .as_ref()
            .map(|(buffer, bytes)| ("source", Arg::Buffer(buffer, *bytes))),
    );
    args.extend_from_slice(numbers);
    emulator.launch(launch, &args)?;
    let mut results = values.to_vec();
    emulator.download(&buffer, 0, bytemuck::cast_slice_mut(&mut results))?;
    Ok(results)
}

pub(super) fn launch(kernel: &'static str, block: u32, shared: u32) -> Launch {
    Launch {
        kernel,
        grid: 1,
        block,
        shared,
    }
}

pub(super) fn report<T: std::fmt::Debug>(result: Result<T, GpuError>) -> String {
    match result {
        Err(GpuError::Launch { report, .. }) => report,
        other => panic!("expected a report, found {other:?}"),
    }
}

fn copies(emulator: &mut Emulator, fault: i64) -> Result<Vec<u64>, GpuError> {
    copies_by(64, emulator, fault)
}

fn copies_by(threads: u32, emulator: &mut Emulator, fault: i64) -> Result<Vec<u64>, GpuError> {
    let source: Vec<u64> = (100..164).collect();
    let copies = launch("selftest_copies", threads, 0);
    run(
        emulator,
        copies,
        &[0u64; 64],
        Some(&source),
        &[("fault", Arg::I64(fault))],
    )
}

fn copies_are_there_after_the_wait_and_not_before() {
    let expected: Vec<u64> = (100..164).collect();
    let (mut early, mut short) = (0, 0);
    for seed in 0..40 {
        let mut emulator = emulator(seed);
        assert_eq!(copies(&mut emulator, 0).unwrap(), expected, "seed {seed}");
        early += usize::from(copies(&mut emulator, 1).unwrap() != expected);
        // The phase ends with the first copy, and never again with the second.
        short += usize::from(copies(&mut emulator, 2).map_or(true, |found| found != expected));
    }
    assert!(early > 5, "seen at {early} of 40 seeds");
    assert!(short > 5, "seen at {short} of 40 seeds");
}

fn copies_and_arrivals_that_do_not_fit_are_reported() {
    // Nearly always: the copies can land first.
    let mut failed = [0, 0];
    for seed in 0..40 {
        let mut emulator = emulator(seed);
        if let Err(error) = copies_by(1, &mut emulator, 3) {
            assert!(error.to_string().contains("in flight"), "{error}");
            failed[0] += 1;
        }
        if let Err(error) = copies_by(1, &mut emulator, 4) {
            let error = error.to_string();
            // Once they have landed, the arrival counts for the next phase, and ends it too early.
            let found = error.contains("takes no more than 1 arrivals") || error.contains("deadlock");
            assert!(found, "{error}");
            failed[1] += 1;
        }
    }
    assert!(failed.iter().all(|&seeds| seeds > 20), "{failed:?} of 40 seeds");
}

fn words_are_published_before_they_are_copied() {
    expect_publishing("selftest_publish", 64, &[7; 64]);
}

/// A kernel of two blocks, one of which copies 64 words of the other: `copied`, or a report where they are not published.
pub(super) fn expect_publishing(kernel: &'static str, threads: u32, copied: &[u64; 64]) {
    for seed in 0..40 {
        let mut emulator = emulator(seed);
        let mut publish = |publishes| {
            let (words, mut counters) = (emulator.alloc(64 * 8)?, emulator.alloc(4)?);
            emulator.upload(&mut counters, &[0; 4])?;
            let more = [
                ("words", Arg::Buffer(&words, 64 * 8)),
                ("counters", Arg::Buffer(&counters, 4)),
                ("publishes", Arg::I64(publishes)),
            ];
            let two = Launch {
                grid: 2,
                ..launch(kernel, threads, 0)
            };
            run(&mut emulator, two, &[0u64; 64], None, &more)
        };
        assert_eq!(publish(1).unwrap(), copied, "seed {seed}");
        let unpublished = report(publish(0));
        assert!(unpublished.contains("unpublished: a copy reads"), "{unpublished}");
    }
}

fn a_value_that_nothing_writes_is_reported() {
    let mut emulator = emulator(1);
    // Pauses at the accesses of the waiting loop itself included.
    for access_interval in [0, 2] {
        emulator.set_schedule(Schedule {
            access_interval,
            ..Schedule::default()
        });
        let livelock = report(run(
            &mut emulator,
            launch("selftest_livelock", 32, 0),
            &[0i32],
            None,
            &[],
        ));
        assert!(
            livelock.contains("livelock") && livelock.contains("selftest_async.cu:"),
            "{livelock}"
        );
    }
}

fn barriers_of_some_threads_hold_those_who_wait() {
    let groups = launch("selftest_groups", 64, 0);
    let expected: Vec<f32> = (1..33u8).map(f32::from).collect();
    let mut early = 0;
    for seed in 0..40 {
        let mut emulator = emulator(seed);
        let numbers = |waits, threads| [("waits", Arg::I64(waits)), ("threads", Arg::I64(threads))];
        let waiting = run(&mut emulator, groups, &[0.0f32; 32], None, &numbers(1, 64)).unwrap();
        assert_eq!(waiting, expected, "seed {seed}");
        let at_once = run(&mut emulator, groups, &[0.0f32; 32], None, &numbers(0, 64)).unwrap();
        early += usize::from(at_once != expected);
        let other = report(run(&mut emulator, groups, &[0.0f32; 32], None, &numbers(1, 96)));
        assert!(other.contains("threads meet at barrier 3"), "{other}");
    }
    assert!(early > 20, "seen at {early} of 40 seeds");
}

const SHARED: u32 = 256 * 128;

/// 256 lines of which the first 16 halves are given.
fn lines(half: impl Fn(usize, usize) -> u16) -> Vec<u64> {
    lines_of(256, half)
}

/// Lines of which the first 16 halves are given, in the layout of the tensor cores: chunk c of line l at c ^ (l % 8).
pub(super) fn lines_of(lines: usize, half: impl Fn(usize, usize) -> u16) -> Vec<u64> {
    let mut halves = vec![0u16; lines * 64];
    for line in 0..lines {
        for depth in 0..16 {
            let chunk = (depth / 8) ^ (line % 8);
            halves[line * 64 + chunk * 8 + depth % 8] = half(line, depth);
        }
    }
    bytemuck::cast_slice(&halves).to_vec()
}

/// An f16 of a small integer.
fn half(value: i32) -> u16 {
    half::f16::from_f32(value as f32).to_bits()
}

fn product(emulator: &mut Emulator, lines: &[u64], fault: i64, start: f32) -> Result<Vec<f32>, GpuError> {
    let results = vec![0.0f32; 128 * 96];
    let numbers = [("fault", Arg::I64(fault)), ("start", Arg::F32(start))];
    run(
        emulator,
        launch("selftest_product", 128, SHARED),
        &results,
        Some(lines),
        &numbers,
    )
}

fn products_stand_where_the_threads_expect_them() {
    let value = |line: usize, depth: usize| (line * 7 + depth * 3) as i32 % 11 - 5;
    let lines = lines(|line, depth| half(value(line, depth)));
    let mut emulator = emulator(2);
    let found = product(&mut emulator, &lines, 0, 0.5).unwrap();
    for row in 0..64usize {
        for column in 0..192usize {
            let thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
            let sum = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
            let expected: i32 = (0..16).map(|depth| value(row, depth) * value(64 + column, depth)).sum();
            assert_eq!(
                found[thread * 96 + sum],
                expected as f32 + 0.5,
                "row {row}, column {column}"
            );
        }
    }
}

fn sums_are_truncated_as_the_tensor_cores_do() {
    // 1 + 15 · 2^-24 lies half-way, and would be rounded to 1 + 8 · 2^-23.
    let tiny = half::f16::from_f32(2f32.powi(-12)).to_bits();
    let lines = lines(|_, depth| if depth == 0 { half(1) } else { tiny });
    let mut emulator = emulator(2);
    let found = product(&mut emulator, &lines, 0, 0.0).unwrap();
    assert_eq!(found[0], 1.0 + 7.0 * 2f32.powi(-23));
}

fn faults_of_products_are_found() {
    let lines = lines(|_, _| half(1));
    let mut emulator = emulator(3);
    let early = product(&mut emulator, &lines, 1, 0.25).unwrap();
    assert!(
        early.iter().all(|sum| *sum == 0.25),
        "sums were read before they were there"
    );
    let divergent = report(product(&mut emulator, &lines, 2, 0.0));
    assert!(divergent.contains("different products"), "{divergent}");
    let plain = report(product(&mut emulator, &lines, 3, 0.0));
    assert!(plain.contains("not swizzled"), "{plain}");
    let small = launch("selftest_product", 128, SHARED - 1);
    let numbers = [("fault", Arg::I64(0)), ("start", Arg::F32(0.0))];
    let small = report(run(&mut emulator, small, &[0.0f32; 128 * 96], Some(&lines), &numbers));
    assert!(small.contains("the launch asks for 32767"), "{small}");
}
