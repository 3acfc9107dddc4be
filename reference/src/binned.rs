//! `binned_gather` and `binned_scatter`: tokens into expert order and back.

use ndarray::{Array1, Array2, Array3, ArrayView2, ArrayViewMut2, Axis, Dim, Slice};

use crate::memory::try_filled;
use crate::problem::expect_shape;
use crate::{Bins, Element, Error};

/// The kept rows of every expert, expert after expert.
///
/// PyTorch has such a tensor as `[E,C,width]`, with zeros in the rows beyond an expert's count. Nothing reads what the
/// products make of those rows. Here they are left out, so a capacity of any size costs nothing;
/// [`padded`](Binned::padded) gives PyTorch's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Binned<T> {
    rows: Array2<T>,
    ends: Vec<usize>,
}

impl<T: Element> Binned<T> {
    /// The rows of one expert that has all of them.
    pub(crate) fn of_one(rows: Array2<T>) -> Binned<T> {
        let ends = vec![rows.nrows()];
        Binned { rows, ends }
    }

    /// The rows of all experts.
    pub(crate) fn into_rows(self) -> Array2<T> {
        self.rows
    }

    /// All kept rows, `[R,width]`.
    pub fn rows(&self) -> &Array2<T> {
        &self.rows
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.ends.len()
    }

    /// The kept rows of one expert, `[min(n, C), width]`.
    ///
    /// # Panics
    /// If there is no such expert.
    pub fn expert(&self, expert: usize) -> ArrayView2<'_, T> {
        self.rows
            .slice_axis(Axis(0), Slice::from(self.start(expert)..self.ends[expert]))
    }

    /// The rows in PyTorch's shape `[E,C,width]`, with zeros beyond an expert's count.
    ///
    /// # Errors
    /// [`Error::Shape`] if an expert keeps more than `capacity` rows, [`Error::SizeOverflow`] or
    /// [`Error::OutOfMemory`] if the tensor is too large.
    pub fn padded(&self, capacity: usize) -> Result<Array3<T>, Error> {
        let width = self.rows.ncols();
        let mut padded = try_filled("padded", Dim([self.experts(), capacity, width]), T::ZERO)?;
        for (expert, mut target) in padded.axis_iter_mut(Axis(0)).enumerate() {
            let kept = self.expert(expert);
            if kept.nrows() > capacity {
                return Err(Error::Shape {
                    tensor: "padded",
                    expected: vec![kept.nrows(), width],
                    found: vec![capacity, width],
                });
            }
            target
                .slice_axis_mut(Axis(0), Slice::from(..kept.nrows()))
                .assign(&kept);
        }
        Ok(padded)
    }

    /// Zero rows of another width, one for each row of `self`.
    pub(crate) fn zeros_like(&self, what: &'static str, width: usize) -> Result<Binned<T>, Error> {
        let rows = try_filled(what, Dim([self.rows.nrows(), width]), T::ZERO)?;
        Ok(Binned {
            rows,
            ends: self.ends.clone(),
        })
    }

    pub(crate) fn expert_mut(&mut self, expert: usize) -> ArrayViewMut2<'_, T> {
        let start = self.start(expert);
        self.rows.slice_axis_mut(Axis(0), Slice::from(start..self.ends[expert]))
    }

    fn start(&self, expert: usize) -> usize {
        if expert == 0 { 0 } else { self.ends[expert - 1] }
    }
}

/// Row i of expert e is the token of assignment `sorted_indices[start_e + i]`, for i < min(n_e, C).
///
/// `x` is `[T,H]`; `top_k` is K.
///
/// # Errors
/// [`Error::ZeroTopK`]; [`Error::Shape`] if `bins` does not hold K assignments for each row of `x`;
/// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] if the result is too large.
///
/// ```
/// use binned_experts_reference::{binned_gather, sort_tokens_by_expert};
/// use ndarray::array;
///
/// let bins = sort_tokens_by_expert(array![[1], [0], [1]].view(), 2)?;
/// let gathered = binned_gather(array![[10.0f32], [20.0], [30.0]].view(), &bins, 1, 1)?;
/// assert_eq!(gathered.rows(), array![[20.0], [10.0]]); // token 2 is dropped: expert 1 keeps one row
/// # Ok::<(), binned_experts_reference::Error>(())
/// ```
pub fn binned_gather<T: Element>(
    x: ArrayView2<T>,
    bins: &Bins,
    capacity: usize,
    top_k: usize,
) -> Result<Binned<T>, Error> {
    expect_assignments(bins, x.nrows(), top_k)?;
    let ends: Vec<usize> = (0..bins.experts())
        .scan(0, |end, expert| {
            *end += bins.kept(expert, capacity).len();
            Some(*end)
        })
        .collect();
    let kept = ends.last().copied().unwrap_or(0);
    let rows = try_filled("gathered", Dim([kept, x.ncols()]), T::ZERO)?;
    let mut gathered = Binned { rows, ends };
    for expert in 0..bins.experts() {
        let mut target = gathered.expert_mut(expert);
        for (mut row, assignment) in target.rows_mut().into_iter().zip(bins.kept(expert, capacity)) {
            row.assign(&x.row(assignment / top_k));
        }
    }
    Ok(gathered)
}

