//! The stages of the function: their names, their shapes, and what an engine shows of them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use binned_experts_reference::{Bins, TensorType};
use ndarray::{Array1, Array2, Array3, Axis};

use super::{AnyProblem, ElementType, Tensor, named_enum};

named_enum! {
    /// A stage of the function that can be compared. R is the number of assignments that the capacity keeps.
    pub enum Stage {
        /// Flat indices of the assignments, sorted by expert, `[T·K]`. Those whose expert is not local are left out.
        SortedIndices = "sorted_indices",
        /// Inclusive cumulative counts, `[E]`.
        Bins = "bins",
        /// The weight of each assignment, `[T·K]`; 0 where its expert is not local.
        SelectedWeights = "selected_weights",
        /// Kept tokens by expert, `[R,H]`.
        Gathered = "gathered",
        /// First product and bias, `[R,2I]`, gates and ups in turn; `[R,I]` where the activation has no ups. In files the
        /// columns are in the order of the layer.
        GateUp = "gate_up",
        /// After the activation, `[R,I]`.
        Activated = "activated",
        /// Second product and bias, `[R,H]`.
        ExpertOutput = "expert_output",
        /// The result, `[B,S,H]`.
        Output = "output",
    }
}

/// The meaning of a stage's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Positions, to be met exactly.
    Indices,
    /// One value for each assignment.
    Assignments,
    /// One row for each kept assignment, expert after expert; in files `[E,C,width]`, as PyTorch has them.
    KeptRows,
    /// One row for each token.
    Tokens,
}

impl Stage {
    /// The type of its values in a case.
    pub(crate) fn type_in(self, problem: &AnyProblem) -> ElementType {
        let layer = problem.layer();
        let tensor_type = match self {
            Stage::SelectedWeights => layer.routing_weight_type,
            Stage::Output => layer.output_type,
            _ => TensorType::Element,
        };
        problem.element().of_tensor(tensor_type)
    }

    pub(crate) fn layout(self) -> Layout {
        match self {
            Stage::SortedIndices | Stage::Bins => Layout::Indices,
            Stage::SelectedWeights => Layout::Assignments,
            Stage::Gathered | Stage::GateUp | Stage::Activated | Stage::ExpertOutput => Layout::KeptRows,
            Stage::Output => Layout::Tokens,
        }
    }
}

/// The values of a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum StageValues {
    /// The values of `sorted_indices` and `bins`.
    Indices(Vec<usize>),
    /// The values of any other stage. A stage with one value for each assignment has one column.
    Rows(Array2<f64>),
}

impl From<Vec<usize>> for StageValues {
    fn from(indices: Vec<usize>) -> StageValues {
        StageValues::Indices(indices)
    }
}

impl From<Array2<f64>> for StageValues {
    fn from(rows: Array2<f64>) -> StageValues {
        StageValues::Rows(rows)
    }
}

impl From<Vec<f64>> for StageValues {
    /// One column.
    fn from(values: Vec<f64>) -> StageValues {
        StageValues::Rows(Array1::from(values).insert_axis(Axis(1)))
    }
}

/// Intermediate results, each compared where it is shown.
///
/// ```
/// use binned_experts_check::{Stage, Stages};
///
/// let stages = Stages::default().with(Stage::Bins, vec![2, 3]);
/// assert!(stages.get(Stage::Bins).is_some() && stages.get(Stage::GateUp).is_none());
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stages(BTreeMap<Stage, StageValues>);

impl Stages {
    /// Adds a stage: rows in the shape that [`Stage`] gives, or positions.
    #[must_use]
    pub fn with(mut self, stage: Stage, values: impl Into<StageValues>) -> Stages {
        self.0.insert(stage, values.into());
        self
    }

    /// The values of a stage, if it is shown.
    pub fn get(&self, stage: Stage) -> Option<&StageValues> {
        self.0.get(&stage)
    }

