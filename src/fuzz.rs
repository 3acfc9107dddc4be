//! What the fuzz targets run, as ordinary functions: a target hands over its bytes, and a panic is a finding.
//!
//! The inputs of the generated targets print as their case, so that cargo-fuzz shows the case of every crash, one that
//! AddressSanitizer found included, and `cargo fuzz fmt TARGET FILE` shows that of any input. Put under `tests/cases/`
//! as a file, that text is a regression test.
//!
//! Engines are opened once a thread. Where the kernels cannot be run on the CPU, the reference is checked alone.

use std::cell::RefCell;
use std::fmt;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use binned_experts_gpu::{Emulator, GpuError, POISONS, Schedule};
use clap::ValueEnum;

use crate::case::{CaseSpec, Place, Profile, Special, SpecialValue, ValueProfile, mix, parse_case};
use crate::compare::{compare, compare_runs};
use crate::engine::{Engine, GpuEngine, Outcome, Reference, available};
use crate::generate::Selection;
use crate::judge::{Prepared, classes_of, forward, judge};
use crate::precision::Class;
use crate::report::verdict_text;
use crate::tensor::ElementType;
use crate::verdict::Verdict;

/// Bytes at the end of an input of [`schedule`] that pick the schedules.
const SCHEDULE_BYTES: usize = size_of::<u64>();

thread_local! {
    static ENGINES: RefCell<Vec<Box<dyn Engine>>> = RefCell::new(engines());
    static HOST: RefCell<Result<GpuEngine<Emulator>, GpuError>> = RefCell::new(host());
}

/// Any routing, in f32.
#[derive(Clone, PartialEq)]
pub struct RoutingCase(pub CaseSpec);

/// Special values and wide ranges, in every element type.
#[derive(Clone, PartialEq)]
pub struct ValuesCase(pub CaseSpec);

/// A small case in f32 and what its schedules are drawn from.
#[derive(Clone, PartialEq)]
pub struct ScheduleCase {
    /// The problem.
    pub spec: CaseSpec,
    /// Decides the schedules.
    pub seed: u64,
}

/// Every engine that is available must agree with the definition at every stage.
///
/// Returns the number of engines that did.
///
/// # Panics
/// If one does not; the message is the verdict and the case as text.
pub fn routing(case: &RoutingCase) -> usize {
    every_engine_agrees(&case.0)
}

/// As [`routing`]; only the reference takes element types other than f32.
///
/// # Panics
/// If an engine does not agree; the message is the verdict and the case as text.
pub fn values(case: &ValuesCase) -> usize {
    every_engine_agrees(&case.0)
}

/// However the threads of the kernels interleave, the bits of every stage must be the same, and right.
///
/// Returns the number of interleavings.
///
/// # Panics
/// If they are not; the message is what differs, the schedule and the case as text.
pub fn schedule(case: &ScheduleCase) -> usize {
    let ScheduleCase { spec, seed } = case;
    HOST.with_borrow_mut(|host| match host {
        Ok(host) => interleavings_agree(host, spec, *seed),
        Err(_) => {
            agrees(&mut Reference, &prepared(spec, &[Class::Fp32]), spec);
            1
        }
    })
}

/// Bytes as a file: whatever they are, reading them gives a case or an error, and a case reads back the same.
///
/// Returns whether they are a case.
///
/// # Panics
/// If a case that was read does not print, parse or build the same again.
pub fn case_file(bytes: &[u8]) -> bool {
    let file = parse_case(Path::new("fuzzed"), bytes);
    if let Ok(file) = &file {
        assert_eq!(
            file.problem.dims().tokens,
            file.problem.output_shape()[..2].iter().product::<usize>()
        );
    }
    let spec = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<CaseSpec>().ok());
    if let Some(spec) = &spec {
        let again = spec.to_string().parse::<CaseSpec>();
        // NaN parameters are not equal to themselves, so texts are compared.
        assert_eq!(again.map(|again| again.to_string()), Ok(spec.to_string()));
    }
    file.is_ok() || spec.is_some()
}

/// Every engine whose kernels take cases as small as these: the tensor cores would leave them to those of `host`.
fn engines() -> Vec<Box<dyn Engine>> {
    let mut engines = available();
    engines.retain(|engine| engine.name() != "host-tensor-cores");
    engines
}

/// The kernels on the CPU; says on stderr if there are none.
fn host() -> Result<GpuEngine<Emulator>, GpuError> {
    GpuEngine::host().inspect_err(|error| eprintln!("{error}; the reference is fuzzed in its place"))
}

fn every_engine_agrees(spec: &CaseSpec) -> usize {
    // Opened for its message alone.
    HOST.with(|_| ());
    ENGINES.with_borrow_mut(|engines| {
        let classes = classes_of(engines.iter().map(|engine| &**engine), spec.element);
        let prepared = prepared(spec, &classes);
        engines
            .iter_mut()
            .map(|engine| usize::from(agrees(engine.as_mut(), &prepared, spec)))
            .sum()
    })
}

