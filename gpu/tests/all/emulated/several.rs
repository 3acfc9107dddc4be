//! Several emulators in one process: in one thread, in a thread each, and in one after the other.

use binned_experts_gpu::{Emulator, GpuError, POISONS, Pipeline, Schedule};

use super::common::{bits, problem};
use super::selftest::{plain_sum, race};
use super::{Test, test};

pub(super) fn tests() -> Vec<Test> {
    vec![
        test(two_in_one_thread_give_what_they_give_alone),
        test(each_thread_may_have_its_own),
        test(one_may_go_from_thread_to_thread),
        test(pipelines_give_what_they_give_alone),
    ]
}

/// The launches of one emulator, each of which depends on its schedule in all that it gives: a result, or a report.
const LAUNCHES: u64 = 12;

fn schedule(seed: u64) -> Schedule {
    Schedule {
        seed,
        resident_blocks: 4,
        access_interval: 2,
        poison: POISONS[seed as usize % 3],
    }
}

/// What a launch gives.
fn outcome(emulator: &mut Emulator, seed: u64) -> Result<f32, GpuError> {
    emulator.set_schedule(schedule(seed));
    if seed.is_multiple_of(2) {
        plain_sum(emulator)
    } else {
        race(emulator).map(|flag| flag as f32)
    }
}

/// What the launches of an emulator give that is alone.
fn alone(seeds: impl Iterator<Item = u64>) -> Vec<Result<f32, GpuError>> {
    let mut emulator = Emulator::new().unwrap();
    seeds.map(|seed| outcome(&mut emulator, seed)).collect()
}

fn two_in_one_thread_give_what_they_give_alone() {
    let expected = [alone(0..LAUNCHES), alone(100..100 + LAUNCHES)];
    let distinct = |results: &[Result<f32, GpuError>]| {
        let mut texts: Vec<String> = results.iter().map(|result| format!("{result:?}")).collect();
        texts.sort();
        texts.dedup();
        texts.len()
    };
    // Results and reports of one kind alone would show little.
    assert!(expected.iter().all(|results| distinct(results) > 4), "{expected:?}");
    let (mut first, mut second) = (Emulator::new().unwrap(), Emulator::new().unwrap());
    for launch in 0..LAUNCHES {
        let found = [outcome(&mut first, launch), outcome(&mut second, 100 + launch)];
        assert_eq!(found[0], expected[0][launch as usize], "launch {launch} of the first");
        assert_eq!(found[1], expected[1][launch as usize], "launch {launch} of the second");
    }
    // One that is gone leaves the other as it is.
    drop(first);
    assert_eq!(outcome(&mut second, 0), expected[0][0]);
}

fn each_thread_may_have_its_own() {
    let expected = alone(0..LAUNCHES);
    std::thread::scope(|scope| {
        let threads = [(); 6].map(|()| scope.spawn(|| alone(0..LAUNCHES)));
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
    });
}

fn one_may_go_from_thread_to_thread() {
    let expected = alone(0..LAUNCHES);
    let mut emulator = Emulator::new().unwrap();
    for (launch, expected) in (0..LAUNCHES).zip(expected) {
        let (moved, found) = std::thread::spawn(move || {
            let found = outcome(&mut emulator, launch);
            (emulator, found)
        })
        .join()
        .unwrap();
        assert_eq!(found, expected, "launch {launch}");
        emulator = moved;
    }
}

fn pipelines_give_what_they_give_alone() {
    let problems = [problem([40, 64, 33, 3, 2, 20], 1), problem([60, 40, 64, 6, 1, 5], 2)];
    let pipeline = |index: usize| {
        let machine = Emulator::with_schedule(schedule(index as u64)).unwrap();
        Pipeline::new(problems[index].weights().clone(), machine.with_multiprocessors(2)).unwrap()
    };
    let stages = |index: usize, pipeline: &mut Pipeline<Emulator>| {
        bits(&pipeline.forward_with_stages(&problems[index]).unwrap())
    };
    let expected = [0, 1].map(|index| stages(index, &mut pipeline(index)));
    let mut both = [pipeline(0), pipeline(1)];
    for _ in 0..2 {
        for (index, pipeline) in both.iter_mut().enumerate() {
            assert_eq!(stages(index, pipeline), expected[index], "pipeline {index}");
        }
    }
    let stages = &stages;
    std::thread::scope(|scope| {
        let threads = both.map(|mut own| {
            let index = usize::from(!own.has_weights_of(&problems[0]));
            scope.spawn(move || (index, stages(index, &mut own)))
        });
        for thread in threads {
            let (index, found) = thread.join().unwrap();
            assert_eq!(found, expected[index], "pipeline {index} in a thread of its own");
        }
    });
}
