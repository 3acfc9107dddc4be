//! Tests mixture-of-experts kernels.
//!
//! An [`Engine`] computes the function of OpenAI-style (gpt-oss) binned experts; the steps of that function are the
//! documentation of [`binned_experts_reference`]. A check takes an engine through generated cases and compares
//! everything that it shows with an oracle, the function by its definition in f64, within bounds that are derived for
//! every element.
//!
//! - [`case`]: a case as printable text;
//! - [`draw`]: the problem that a case stands for;
//! - [`generate`]: from bytes to a case, for a fuzzer, a property test and a seed number alike;
//! - [`oracle`]: what is right, how far a right result can lie from it, and what a case exercises;
//! - [`engine`], [`program`]: what computes the function, in Rust or as a program in any language;
//! - [`judge`]: what is wrong, where, and on how small a case;
//! - [`mod@check`], [`report`]: the run over many cases and what it prints.

pub mod case;
pub mod check;
pub mod draw;
pub mod engine;
pub mod generate;
pub mod judge;
mod named;
pub mod oracle;
pub mod program;
pub mod report;
mod stage;
mod stop;
mod tensor;
mod text;

pub use case::{CaseSpec, SpecError};
pub use check::{CheckPlan, Summary, check, check_engine};
pub use engine::{Engine, Fault, MachineError, Outcome};
pub use generate::Selection;
pub use judge::{Verdict, judge_spec};
pub use named::Named;
pub use oracle::Precision;
pub use stage::{Location, Stage, StageValues, Stages};
pub use stop::Stop;
pub use tensor::{AnyProblem, CaseElement, ElementType, Tensor};
