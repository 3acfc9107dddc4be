//! Knows whether a mixture-of-experts kernel is right.
//!
//! An [`Engine`](engine::Engine) computes the function of OpenAI-style (gpt-oss) binned experts; the steps of that
//! function are the documentation of [`binned_experts_reference`]. A check takes an engine through generated cases and
//! compares everything it shows with two oracles:
//!
//! - [`case`]: a case as printable text, the problem it builds, and the files it is kept in;
//! - [`generate`]: from bytes to a case, for a fuzzer, a property test and a seed number alike;
//! - [`engine`]: what computes the function, a program in any language included;
//! - [`definition`]: the second oracle, the function by its definition in f64;
//! - [`bound`]: how far a right result can lie from it, for each [`precision`] class;
//! - [`compare`], [`verdict`], [`shrink`]: what is wrong, where, and on how small a case;
//! - [`mod@check`], [`report`]: the run over many cases and what it prints;
//! - [`fuzz`]: what the fuzz targets run;
//! - [`zoo`]: known bugs, planted to see whether a check catches them.

pub mod bound;
pub mod case;
pub mod check;
pub mod compare;
pub mod definition;
pub mod engine;
pub mod facts;
pub mod fuzz;
pub mod generate;
pub mod judge;
pub mod precision;
pub mod report;
pub mod shrink;
pub mod tensor;
pub mod verdict;
pub mod zoo;

pub use case::{CaseSpec, SpecError};
pub use check::{CheckPlan, Summary, check, check_engine};
pub use generate::Selection;
pub use judge::judge_spec;
pub use precision::Class;
pub use tensor::{AnyProblem, ElementType, Tensor};
pub use verdict::Verdict;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
