//! `sort_tokens_by_expert`: the order of the assignments.

use std::ops::Range;

use ndarray::{ArrayView2, Dim};

use crate::Error;
use crate::memory::try_filled;

/// The assignments sorted by expert.
///
/// An *assignment* is one (token, slot) pair; its flat index is `token · top_k + slot`. One whose expert is not
/// [local](crate::Problem::of_rank) is in no bin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bins {
    sorted_indices: Vec<usize>,
    ends: Vec<usize>,
    assignments: usize,
}

impl Bins {
    /// Flat indices of the assignments in sorted order, `[T·K]`; fewer where some experts are not local.
    pub fn sorted_indices(&self) -> &[usize] {
        &self.sorted_indices
    }

    /// Inclusive cumulative counts, `[E]`: the `bins` of the PyTorch function.
    pub fn ends(&self) -> &[usize] {
        &self.ends
    }

    /// Number of experts.
    pub fn experts(&self) -> usize {
        self.ends.len()
    }

    /// Number of assignments, T·K, to local experts or not.
    pub fn assignments(&self) -> usize {
        self.assignments
    }

    /// Positions of an expert's assignments in the sorted order.
    ///
    /// # Panics
    /// If there is no such expert.
    pub fn range(&self, expert: usize) -> Range<usize> {
        let start = if expert == 0 { 0 } else { self.ends[expert - 1] };
        start..self.ends[expert]
    }

    /// Number of assignments of each expert, `[E]`.
    pub fn tokens_per_expert(&self) -> Vec<usize> {
        (0..self.experts()).map(|expert| self.range(expert).len()).collect()
    }

    /// The assignments of an expert that a capacity keeps: the first `min(n, capacity)` of its range.
    ///
    /// # Panics
    /// If there is no such expert.
    pub fn kept(&self, expert: usize, capacity: usize) -> &[usize] {
        let range = self.range(expert);
        &self.sorted_indices[range.start..range.start + range.len().min(capacity)]
    }

    /// Number of assignments that a capacity drops.
    pub fn dropped(&self, capacity: usize) -> usize {
        (0..self.experts())
            .map(|expert| self.range(expert).len().saturating_sub(capacity))
            .sum()
    }

    /// Bins for an explicit order of the assignments, such as one that a run of `torch.sort` gave.
    ///
    /// # Errors
    /// [`Error::ExpertOutOfRange`], an `Order…` variant if `order` is not a permutation of `0..T·K` sorted by expert, or
    /// [`Error::SizeOverflow`] or [`Error::OutOfMemory`] if the bins of that many experts cannot be had.
    pub fn from_order(router_indices: ArrayView2<i64>, experts: usize, order: Vec<usize>) -> Result<Bins, Error> {
        Bins::from_order_of(&flat_experts(router_indices, experts)?, experts, order)
    }

    /// As [`from_order`](Bins::from_order), with the expert of each assignment; none for one that is not local.
    pub(crate) fn from_order_of(expert_of: &[Option<usize>], experts: usize, order: Vec<usize>) -> Result<Bins, Error> {
        let local = expert_of.iter().flatten().count();
        if order.len() != local {
            return Err(Error::OrderLength {
                expected: local,
                found: order.len(),
            });
        }
        let mut seen = vec![false; expert_of.len()];
        let mut previous = 0;
        for (position, &assignment) in order.iter().enumerate() {
            let Some(&expert) = expert_of.get(assignment) else {
                return Err(Error::OrderOutOfRange {
                    position,
                    found: assignment,
                    assignments: expert_of.len(),
                });
            };
            let expert = expert.ok_or(Error::OrderForeign { position, assignment })?;
            if std::mem::replace(&mut seen[assignment], true) {
                return Err(Error::OrderRepeats { position, assignment });
            }
            if expert < previous {
                return Err(Error::OrderNotSorted {
                    position,
                    expert,
                    previous,
                });
            }
            previous = expert;
        }
        Ok(Bins {
            sorted_indices: order,
            ends: inclusive_counts(expert_of, experts)?,
            assignments: expert_of.len(),
        })
    }

    /// The stable order of the assignments to local experts.
    pub(crate) fn stable(expert_of: &[Option<usize>], experts: usize) -> Result<Bins, Error> {
        let local = |assignment: &usize| expert_of[*assignment].is_some();
        let mut sorted_indices: Vec<usize> = (0..expert_of.len()).filter(local).collect();
        sorted_indices.sort_by_key(|&assignment| expert_of[assignment]);
        Ok(Bins {
            sorted_indices,
            ends: inclusive_counts(expert_of, experts)?,
            assignments: expert_of.len(),
        })
    }
}