/// The weight of each assignment, `[T·K]`: `routing_weights` `[T,E]` at the experts of `router_indices` `[T,K]`.
///
/// # Errors
/// [`Error::Shape`] if the rows of the two do not match, [`Error::ExpertOutOfRange`].
pub fn select_weights<T: Element>(
    routing_weights: ArrayView2<T>,
    router_indices: ArrayView2<i64>,
) -> Result<Array1<T>, Error> {
    let (tokens, experts) = routing_weights.dim();
    expect_shape(
        "router_indices",
        &[tokens, router_indices.ncols()],
        router_indices.shape(),
    )?;
    router_indices
        .indexed_iter()
        .map(|((token, slot), &expert)| {
            usize::try_from(expert)
                .ok()
                .and_then(|id| routing_weights.get((token, id)).copied())
                .ok_or(Error::ExpertOutOfRange {
                    token,
                    slot,
                    expert,
                    experts,
                })
        })
        .collect()
}

/// The weight of each assignment, `[T·K]`, at its local expert; 0 where it has none.
pub(crate) fn selected_weights<T: Element>(
    routing_weights: ArrayView2<T>,
    expert_of: &[Option<usize>],
    top_k: usize,
) -> Result<Array1<T>, Error> {
    expect_shape(
        "expert_of",
        &[routing_weights.nrows().saturating_mul(top_k)],
        &[expert_of.len()],
    )?;
    let weight = |(flat, expert): (usize, &Option<usize>)| {
        expert.map_or(T::ZERO, |expert| routing_weights[[flat / top_k, expert]])
    };
    Ok(expert_of.iter().enumerate().map(weight).collect())
}

/// Each kept row times the weight of its assignment.
pub(crate) fn scaled_rows<T: Element>(
    x: &Binned<T>,
    bins: &Bins,
    weights: &Array1<T::Wide>,
    capacity: usize,
) -> Result<Binned<T>, Error> {
    let mut scaled = x.zeros_like("weighted", x.rows.ncols())?;
    for expert in 0..bins.experts() {
        let mut target = scaled.expert_mut(expert);
        let kept = x.expert(expert);
        let rows = target.rows_mut().into_iter().zip(kept.rows());
        for ((mut target, row), &assignment) in rows.zip(bins.kept(expert, capacity)) {
            let weight = weights[assignment];
            target.zip_mut_with(&row, |target, value| *target = T::narrow(value.widen() * weight));
        }
    }
    Ok(scaled)
}

/// out `[T,H]` = the sum over a token's slots, in slot order, of its expert's row · weight; a dropped assignment
/// counts as zero.
///
/// `x` holds the experts' kept rows of width H, `weights` is `[T·K]` by flat index. As in PyTorch a product has the wider of
/// the types of its factors, T or W, to which it is rounded. The sum is rounded once, to the type S.
///
/// # Errors
/// [`Error::ZeroTopK`]; [`Error::Shape`] if `x`, `bins` and `weights` do not fit one another; [`Error::SizeOverflow`]
/// or [`Error::OutOfMemory`] if the result is too large.
pub fn binned_scatter<T: Element, W: Element<Wide = T::Wide>, S: Element<Wide = T::Wide>>(
    x: &Binned<T>,
    bins: &Bins,
    weights: &Array1<W>,
    capacity: usize,
    top_k: usize,
) -> Result<Array2<S>, Error> {
    let tokens = bins.assignments() / top_k.max(1);
    expect_assignments(bins, tokens, top_k)?;
    expect_shape("weights", &[bins.assignments()], weights.shape())?;
    expect_shape("experts", &[bins.experts()], &[x.experts()])?;
    let mut row_of: Vec<Option<usize>> = vec![None; bins.assignments()];
    for expert in 0..bins.experts() {
        let kept = bins.kept(expert, capacity);
        expect_shape("expert rows", &[kept.len(), x.rows.ncols()], x.expert(expert).shape())?;
        for (row, &assignment) in (x.start(expert)..).zip(kept) {
            row_of[assignment] = Some(row);
        }
    }
    let mut out = try_filled("output", Dim([tokens, x.rows.ncols()]), S::ZERO)?;
    let zero = T::ZERO.widen();
    let mut sum = vec![zero; x.rows.ncols()];
    for (token, mut target) in out.rows_mut().into_iter().enumerate() {
        sum.fill(zero);
        for assignment in token * top_k..(token + 1) * top_k {
            let Some(row) = row_of[assignment] else { continue };
            let weight = weights[assignment].widen();
            for (sum, value) in sum.iter_mut().zip(x.rows.row(row)) {
                *sum += W::narrow(value.widen() * weight).widen();
            }
        }
        for (target, &sum) in target.iter_mut().zip(&sum) {
            *target = S::narrow(sum);
        }
    }
    Ok(out)
}

fn expect_assignments(bins: &Bins, tokens: usize, top_k: usize) -> Result<(), Error> {
    if top_k == 0 {
        return Err(Error::ZeroTopK);
    }
    let expected = tokens.checked_mul(top_k).ok_or_else(|| Error::SizeOverflow {
        what: "assignments",
        sizes: vec![tokens, top_k],
    })?;
    expect_shape("sorted_indices", &[expected], &[bins.assignments()])
}
