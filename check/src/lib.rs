//! Tests mixture-of-experts kernels.
//!
//! An [`Engine`] computes the function of OpenAI-style (gpt-oss) binned experts; the steps of that function are the
//! documentation of [`binned_experts_reference`]. A check takes an engine through generated cases and compares
//! everything that it shows with an oracle, the function by its definition in f64, within bounds that are derived for
//! every element.
//!
//! - [`case`]: a case, as printable text, as tensors and as a file, and the stages of its results;
//! - [`domain`]: which cases a kernel takes;
//! - [`draw`]: from a case to the problem that it describes;
//! - [`generate`]: from bytes to a case; a fuzzer, a property test and a seed number use the same generator;
//! - [`oracle`]: what is right, how far a right result may be from it, at an element and over a run, and what a case
//!   exercises;
//! - [`engine`]: a kernel, in Rust or as a [`program`](engine::program) in any language;
//! - [`judge`]: the verdict on one case, and the smallest case that still fails;
//! - [`mod@check`], [`report`]: the run over many cases and what it prints;
//! - [`find`]: from a kernel to its domain;
//! - [`workload`]: the calls of a benchmark.

#![forbid(unsafe_code)]

#[macro_use]
pub mod case;

pub mod check;
pub mod domain;
pub mod draw;
pub mod engine;
pub mod find;
pub mod generate;
pub mod judge;
pub mod oracle;
pub mod report;
pub mod workload;

pub use case::stage::{Location, Stage, StageValues, Stages};
pub use case::{AnyProblem, CaseElement, CaseSpec, ElementType, Named, SpecError, Tensor};
pub use check::{CheckPlan, Summary, check, check_engine};
pub use domain::Domain;
pub use engine::{Engine, Fault, MachineError, Outcome, Stop};
pub use generate::Selection;
pub use judge::{Verdict, judge_spec};
pub use oracle::Precision;
