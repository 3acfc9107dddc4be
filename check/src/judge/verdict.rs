//! The verdict on an engine's outcome.

use crate::case::stage::{Location, Stage, StageValues};
use crate::case::{ElementType, Named, named_enum};
use crate::engine::text::{clean, without_numbers};
use crate::engine::{Fault, MachineError, WarmupCall};
use crate::oracle::Precision;

/// The most of what verdicts have in common, in characters.
const MAX_LIKENESS: usize = 160;

/// The result of comparing one engine with the oracle on one case.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Everything that was shown is right.
    Agree {
        /// The largest share of a bound that was used, 0 to 1.
        used: f64,
        /// Number of output elements whose value depends on the order of summation, near overflow.
        undecided: usize,
    },
    /// Something is wrong.
    Disagree(Box<Mismatch>),
    /// There is no result to compare.
    Fault(Fault),
    /// The engine does not take the case, with its reason.
    Declined(String),
    /// The case was not run.
    Skip(SkipReason),
    /// The machine that runs the check failed. Nothing is said about the engine.
    NotJudged(MachineError),
}

impl Verdict {
    /// What a fault says of the engine.
    pub(super) fn of_fault(fault: Fault) -> Verdict {
        match fault {
            Fault::Machine(error) => Verdict::NotJudged(error),
            Fault::Declined { reason } => Verdict::Declined(reason),
            fault => Verdict::Fault(fault),
        }
    }

    /// Whether the engine failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Verdict::Disagree(_) | Verdict::Fault(_))
    }

    /// Whether the engine gave no answer at all.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Verdict::Fault(fault) if fault.is_silence())
    }

    /// Whether a time limit passed without an answer.
    pub(crate) fn is_time_out(&self) -> bool {
        matches!(self, Verdict::Fault(fault) if fault.is_time_out())
    }

    /// What verdicts that look alike have in common: the stage and what is wrong with it, or the first line of a fault
    /// without its numbers.
    pub fn likeness(&self) -> String {
        match self {
            Verdict::Disagree(mismatch) => mismatch.likeness(),
            // A call that fails by itself is the same failure.
            Verdict::Fault(Fault::InWarmup { fault, .. }) => Verdict::Fault((**fault).clone()).likeness(),
            Verdict::Fault(fault) => {
                let text = fault.to_string();
                let line = clean(text.lines().next().unwrap_or_default(), MAX_LIKENESS);
                match fault {
                    Fault::Crashed { .. } | Fault::NotReady { .. } | Fault::TimedOut { .. } => line,
                    _ => without_numbers(&line),
                }
            }
            Verdict::Agree { .. } | Verdict::Declined(_) | Verdict::Skip(_) | Verdict::NotJudged(_) => {
                self.kind().to_owned()
            }
        }
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Verdict::Agree { .. } => "agree",
            Verdict::Disagree(mismatch) => mismatch.kind(),
            Verdict::Fault(fault) => fault.kind(),
            Verdict::Declined(_) => "declined",
            Verdict::Skip(_) => "skip",
            Verdict::NotJudged(_) => "not-judged",
        }
    }
}

/// Why a case was not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// The engine does not take the case's element type.
    ElementType(ElementType),
    /// The case has an explicit order, which the engine does not take.
    Order,
    /// The case is outside the engine's domain, by this field of it.
    Outside(&'static str),
    /// The engine gave no answer to ten cases in a row.
    GivenUp,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SkipReason::ElementType(element) => write!(f, "the engine does not take {element}"),
            SkipReason::Order => f.write_str("the engine does not take an explicit order"),
            SkipReason::Outside(field) => write!(f, "outside the engine's domain: {field}"),
            SkipReason::GivenUp => f.write_str("given up: no answer to ten cases in a row"),
        }
    }
}

