//! The value of each cell of a case's tensors.

use binned_experts_reference::ProjectionLayout;

use super::blocks::Blocks;
use super::numbers::Stream;
use super::values::{Values, values};
use crate::case::{CaseSpec, MAX_SIZE};

/// The number, among all experts, of the one that the shared experts are as. No case has so many others. It is even and
/// a multiple of 3, by which profiles tell experts apart.
const SHARED: usize = MAX_SIZE + 2;

/// The hidden states, projections and biases of a case, by cell.
pub(super) struct Cells {
    drawn: Drawn,
    /// The number of the first expert.
    first: usize,
    /// Of the first and the second projection; none where their values are as drawn.
    blocks: Option<[Blocks; 2]>,
}

impl Cells {
    pub(super) fn new(spec: &CaseSpec) -> Cells {
        let drawn = Drawn::new(spec);
        Cells {
            blocks: match spec.layer.projections {
                ProjectionLayout::InOut | ProjectionLayout::OutIn => None,
                ProjectionLayout::Mxfp4 => Some(drawn.blocks(spec)),
            },
            drawn,
            first: 0,
        }
    }

    /// Those of the shared experts, as one; none where the case has none.
    pub(super) fn of_shared(spec: &CaseSpec) -> Option<Cells> {
        let wider = CaseSpec {
            intermediate: spec.shared_intermediate()?,
            ..spec.clone()
        };
        Some(Cells {
            first: SHARED,
            ..Cells::new(&wider)
        })
    }

    pub(super) fn hidden(&self, token: usize, h: usize) -> f64 {
        self.drawn.hidden(token, h)
    }

    pub(super) fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        let value = self.drawn.gate_up(self.first + e, h, j);
        let blocks = self.blocks.as_ref();
        blocks.map_or(value, |[blocks, _]| blocks.rounded([e, h, j], value))
    }

    pub(super) fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.drawn.gate_up_bias(self.first + e, j)
    }

    pub(super) fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        let value = self.drawn.down(self.first + e, i, h);
        let blocks = self.blocks.as_ref();
        blocks.map_or(value, |[_, blocks]| blocks.rounded([e, i, h], value))
    }

    pub(super) fn down_bias(&self, e: usize, h: usize) -> f64 {
        self.drawn.values.down_bias(self.first + e, h)
    }
}

/// What the value profile draws.
struct Drawn {
    values: Box<dyn Values>,
    /// Columns of the first projection for each of the intermediate size.
    columns: usize,
    /// The feature that is 1 in every token, and whose weights are the first biases, so that gates are what the biases make
    /// them; none where the layer has biases, or the values need none.
    bias_feature: Option<usize>,
}

impl Drawn {
    fn new(spec: &CaseSpec) -> Drawn {
        let carries = !spec.layer.bias && spec.values.needs_bias();
        Drawn {
            values: values(spec),
            columns: spec.layer.activation.columns(),
            bias_feature: spec.hidden.checked_sub(1).filter(|_| carries),
        }
    }

    /// The blocks that its values are rounded to.
    fn blocks(&self, spec: &CaseSpec) -> [Blocks; 2] {
        let CaseSpec {
            hidden,
            intermediate,
            experts,
            ..
        } = *spec;
        [
            Blocks::new(
                spec,
                [experts, hidden, self.columns * intermediate],
                spec.draw(Stream::GateUpBlock),
                self.bias_feature,
                |e, h, j| self.gate_up(e, h, j),
            ),
            Blocks::new(
                spec,
                [experts, intermediate, hidden],
                spec.draw(Stream::DownBlock),
                None,
                |e, i, h| self.down(e, i, h),
            ),
        ]
    }

    fn hidden(&self, token: usize, h: usize) -> f64 {
        if self.bias_feature == Some(h) {
            1.0
        } else {
            self.values.hidden(token, h)
        }
    }

    fn gate_up(&self, e: usize, h: usize, j: usize) -> f64 {
        if self.bias_feature == Some(h) {
            self.gate_up_bias(e, j)
        } else {
            self.values.gate_up(e, h, self.column(j))
        }
    }

    fn gate_up_bias(&self, e: usize, j: usize) -> f64 {
        self.values.gate_up_bias(e, self.column(j))
    }

    fn down(&self, e: usize, i: usize, h: usize) -> f64 {
        self.values.down(e, i, h)
    }

    /// Profiles draw gates and ups in turn.
    fn column(&self, j: usize) -> usize {
        2 * j / self.columns
    }
}
