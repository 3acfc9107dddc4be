//! The value of each cell of a case's tensors.

use super::values::{Values, values};
use crate::case::CaseSpec;

/// The hidden states, projections and biases of a case, by cell.
pub(super) struct Cells {
    values: Box<dyn Values>,
    /// Columns of the first projection for each of the intermediate size.
    columns: usize,
    /// The feature that is 1 in every token, and whose weights are the first biases, so that gates are what the biases make
    /// them; none where the layer has biases, or the values need none.
    bias_feature: Option<usize>,
}

impl Cells {
    pub(super) fn new(spec: &CaseSpec) -> Cells {
        let carries = !spec.layer.bias && spec.values.needs_bias();
        Cells {
            values: values(spec),
            columns: spec.layer.activation.columns(),
            bias_feature: spec.hidden.checked_sub(1).filter(|_| carries),
        }
    }

    pub(super) fn hidden(&self, token: usize, h: usize) -> f64 {
        if self.bias_feature == Some(h) {
            1.0
        } else {
            self.values.hidden(token, h)
        }
    }

    pub(super) fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        if self.bias_feature == Some(h) {
            self.gate_up_bias(e, j)
        } else {
            self.values.gate_up(e, h, self.column(j))
        }
    }

    pub(super) fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.values.gate_up_bias(e, self.column(j))
    }

    pub(super) fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.values.down(e, i, h)
    }

    pub(super) fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.values.down_bias(e, h)
    }

    /// Profiles draw gates and ups in turn.
    fn column(&self, j: usize) -> usize {
        2 * j / self.columns
    }
}
