//! One case under several schedules of the emulator.

use std::cell::RefCell;
use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use binned_experts_check::draw::mix;
use binned_experts_check::engine::forward;
use binned_experts_check::judge::{compare, compare_runs};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{CaseSpec, Outcome, Precision, Selection};
use binned_experts_gpu::{Emulator, POISONS, Schedule};

use super::{small_f32, trial};
use crate::engines::PipelineEngine;

/// Bytes at the end of an input that pick the schedules.
const SCHEDULE_BYTES: usize = size_of::<u64>();

thread_local! {
    static EMULATOR: RefCell<PipelineEngine<Emulator>> =
        RefCell::new(PipelineEngine::emulator_portable().unwrap_or_else(|error| panic!("{error}")));
}

/// A small case in f32 and what its schedules are drawn from.
#[derive(Clone, PartialEq)]
pub struct ScheduleCase {
    /// The problem.
    pub spec: CaseSpec,
    /// Decides the schedules.
    pub seed: u64,
}

/// However the threads of the kernels interleave, the bits of every stage must be the same, and right.
///
/// Returns the number of interleavings.
///
/// # Panics
/// If they are not, or there is no emulator; the message is what differs, the schedule and the case as text.
pub fn schedule(case: &ScheduleCase) -> usize {
    EMULATOR.with_borrow_mut(|emulator| interleavings_agree(emulator, &case.spec, case.seed))
}

fn interleavings_agree(emulator: &mut PipelineEngine<Emulator>, spec: &CaseSpec, seed: u64) -> usize {
    let trial = trial(spec, &[Precision::FP32]);
    let bounds = trial.bounds(Precision::FP32).expect("prepared for this class");
    let mut first: Option<Outcome> = None;
    let schedules = schedules(seed);
    for schedule in schedules {
        emulator.set_schedule(schedule);
        let outcome =
            forward(emulator, trial.problem()).unwrap_or_else(|fault| panic!("{fault}\n{schedule:?}\n\n{spec}"));
        match &first {
            None => {
                let verdict = compare(trial.expected(), bounds, &outcome);
                assert!(
                    !verdict.is_failure(),
                    "{}\n{schedule:?}\n\n{spec}",
                    verdict_text(&verdict)
                );
                first = Some(outcome);
            }
            Some(first) => {
                if let Err(difference) = compare_runs(first, &outcome) {
                    panic!("{difference}\n{:?}\n{schedule:?}\n\n{spec}", schedules[0]);
                }
            }
        }
    }
    schedules.len()
}

/// The default, one block after another, any number of blocks, and pauses at plain accesses; with each poison.
fn schedules(seed: u64) -> [Schedule; 4] {
    let schedule = |turn: u64, resident_blocks, access_interval| Schedule {
        seed: mix(seed.wrapping_add(turn)),
        resident_blocks,
        access_interval,
        poison: POISONS[turn as usize % 3],
    };
    let [some, interval, ..] = seed.to_le_bytes();
    [
        schedule(0, 0, 0),
        schedule(1, 1, 0),
        schedule(2, 2 + u32::from(some % 15), 0),
        schedule(3, 0, 8 + u32::from(interval)),
    ]
}

impl ScheduleCase {
    /// The case of a fuzzer's bytes: the last eight decide the schedules.
    pub fn from_bytes(bytes: &[u8]) -> ScheduleCase {
        let (case, seed) = bytes.split_at(bytes.len().saturating_sub(SCHEDULE_BYTES));
        ScheduleCase {
            // A quarter of the work, since it is done four times.
            spec: CaseSpec::from_bytes(case, &small_f32(Selection::small().work / 4)),
            seed: seed.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte)),
        }
    }
}

impl fmt::Debug for ScheduleCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for schedule in schedules(self.seed) {
            writeln!(f, "# {schedule:?}")?;
        }
        fmt::Display::fmt(&self.spec, f)
    }
}

impl<'a> Arbitrary<'a> for ScheduleCase {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<ScheduleCase> {
        source.bytes(source.len()).map(ScheduleCase::from_bytes)
    }
}
