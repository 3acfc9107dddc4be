//! What computes the function, and what it returns.

mod command;
mod gpu;
mod reference;
mod serve;

use std::collections::BTreeMap;

use binned_experts_gpu::GpuError;
use binned_experts_reference::Bins;
use ndarray::{Array1, Array2, Array3, Axis};

pub use command::{Command, CommandError};
pub use gpu::GpuEngine;
pub use reference::{DefinitionEngine, Reference};
pub use serve::{serve, tensors};

use crate::case::indices;
use crate::precision::Class;
use crate::tensor::{AnyProblem, ElementType, Tensor};

/// A kernel, or anything else that computes the function.
///
/// ```
/// use binned_experts::engine::{Engine, Fault, Outcome};
/// use binned_experts::{AnyProblem, CheckPlan, Class, ElementType, check_engine};
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
///     fn class(&self, element: ElementType) -> Option<Class> {
///         (element == ElementType::F32).then_some(Class::Fp32)
///     }
///
///     fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
///         let AnyProblem::F32(problem) = problem else { return Err(Fault::refused("f32 only")) };
///         let output = binned_experts_ref(problem).map_err(|error| Fault::refused(error))?.output;
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

    /// The class of arithmetic it claims on cases of an element type; none where it does not take them.
    fn class(&self, element: ElementType) -> Option<Class>;

    /// Whether it claims to give the same bits for the same case.
    fn is_repeatable(&self) -> bool {
        false
    }

    /// As [`forward`](Engine::forward), with the threads in another order where the engine decides one: a second run of
    /// the same case, which must give the same bits where the engine [is repeatable](Engine::is_repeatable).
    ///
    /// # Errors
    /// As [`forward`](Engine::forward).
    fn forward_in_another_order(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.forward(problem)
    }

    /// Whether it takes an explicit order of the assignments in place of the stable sort. A run with an engine that does
    /// not draws its cases without.
    fn takes_order(&self) -> bool {
        false
    }

    /// Computes the function.
    ///
    /// # Errors
    /// [`Fault`] if there is no result.
    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault>;
}

/// What an engine returns: the output, and the stages that it exposes.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// `[B,S,H]`, of the case's element type.
    pub output: Tensor,
    /// What else it shows.
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

/// Intermediate results, each compared where it is shown.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stages {
    /// Flat indices sorted by expert, `[T·K]`.
    pub sorted_indices: Option<Vec<usize>>,
    /// Inclusive cumulative counts, `[E]`.
    pub bins: Option<Vec<usize>>,
    /// The weight of each assignment, `[T·K]`.
    pub selected_weights: Option<Vec<f64>>,
    /// Kept tokens by expert, `[R,H]` where R is the number of kept assignments.
    pub gathered: Option<Array2<f64>>,
    /// First product and bias, `[R,2I]`.
    pub gate_up: Option<Array2<f64>>,
    /// After the activation, `[R,I]`.
    pub activated: Option<Array2<f64>>,
    /// Second product and bias, `[R,H]`.
    pub expert_output: Option<Array2<f64>>,
}

impl Stages {
    /// The stages by name in PyTorch's shapes: rows as `[E,C,width]` with zeros beyond an expert's count, of the
    /// problem's element type. A stage that has more elements in this shape, or does not fit the memory, is left out.
    pub fn padded(&self, problem: &AnyProblem, most_elements: usize) -> BTreeMap<String, Tensor> {
        let (bins, capacity, element) = (problem.bins(), problem.dims().capacity, problem.element());
        let rows = [
            ("gathered", &self.gathered),
            ("gate_up", &self.gate_up),
            ("activated", &self.activated),
            ("expert_output", &self.expert_output),
        ];
        let rows = rows.into_iter().filter_map(|(name, rows)| {
            let padded = padded_rows(rows.as_ref()?, bins, capacity, most_elements)?;
            Some((name, Tensor::from_f64(padded.into_dyn(), element)))
        });
        let weights = self.selected_weights.iter().map(|weights| {
            (
                "selected_weights",
                Tensor::from_f64(Array1::from(weights.clone()).into_dyn(), element),
            )
        });
        let order = self
            .sorted_indices
            .iter()
            .map(|order| ("sorted_indices", indices(order)));
        let ends = self.bins.iter().map(|ends| ("bins", indices(ends)));
        rows.chain(weights)
            .chain(order)
            .chain(ends)
            .map(|(name, tensor)| (name.to_owned(), tensor))
            .collect()
    }
}