fn prepared(spec: &CaseSpec, classes: &[Class]) -> Prepared {
    Prepared::from_spec(spec, classes).expect("the generator makes cases that can be built")
}

/// Whether the engine took the case.
fn agrees(engine: &mut dyn Engine, prepared: &Prepared, spec: &CaseSpec) -> bool {
    let verdict = judge(engine, prepared).verdict;
    assert!(
        !verdict.is_failure(),
        "{}: {}\n\n{spec}",
        engine.name(),
        verdict_text(&verdict)
    );
    !matches!(verdict, Verdict::Skip(_))
}

fn interleavings_agree(host: &mut GpuEngine<Emulator>, spec: &CaseSpec, seed: u64) -> usize {
    let prepared = prepared(spec, &[Class::Fp32]);
    let bounds = prepared.bounds(Class::Fp32).expect("prepared for this class");
    let mut first: Option<Outcome> = None;
    let schedules = schedules(seed);
    for schedule in schedules {
        host.set_schedule(schedule);
        let outcome =
            forward(host, prepared.problem()).unwrap_or_else(|fault| panic!("{fault}\n{schedule:?}\n\n{spec}"));
        match &first {
            None => {
                let verdict = compare(prepared.expected(), bounds, &outcome);
                assert!(
                    !verdict.is_failure(),
                    "{}\n{schedule:?}\n\n{spec}",
                    verdict_text(&verdict)
                );
                first = Some(outcome);
            }
            Some(first) => {
                if let Err(difference) = same_bits(first, &outcome) {
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

fn same_bits(first: &Outcome, second: &Outcome) -> Result<(), String> {
    compare_runs(&first.output, &second.output).map_err(|mismatch| mismatch.to_string())?;
    let bits = |outcome: &Outcome| {
        let stages = &outcome.stages;
        let rows = [&stages.gate_up, &stages.activated, &stages.expert_output];
        let bits = |rows: &ndarray::Array2<f64>| rows.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        (
            stages.sorted_indices.clone(),
            stages.bins.clone(),
            rows.map(|rows| rows.as_ref().map(bits)),
        )
    };
    let (first, second) = (bits(first), bits(second));
    let stages = [
        ("sorted_indices", first.0 == second.0),
        ("bins", first.1 == second.1),
        ("gate_up", first.2[0] == second.2[0]),
        ("activated", first.2[1] == second.2[1]),
        ("expert_output", first.2[2] == second.2[2]),
    ];
    match stages.iter().find(|(_, same)| !same) {
        Some((stage, _)) => Err(format!("{stage}: another schedule gives other bits")),
        None => Ok(()),
    }
}

/// Special values in every place, and the value profiles of extreme magnitudes and of sums that cancel.
fn extreme_values() -> Vec<Profile> {
    let special = SpecialValue::value_variants().iter().flat_map(|&value| {
        Place::value_variants()
            .iter()
            .map(move |&place| Profile::Special(Special { value, place }))
    });
    let values = [
        ValueProfile::WideRange,
        ValueProfile::Cancelling,
        ValueProfile::Clamping,
        ValueProfile::LargeBias,
        ValueProfile::OppositeScales,
        ValueProfile::HugeGates,
        ValueProfile::LowGates,
        ValueProfile::Outliers,
        ValueProfile::LostSquares,
    ];
    special.chain(values.map(Profile::Values)).collect()
}

fn small_f32(work: usize) -> Selection {
    Selection {
        elements: vec![ElementType::F32],
        work,
        ..Selection::small()
    }
}

impl RoutingCase {
    /// The case of a fuzzer's bytes.
    pub fn from_bytes(bytes: &[u8]) -> RoutingCase {
        RoutingCase(CaseSpec::from_bytes(bytes, &small_f32(Selection::small().work)))
    }
}

impl ValuesCase {
    /// The case of a fuzzer's bytes.
    pub fn from_bytes(bytes: &[u8]) -> ValuesCase {
        let selection = Selection {
            profiles: extreme_values(),
            ..Selection::small()
        };
        ValuesCase(CaseSpec::from_bytes(bytes, &selection))
    }
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

impl fmt::Debug for RoutingCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for ValuesCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
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

impl<'a> Arbitrary<'a> for RoutingCase {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<RoutingCase> {
        source.bytes(source.len()).map(RoutingCase::from_bytes)
    }
}

impl<'a> Arbitrary<'a> for ValuesCase {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<ValuesCase> {
        source.bytes(source.len()).map(ValuesCase::from_bytes)
    }
}

impl<'a> Arbitrary<'a> for ScheduleCase {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<ScheduleCase> {
        source.bytes(source.len()).map(ScheduleCase::from_bytes)
    }
}
