//! What the fuzz targets run, as ordinary functions: a target hands over its bytes, and a panic is a finding.
//!
//! The inputs of the generated targets print as their case, so that cargo-fuzz shows the case of every crash, one that
//! AddressSanitizer found included, and `cargo fuzz fmt TARGET FILE` shows that of any input. Put under `tests/cases/`
//! as a file, that text is a regression test.
//!
//! Engines are opened once a thread. Those that are not available are left out of [`routing`] and [`values`], with a
//! note on standard error; [`schedule`] needs the emulator.

mod files;
#[cfg(feature = "emulator")]
mod schedule;

use std::cell::RefCell;
use std::fmt;

use arbitrary::{Arbitrary, Unstructured};
use binned_experts_check::case::{Profile, Special, ValueProfile};
use binned_experts_check::check::AnyEngine;
use binned_experts_check::engine::{Claiming, precisions_of};
use binned_experts_check::judge::{Trial, judge};
use binned_experts_check::report::verdict_text;
use binned_experts_check::{CaseSpec, Domain, ElementType, Engine, Precision, Selection, Verdict};

pub use files::case_file;
#[cfg(feature = "emulator")]
pub use schedule::{ScheduleCase, schedule};

use crate::engines::built_in;

/// The engines of [`routing`] and [`values`]. The kernels for tensor cores leave cases as small as these to the
/// portable ones.
const ENGINES: [&str; 3] = ["reference", "emulator-portable", "cuda-portable"];

thread_local! {
    static OPEN: RefCell<Vec<Claiming<AnyEngine>>> = RefCell::new(engines());
}

/// Any routing, in f32.
#[derive(Clone, PartialEq)]
pub struct RoutingCase(pub CaseSpec);

/// Special values and wide ranges, in every element type.
#[derive(Clone, PartialEq)]
pub struct ValuesCase(pub CaseSpec);

/// Every engine that is available must agree with the definition at every stage.
///
/// Returns the number of engines that did.
///
/// # Panics
/// If one does not; the message is the verdict and the case as text.
pub fn routing(case: &RoutingCase) -> usize {
    every_engine_agrees(&case.0)
}

/// As [`routing`]; only the reference takes f64 and f16.
///
/// # Panics
/// If an engine does not agree; the message is the verdict and the case as text.
pub fn values(case: &ValuesCase) -> usize {
    every_engine_agrees(&case.0)
}

/// Without their claims of bits, each of which takes a further run of a case. [`schedule`] tries many interleavings, and a
/// check tries the claims.
fn engines() -> Vec<Claiming<AnyEngine>> {
    let open = |name: &&str| {
        let engine = (built_in(name)?.open)();
        engine
            .inspect_err(|error| eprintln!("{name}: not available: {error}"))
            .ok()
    };
    let once = |engine: AnyEngine| {
        let domain = Domain {
            deterministic: None,
            batch_invariant: None,
            ..engine.domain()
        };
        Claiming { engine, domain }
    };
    ENGINES.iter().filter_map(open).map(once).collect()
}

fn every_engine_agrees(spec: &CaseSpec) -> usize {
    OPEN.with_borrow_mut(|engines| {
        let precisions = precisions_of(engines.iter().map(|engine| engine as &dyn Engine), spec.element);
        let trial = trial(spec, &precisions);
        let agreeing = engines
            .iter_mut()
            .map(|engine| usize::from(agrees(engine, &trial, spec)));
        agreeing.sum()
    })
}

fn trial(spec: &CaseSpec, precisions: &[Precision]) -> Trial {
    Trial::from_spec(spec, precisions).expect("the generator makes cases that can be built")
}

/// Whether the engine took the case.
fn agrees(engine: &mut dyn Engine, trial: &Trial, spec: &CaseSpec) -> bool {
    let verdict = judge(engine, trial).verdict;
    assert!(
        !verdict.is_failure(),
        "{}: {}\n\n{spec}",
        engine.name(),
        verdict_text(&verdict)
    );
    !matches!(verdict, Verdict::Skip(_))
}

/// Special values in every place, and the value profiles of extreme magnitudes and of sums that cancel.
fn extreme_values() -> Vec<Profile> {
    let special = Special::all().into_iter().map(Profile::Special);
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
        let selection = Selection::small().with_profiles(extreme_values());
        ValuesCase(CaseSpec::from_bytes(bytes, &selection))
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