/// Why an engine gave no result that can be compared.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// It reported an error.
    #[error("refused: {message}")]
    Refused {
        /// Its message.
        message: String,
    },
    /// It panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
    /// No answer within the time limit.
    #[error("no answer within {seconds} s")]
    TimedOut {
        /// The limit.
        seconds: f64,
    },
    /// The program ended.
    #[error("the program ended without an answer: {status}")]
    Crashed {
        /// Its exit status.
        status: String,
    },
    /// The program printed something other than an answer.
    #[error("expected {{\"ok\": true}} or {{\"error\": …}} on stdout, found {line:?}")]
    Garbage {
        /// The line.
        line: String,
    },
    /// The program answered, but wrote no `output`.
    #[error("output: expected a tensor of this name in the result file, found {found}")]
    MissingOutput {
        /// The names that are there, or that there is no file.
        found: String,
    },
    /// The program's result cannot be read.
    #[error("result file: {message}")]
    Unreadable {
        /// Tensor, what was expected, what was found.
        message: String,
    },
}

impl Fault {
    /// An engine's own error.
    pub fn refused(message: impl std::fmt::Display) -> Fault {
        Fault::Refused {
            message: message.to_string(),
        }
    }

    /// A short name for counts and JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Refused { .. } => "refused",
            Fault::Panicked { .. } => "panicked",
            Fault::TimedOut { .. } => "timed-out",
            Fault::Crashed { .. } => "crashed",
            Fault::Garbage { .. } => "garbage",
            Fault::MissingOutput { .. } => "missing-output",
            Fault::Unreadable { .. } => "unreadable",
        }
    }
}

/// The names of the engines that are built in, and what each is.
pub const BUILT_IN: [(&str, &str); 6] = [
    (
        "reference",
        "binned-experts-reference: plain ndarray, every stage shown",
    ),
    (
        "host",
        "binned-experts-gpu, its kernels run on the CPU by a strict machine",
    ),
    (
        "host-tensor-cores",
        "the same with its kernels for Hopper's tensor cores",
    ),
    ("cuda", "binned-experts-gpu on the first GPU"),
    ("cuda-portable", "the same with the kernels that every GPU runs"),
    (
        "definition",
        "the definition in f64, rounded at the end; the yardstick, so check does not take it",
    ),
];

/// A built-in engine by its name; none for a name that is not in [`BUILT_IN`].
///
/// # Errors
/// [`GpuError::Unavailable`] with what is missing on this machine.
pub fn built_in(name: &str) -> Option<Result<Box<dyn Engine>, GpuError>> {
    Some(match name {
        "reference" => Ok(Box::new(Reference)),
        "host" => GpuEngine::host().map(|engine| Box::new(engine) as Box<dyn Engine>),
        "host-tensor-cores" => GpuEngine::host_tensor_cores().map(|engine| Box::new(engine) as Box<dyn Engine>),
        "cuda-portable" => GpuEngine::cuda_portable().map(|engine| Box::new(engine) as Box<dyn Engine>),
        "cuda" => GpuEngine::cuda().map(|engine| Box::new(engine) as Box<dyn Engine>),
        "definition" => Ok(Box::new(DefinitionEngine)),
        _ => return None,
    })
}

/// Every engine that can be checked and is available here.
pub fn available() -> Vec<Box<dyn Engine>> {
    let checked = BUILT_IN.iter().filter(|(name, _)| *name != "definition");
    checked.filter_map(|(name, _)| built_in(name)?.ok()).collect()
}

/// The kept rows of a tensor in PyTorch's shape `[E,C,width]`, expert after expert.
pub(crate) fn kept_rows(padded: &Array3<f64>, bins: &Bins, capacity: usize) -> Array2<f64> {
    let rows = (0..bins.experts())
        .flat_map(|expert| (0..bins.kept(expert, capacity).len()).map(move |row| (expert, row)))
        .flat_map(|(expert, row)| (0..padded.dim().2).map(move |column| padded[[expert, row, column]]));
    let kept = bins.assignments() - bins.dropped(capacity);
    Array2::from_shape_vec((kept, padded.dim().2), rows.collect()).expect("one row for each kept assignment")
}

/// The inverse of [`kept_rows`], rows beyond an expert's count zero; none where it cannot be had.
fn padded_rows(rows: &Array2<f64>, bins: &Bins, capacity: usize, most_elements: usize) -> Option<Array3<f64>> {
    let width = rows.ncols();
    let elements = bins.experts().checked_mul(capacity)?.checked_mul(width)?;
    if elements > most_elements {
        return None;
    }
    let mut values: Vec<f64> = Vec::new();
    values.try_reserve_exact(elements).ok()?;
    values.resize(elements, 0.0);
    let mut padded = Array3::from_shape_vec((bins.experts(), capacity, width), values).ok()?;
    let kept = (0..bins.experts()).flat_map(|e| (0..bins.kept(e, capacity).len()).map(move |row| (e, row)));
    for ((expert, row), values) in kept.zip(rows.rows()) {
        padded.index_axis_mut(Axis(0), expert).row_mut(row).assign(&values);
    }
    Some(padded)
}
