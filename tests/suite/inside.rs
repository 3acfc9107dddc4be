//! Which planted bugs show inside the domain of a kernel for wide rows without drops. `docs/zoo.md` has the same of the
//! zoo.

use clap::ValueEnum;
use libtest_mimic::{Failed, Trial};

use crate::domains::MULTIPLES;
use crate::planted::{Bug, name_of};
use crate::runner::{check_program, planted};
use crate::trials::trial;

/// Those that show at all show within so many cases, but for the rare ones.
const CASES: &str = "40";
/// What cannot show is given a few, which would contradict that.
const FEW_CASES: &str = "5";

/// How a bug fares inside.
#[derive(Debug, PartialEq, Eq)]
enum Fares {
    Shows,
    /// What shows it is rarer than the cases of a test. In 300 cases it showed, or it needs more.
    Rare,
    /// The field of the domain that leaves out whatever would show it.
    HiddenBy(&'static str),
}

fn fares(bug: Bug) -> Fares {
    match bug {
        Bug::CapacityInOneBranch
        | Bug::CapacityOffByOne
        | Bug::CapacityTimesExperts
        | Bug::DroppedTimesZero
        | Bug::HeaviestKept
        | Bug::LastComeKept
        | Bug::OffsetByCapacity
        | Bug::RowsKept
        | Bug::SlotsUnset
        | Bug::StaleSlots
        // The order within an expert decides what is dropped, and nothing else that an output shows.
        | Bug::UnstableSort => Fares::HiddenBy("drops"),
        Bug::DuplicatesOnce | Bug::HistogramShort | Bug::RowListOfTokens => Fares::HiddenBy("duplicates"),
        Bug::ContractionTail | Bug::TailStoreOverhangs => Fares::HiddenBy("hidden and intermediate"),
        Bug::NanSwallowed | Bug::OtherExpertsTimesZero => Fares::HiddenBy("finite"),
        Bug::DividesByTokens => Fares::HiddenBy("tokens"),
        Bug::AlphaHardCoded => Fares::HiddenBy("alpha"),
        Bug::LimitHardCoded => Fares::HiddenBy("limit"),
        Bug::Right => Fares::HiddenBy("nothing: it is no bug"),
        Bug::CombinedInBf16
        | Bug::GridAxis
        | Bug::HistogramRaceNowAndThen
        | Bug::LastBinUnwritten
        | Bug::RowCountWraps
        | Bug::SplitDepthInBf16
        | Bug::StagesTooSmallFor8192
        | Bug::Top14Refused
        | Bug::TwentyTwoOf512 => Fares::Rare,
        _ => Fares::Shows,
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(&[], every_bug_fares_as_it_says).with_ignored_flag(true)]
}

fn every_bug_fares_as_it_says() -> Result<(), Failed> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), MULTIPLES)?;
    let domain = file.path().to_string_lossy().into_owned();
    let mut unexpected = Vec::new();
    for &bug in Bug::value_variants() {
        let (cases, expected) = match fares(bug) {
            Fares::Shows => (CASES, Some(1)),
            Fares::HiddenBy(_) => (FEW_CASES, Some(0)),
            Fares::Rare => continue,
        };
        let precision = match bug {
            Bug::F16Sums => "f16",
            Bug::Bf16Sums | Bug::FewSlotsInBf16 => "bf16",
            _ => "fp32",
        };
        let plan = [
            "--domain",
            &domain,
            "--cases",
            cases,
            "--jobs",
            "2",
            "--fail-fast",
            "--shrink-budget",
            "0",
        ];
        let checked = check_program(&planted(bug), precision, &plan);
        if checked.code != expected {
            let first = checked.first_complaint().map(|case| case["verdict"].clone());
            unexpected.push(format!(
                "{}: expected {:?}, found {first:?} in {} cases",
                name_of(bug),
                fares(bug),
                checked.cases.len()
            ));
        }
    }
    if unexpected.is_empty() {
        Ok(())
    } else {
        Err(unexpected.join("\n").into())
    }
}
