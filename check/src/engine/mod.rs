//! Engines, in Rust or as programs, and the outcome that they return.

mod claiming;
mod fault;
mod machine;
pub mod program;
mod reference;
mod rule;
mod stop;
pub(crate) mod text;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use claiming::Claiming;
pub use fault::{Fault, WarmupCall};
pub use machine::MachineError;
pub use reference::{DefinitionEngine, Reference};
pub use rule::Rule;
pub use stop::Stop;

use crate::case::stage::Stages;
use crate::case::{AnyProblem, ElementType, Tensor};
use crate::domain::Domain;
use crate::oracle::Precision;

/// A kernel, or anything else that computes the function.
///
/// ```
/// use binned_experts_check::{AnyProblem, CheckPlan, Domain, Engine, Fault, Outcome, Precision, check_engine};
/// use binned_experts_reference::binned_experts_ref;
///
/// /// Stands for a kernel in f32.
/// struct MyKernel;
///
/// impl Engine for MyKernel {
///     fn name(&self) -> &str {
///         "my-kernel"
///     }
///
///     fn domain(&self) -> Domain {
///         Domain::of(Precision::FP32)
///     }
///
///     fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
///         let AnyProblem::F32(problem) = problem else { return Err(Fault::refused("f32 only")) };
///         let output = binned_experts_ref(problem).map_err(Fault::refused)?.output;
///         Ok(Outcome::output(output))
///     }
/// }
///
/// let summary = check_engine(&mut MyKernel, &CheckPlan { cases: 20, ..CheckPlan::default() });
/// summary.assert_agrees();
/// ```
pub trait Engine {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// The cases that it takes, and what it claims of its results.
    fn domain(&self) -> Domain;

    /// The precision that it claims on cases of an element type; none if it does not take that type. An engine that takes
    /// another element type than that of its precision says so here; its domain then names no precision.
    fn precision(&self, element: ElementType) -> Option<Precision> {
        self.domain().precision_on(element)
    }

    /// Runs a case a second time, in another order of threads if the engine can choose one. If the engine
    /// [is deterministic](Domain::deterministic), the bits must be those of [`forward`](Engine::forward).
    ///
    /// # Errors
    /// The errors of [`forward`](Engine::forward).
    fn rerun(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.forward(problem)
    }

    /// Computes the function.
    ///
    /// # Errors
    /// [`Fault`] if there is no result.
    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault>;
}

/// The output of an engine, and the stages that it shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `[B,S,H]`, of the case's element type, or of the [wide](binned_experts_reference::TensorType) one where the layer says so.
    pub output: Tensor,
    /// Stages that it shows besides.
    pub stages: Stages,
}

impl Outcome {
    /// An output without stages.
    pub fn output(output: impl Into<Tensor>) -> Outcome {
        Outcome {
            output: output.into(),
            stages: Stages::default(),
        }
    }
}

/// Calls an engine; a panic is a fault.
///
/// # Errors
/// The engine's [`Fault`].
pub fn forward(engine: &mut dyn Engine, problem: &AnyProblem) -> Result<Outcome, Fault> {
    caught(|| engine.forward(problem))
}

/// A result, or the fault of a panic.
pub(crate) fn caught<R>(run: impl FnOnce() -> Result<R, Fault>) -> Result<R, Fault> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(Fault::Panicked {
            message: message.unwrap_or_else(|| "no message".to_owned()),
        })
    })
}

/// The precisions that engines claim on an element type, each once.
pub fn precisions_of<'a>(engines: impl IntoIterator<Item = &'a dyn Engine>, element: ElementType) -> Vec<Precision> {
    let claimed = engines.into_iter().filter_map(|engine| engine.precision(element));
    let mut precisions: Vec<Precision> = claimed.collect();
    precisions.sort_unstable();
    precisions.dedup();
    precisions
}