/// Sorts the assignments of `router_indices` `[T,K]` by expert; equal experts keep ascending flat index.
///
/// `torch.sort` without `stable=True` leaves the order of equal experts open. With a capacity that order decides
/// which tokens are dropped, so it is fixed here: the sort is stable.
///
/// # Errors
/// [`Error::ExpertOutOfRange`] if an id is outside `0..experts`; [`Error::SizeOverflow`] or [`Error::OutOfMemory`] if
/// the bins of that many experts cannot be had.
///
/// ```
/// use binned_experts_reference::sort_tokens_by_expert;
/// use ndarray::array;
///
/// let bins = sort_tokens_by_expert(array![[2, 0], [2, 1]].view(), 4)?;
/// assert_eq!(bins.sorted_indices(), [1, 3, 0, 2]);
/// assert_eq!(bins.ends(), [1, 2, 4, 4]);
/// # Ok::<(), binned_experts_reference::Error>(())
/// ```
pub fn sort_tokens_by_expert(router_indices: ArrayView2<i64>, experts: usize) -> Result<Bins, Error> {
    Bins::stable(&flat_experts(router_indices, experts)?, experts)
}

/// The expert of each assignment, `[T·K]`.
pub(crate) fn flat_experts(router_indices: ArrayView2<i64>, experts: usize) -> Result<Vec<Option<usize>>, Error> {
    router_indices
        .indexed_iter()
        .map(|((token, slot), &expert)| {
            usize::try_from(expert)
                .ok()
                .filter(|id| *id < experts)
                .map(Some)
                .ok_or(Error::ExpertOutOfRange {
                    token,
                    slot,
                    expert,
                    experts,
                })
        })
        .collect()
}

fn inclusive_counts(expert_of: &[Option<usize>], experts: usize) -> Result<Vec<usize>, Error> {
    let mut ends = try_filled("bins", Dim([experts]), 0)?.into_raw_vec_and_offset().0;
    for &expert in expert_of.iter().flatten() {
        ends[expert] += 1;
    }
    let mut total = 0;
    for end in &mut ends {
        total += *end;
        *end = total;
    }
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array2, array};

    #[test]
    fn equal_experts_keep_flat_order() {
        let bins = sort_tokens_by_expert(array![[1, 0], [1, 1], [0, 1]].view(), 3).unwrap();
        assert_eq!(bins.sorted_indices(), [1, 4, 0, 2, 3, 5]);
        assert_eq!(bins.ends(), [2, 6, 6]);
        assert_eq!(bins.tokens_per_expert(), [2, 4, 0]);
        assert_eq!(bins.kept(1, 3), [0, 2, 3]);
        assert_eq!(bins.dropped(3), 1);
        assert_eq!(bins.dropped(0), 6);
    }

    #[test]
    fn no_tokens_leave_empty_bins() {
        let bins = sort_tokens_by_expert(Array2::zeros((0, 2)).view(), 3).unwrap();
        assert_eq!(bins.assignments(), 0);
        assert_eq!(bins.ends(), [0, 0, 0]);
    }

    #[test]
    fn ids_outside_the_experts_are_refused() {
        for expert in [-1, i64::MIN, 3, i64::MAX] {
            let error = sort_tokens_by_expert(array![[0, 0], [0, expert]].view(), 3).unwrap_err();
            assert_eq!(
                error,
                Error::ExpertOutOfRange {
                    token: 1,
                    slot: 1,
                    expert,
                    experts: 3
                }
            );
        }
    }

    #[test]
    fn an_explicit_order_must_be_a_sorted_permutation() {
        let ids = array![[1, 0], [1, 1]];
        let from = |order: &[usize]| Bins::from_order(ids.view(), 2, order.to_vec());
        assert_eq!(from(&[1, 3, 2, 0]).unwrap().kept(1, 1), [3]);
        assert_eq!(from(&[1, 3]).unwrap_err(), Error::OrderLength { expected: 4, found: 2 });
        assert_eq!(
            from(&[1, 3, 4, 0]).unwrap_err(),
            Error::OrderOutOfRange {
                position: 2,
                found: 4,
                assignments: 4
            }
        );
        assert_eq!(
            from(&[1, 3, 3, 0]).unwrap_err(),
            Error::OrderRepeats {
                position: 2,
                assignment: 3
            }
        );
        assert_eq!(
            from(&[0, 1, 2, 3]).unwrap_err(),
            Error::OrderNotSorted {
                position: 1,
                expert: 0,
                previous: 1
            }
        );
    }
}