/// The first thing that is wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum Mismatch {
    /// A stage has another shape.
    Shape {
        /// The stage.
        stage: Stage,
        /// Shape that fits.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A stage has another element type.
    Type {
        /// The stage.
        stage: Stage,
        /// The type that fits.
        expected: String,
        /// The type found.
        found: String,
    },
    /// Values of a stage are wrong.
    Values {
        /// The first stage with wrong values.
        stage: Stage,
        /// The place of the first of them.
        at: Location,
        /// Its value.
        found: f64,
        /// The right value.
        expected: f64,
        /// How far a right result may be from it; 0 where it must be met exactly.
        bound: f64,
        /// Number of wrong values.
        wrong: usize,
        /// Number of rows that hold them.
        rows: usize,
        /// Number of values compared.
        total: usize,
        /// The largest error in units of its bound; infinite where a value had to be met exactly.
        worst: f64,
        /// The weaker precisions in whose bounds all that the engine shows lies, the sharpest first.
        within: Vec<Precision>,
    },
    /// A call before the case gave a wrong result.
    InWarmup {
        /// Which call.
        call: WarmupCall,
        /// What is wrong with it.
        mismatch: Box<Mismatch>,
    },
    /// The wrong output is right for an earlier call.
    Kept {
        /// What was kept from it.
        kept: Kept,
        /// The earlier call.
        call: WarmupCall,
        /// What is wrong with it.
        mismatch: Box<Mismatch>,
    },
    /// An engine that claims to be deterministic gave other bits for the same case.
    NotDeterministic {
        /// The first stage that differs.
        stage: Stage,
        /// Where the runs first differ.
        at: Location,
        /// The first value.
        first: f64,
        /// The second value.
        second: f64,
        /// Number of values that differ.
        wrong: usize,
    },
    /// An engine that claims that a token's row has the same bits in any batch gave other bits in another one.
    NotBatchInvariant {
        /// Where the rows first differ.
        at: Location,
        /// The value in the case.
        here: f64,
        /// The place of the token in the other batch.
        place: BatchPlace,
        /// The value there.
        there: f64,
        /// Number of values that differ.
        wrong: usize,
    },
}

named_enum! {
    /// What an engine kept from an earlier call.
    pub enum Kept {
        /// The output.
        Result = "kept-result",
        /// Weights of the experts, all or some.
        Weights = "stale-weights",
    }
}

/// The place of a token in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchPlace {
    /// Its position, from 0.
    pub position: usize,
    /// Number of tokens of the batch.
    pub tokens: usize,
}

impl std::fmt::Display for BatchPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "place {} of a batch of {}", self.position, self.tokens)
    }
}

impl Kept {
    /// What the output is, before the call is named.
    fn text(self) -> &'static str {
        match self {
            Kept::Result => "the result of an earlier call, kept for other inputs",
            Kept::Weights => "computed with the weights of an earlier call",
        }
    }
}