    /// The values of a stage, to be changed.
    pub fn get_mut(&mut self, stage: Stage) -> Option<&mut StageValues> {
        self.0.get_mut(&stage)
    }

    /// The stages that are shown, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Stage, &StageValues)> {
        self.0.iter().map(|(stage, values)| (*stage, values))
    }

    /// The stages as tensors by name, in PyTorch's shapes and the layer's order of columns, each of a type: kept rows as
    /// `[E,C,width]` with zeros beyond an expert's count. A stage that has more than `most_elements` in this shape, or does
    /// not fit the memory, is left out.
    pub(crate) fn tensors(
        &self,
        problem: &AnyProblem,
        type_of: impl Fn(Stage) -> ElementType,
        most_elements: usize,
    ) -> BTreeMap<String, Tensor> {
        let (bins, capacity) = (problem.bins(), problem.dims().capacity);
        let tensor = |stage: Stage, values: &StageValues| match values {
            StageValues::Indices(positions) => Some(Tensor::indices(positions)),
            StageValues::Rows(rows) => {
                let rows = match stage.layout() {
                    Layout::KeptRows => {
                        padded_rows(&stored(stage, rows, problem), bins, capacity, most_elements)?.into_dyn()
                    }
                    _ => rows.flatten().into_owned().into_dyn(),
                };
                Some(Tensor::from_f64(rows, type_of(stage)))
            }
        };
        self.iter()
            .filter_map(|(stage, values)| Some((stage.to_string(), tensor(stage, values)?)))
            .collect()
    }
}

/// The place of a value.
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
    /// Column of the stage's tensor, as a file has it.
    pub column: Option<usize>,
}

impl Location {
    /// The parts that are known, by name.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, usize)> {
        let parts = [
            ("position", self.position),
            ("token", self.token),
            ("slot", self.slot),
            ("expert", self.expert),
            ("column", self.column),
        ];
        parts.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<String> = self.parts().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&named.join(", "))
    }
}

/// The kept rows of a tensor in PyTorch's shape `[E,C,width]`, expert after expert.
pub(crate) fn kept_rows(padded: &Array3<f64>, bins: &Bins, capacity: usize) -> Array2<f64> {
    let kept = bins.sorted_indices().len() - bins.dropped(capacity);
    let mut rows = Array2::zeros((kept, padded.dim().2));
    for ((expert, row), mut values) in kept_places(bins, capacity).zip(rows.rows_mut()) {
        values.assign(&padded.index_axis(Axis(0), expert).row(row));
    }
    rows
}

/// The kept rows of a stage from those of a file, whose columns are in the order of the problem's layer.
pub(crate) fn from_stored(stage: Stage, rows: Array2<f64>, problem: &AnyProblem) -> Array2<f64> {
    let places = problem.layer().gate_up_places(problem.dims().intermediate);
    // Rows of another width are told as such.
    if stage == Stage::GateUp && places.len() == rows.ncols() {
        rows.select(Axis(1), &places)
    } else {
        rows
    }
}

/// The inverse of [`from_stored`].
fn stored<'a>(stage: Stage, rows: &'a Array2<f64>, problem: &AnyProblem) -> Cow<'a, Array2<f64>> {
    let columns = problem.layer().gate_up_columns(problem.dims().intermediate);
    if stage == Stage::GateUp && columns.len() == rows.ncols() {
        Cow::Owned(rows.select(Axis(1), &columns))
    } else {
        Cow::Borrowed(rows)
    }
}

/// The inverse of [`kept_rows`], with zero rows beyond an expert's count; none if it is too large.
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
    for ((expert, row), values) in kept_places(bins, capacity).zip(rows.rows()) {
        padded.index_axis_mut(Axis(0), expert).row_mut(row).assign(&values);
    }
    Some(padded)
}

/// Expert and row of each kept assignment, expert after expert.
fn kept_places(bins: &Bins, capacity: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..bins.experts()).flat_map(move |expert| (0..bins.kept(expert, capacity).len()).map(move |row| (expert, row)))
}
