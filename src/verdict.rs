//! What a comparison says.

use crate::engine::Fault;
use crate::tensor::ElementType;

/// A stage of the function that can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The assignments sorted by expert.
    SortedIndices,
    /// Inclusive cumulative counts.
    Bins,
    /// The weight of each assignment.
    SelectedWeights,
    /// Kept tokens by expert.
    Gathered,
    /// First product and bias.
    GateUp,
    /// After the clamped SwiGLU.
    Activated,
    /// Second product and bias.
    ExpertOutput,
    /// The result.
    Output,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::SortedIndices => "sorted_indices",
            Stage::Bins => "bins",
            Stage::SelectedWeights => "selected_weights",
            Stage::Gathered => "gathered",
            Stage::GateUp => "gate_up",
            Stage::Activated => "activated",
            Stage::ExpertOutput => "expert_output",
            Stage::Output => "output",
        })
    }
}

/// The result of comparing one engine with the oracles on one case.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Everything that was shown is right.
    Agree {
        /// The largest share of a bound that was used, 0 to 1.
        used: f64,
        /// Number of output elements whose value some order of summation leaves open.
        undecided: usize,
    },
    /// Something is wrong.
    Disagree(Box<Mismatch>),
    /// There is no result to compare.
    Fault(Fault),
    /// The case was not run.
    Skip(SkipReason),
}

impl Verdict {
    /// Whether the engine failed.
    pub fn is_failure(&self) -> bool {
        matches!(self, Verdict::Disagree(_) | Verdict::Fault(_))
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Verdict::Agree { .. } => "agree",
            Verdict::Disagree(mismatch) => mismatch.kind(),
            Verdict::Fault(fault) => fault.kind(),
            Verdict::Skip(_) => "skip",
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
    /// The engine gave no answer to ten cases in a row.
    GivenUp,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SkipReason::ElementType(element) => write!(f, "the engine does not take {element}"),
            SkipReason::Order => f.write_str("the engine does not take an explicit order"),
            SkipReason::GivenUp => f.write_str("given up: no answer to ten cases in a row"),
        }
    }
}

/// Where a value stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Location {
    /// Position in the sorted order, for the integer stages.
    pub position: Option<usize>,
    /// Token.
    pub token: Option<usize>,
    /// Slot of the token.
    pub slot: Option<usize>,
    /// Expert.
    pub expert: Option<usize>,
    /// Column of the stage's tensor.
    pub column: Option<usize>,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            ("position", self.position),
            ("token", self.token),
            ("slot", self.slot),
            ("expert", self.expert),
            ("column", self.column),
        ];
        let named: Vec<String> = parts
            .iter()
            .filter_map(|(name, value)| value.map(|value| format!("{name} {value}")))
            .collect();
        f.write_str(&named.join(", "))
    }
}

/// What is wrong.
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
    /// The output has another element type.
    Type {
        /// The case's element type.
        expected: String,
        /// The type found.
        found: String,
    },
    /// Values of a stage are wrong.
    Values {
        /// The first stage with wrong values.
        stage: Stage,
        /// Where the first of them stands.
        at: Location,
        /// Its value.
        found: f64,
        /// The right value.
        expected: f64,
        /// How far a right result can lie from it; 0 where it must be met exactly.
        bound: f64,
        /// Number of wrong values.
        wrong: usize,
        /// Number of rows that hold them.
        rows: usize,
        /// Number of values compared.
        total: usize,
        /// The largest error in units of its bound; infinite where a value had to be met exactly.
        worst: f64,
    },
    /// An engine that claims to be repeatable gave other bits for the same case.
    NotRepeated {
        /// Where they first differ.
        at: Location,
        /// The first value.
        first: f64,
        /// The second value.
        second: f64,
        /// Number of values that differ.
        wrong: usize,
    },
}

impl Mismatch {
    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Mismatch::Shape { .. } => "wrong-shape",
            Mismatch::Type { .. } => "wrong-type",
            Mismatch::Values { .. } => "disagree",
            Mismatch::NotRepeated { .. } => "not-repeated",
        }
    }

    /// The stage that is wrong.
    pub fn stage(&self) -> Stage {
        match self {
            Mismatch::Shape { stage, .. } | Mismatch::Values { stage, .. } => *stage,
            Mismatch::Type { .. } | Mismatch::NotRepeated { .. } => Stage::Output,
        }
    }
}

impl std::fmt::Display for Mismatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Shape { stage, expected, found } => {
                write!(f, "{stage}: expected shape {expected:?}, found {found:?}")
            }
            Mismatch::Type { expected, found } => write!(f, "output: expected element type {expected}, found {found}"),
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
            } => {
                writeln!(f, "{stage}: {wrong} of {total} values wrong, in {rows} rows")?;
                writeln!(f, "  first at  {at}")?;
                writeln!(f, "  found     {}", value(*stage, *found))?;
                writeln!(f, "  expected  {}", value(*stage, *expected))?;
                if *bound == 0.0 {
                    return write!(f, "  bound     0: to be met exactly");
                }
                let error = (found - expected).abs();
                writeln!(f, "  bound     ±{bound:.3e}")?;
                write!(
                    f,
                    "  error     {error:.3e}, {} the bound; the worst {}",
                    times(error / bound),
                    times(*worst)
                )
            }
            Mismatch::NotRepeated {
                at,
                first,
                second,
                wrong,
            } => {
                writeln!(f, "output: {wrong} values differ between two runs of the same case")?;
                writeln!(f, "  first at  {at}")?;
                writeln!(f, "  first     {}", number(*first))?;
                write!(f, "  second    {}", number(*second))
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

/// The fewest digits that tell a value from others of f32, where it is one, or of f64.
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