impl Mismatch {
    /// Indices where values are expected, or values where indices are.
    pub(crate) fn kind_of(stage: Stage, found: &StageValues) -> Mismatch {
        let (expected, found) = match found {
            StageValues::Indices(_) => ("values", "indices"),
            StageValues::Rows(_) => ("indices", "values"),
        };
        Mismatch::Type {
            stage,
            expected: expected.to_owned(),
            found: found.to_owned(),
        }
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Mismatch::Shape { .. } => "wrong-shape",
            Mismatch::Type { .. } => "wrong-type",
            Mismatch::Values { .. } => "disagree",
            Mismatch::InWarmup { mismatch, .. } => mismatch.kind(),
            Mismatch::Kept { kept, .. } => kept.name(),
            Mismatch::NotDeterministic { .. } => "not-deterministic",
            Mismatch::NotBatchInvariant { .. } => "not-batch-invariant",
        }
    }

    /// What mismatches that look alike have in common.
    fn likeness(&self) -> String {
        match self {
            Mismatch::Shape { stage, .. } => format!("{stage}: wrong shape"),
            Mismatch::Type { stage, .. } => format!("{stage}: wrong element type"),
            Mismatch::Values { stage, .. } => format!("{stage}: wrong values"),
            // A call that is wrong by itself is the same failure.
            Mismatch::InWarmup { mismatch, .. } => mismatch.likeness(),
            Mismatch::Kept { kept, .. } => format!("output: {}", kept.text()),
            Mismatch::NotDeterministic { stage, .. } => format!("{stage}: not deterministic"),
            Mismatch::NotBatchInvariant { .. } => "output: not batch-invariant".to_owned(),
        }
    }

    /// The weaker precisions that admit what was shown, the sharpest first.
    pub fn within(&self) -> &[Precision] {
        match self {
            Mismatch::Values { within, .. } => within,
            Mismatch::InWarmup { mismatch, .. } | Mismatch::Kept { mismatch, .. } => mismatch.within(),
            _ => &[],
        }
    }

    /// The stage that is wrong.
    pub fn stage(&self) -> Stage {
        match self {
            Mismatch::Shape { stage, .. }
            | Mismatch::Type { stage, .. }
            | Mismatch::Values { stage, .. }
            | Mismatch::NotDeterministic { stage, .. } => *stage,
            Mismatch::InWarmup { mismatch, .. } | Mismatch::Kept { mismatch, .. } => mismatch.stage(),
            Mismatch::NotBatchInvariant { .. } => Stage::Output,
        }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Shape { stage, expected, found } => {
                write!(f, "{stage}: expected shape {expected:?}, found {found:?}")
            }
            Mismatch::Type { stage, expected, found } => {
                write!(f, "{stage}: expected element type {expected}, found {found}")
            }
            Mismatch::Values {
                stage,
                at,
                found,
                expected,
                bound,
                wrong,
                rows,
                total,
                worst,
                within,
            } => {
                writeln!(f, "{stage}: {wrong} of {total} values wrong, in {rows} rows")?;
                writeln!(f, "  first at  {at}")?;
                writeln!(f, "  found     {}", value(*stage, *found))?;
                writeln!(f, "  expected  {}", value(*stage, *expected))?;
                if *bound == 0.0 {
                    write!(f, "  bound     0: to be met exactly")?;
                } else {
                    let error = (found - expected).abs();
                    writeln!(f, "  bound     ±{bound:.3e}")?;
                    write!(
                        f,
                        "  error     {error:.3e}, {} the bound; the worst {}",
                        times(error / bound),
                        times(*worst)
                    )?;
                }
                match within.first() {
                    None => Ok(()),
                    Some(precision) => write!(f, "\n  claim     every value lies within {precision}"),
                }
            }
            Mismatch::InWarmup { call, mismatch } => write!(f, "in {call}: {mismatch}"),
            Mismatch::Kept { kept, call, mismatch } => write!(f, "{}, {call}\n{mismatch}", kept.text()),
            Mismatch::NotDeterministic {
                stage,
                at,
                first,
                second,
                wrong,
            } => {
                writeln!(f, "{stage}: {wrong} values differ between two runs of the same case")?;
                writeln!(f, "  first at  {at}")?;
                writeln!(f, "  first     {}", number(*first))?;
                write!(f, "  second    {}", number(*second))
            }
            Mismatch::NotBatchInvariant {
                at,
                here,
                place,
                there,
                wrong,
            } => {
                writeln!(f, "output: {wrong} values of the same tokens differ in another batch")?;
                writeln!(f, "  first at  {at}")?;
                writeln!(f, "  here      {}", number(*here))?;
                write!(f, "  there     {}, at {place}", number(*there))
            }
        }
    }
}

fn value(stage: Stage, value: f64) -> String {
    match stage {
        Stage::SortedIndices | Stage::Bins => format!("{value}"),
        _ => number(value),
    }
}

/// The fewest digits that identify the value among those of f32 if it is one, else among those of f64.
fn number(value: f64) -> String {
    let narrow = value as f32;
    if f64::from(narrow) == value {
        format!("{narrow:e}")
    } else {
        format!("{value:e}")
    }
}

fn times(ratio: f64) -> String {
    if ratio < 10_000.0 {
        format!("{ratio:.2} ×")
    } else {
        format!("{ratio:.1e} ×")
    }
}
