//! The tensors of a case before rounding to their types.

use ndarray::{Array2, Array3};

use super::cells::Cells;
use super::weights::routing_weights;
use crate::case::CaseSpec;

/// All tensors before rounding to their types.
pub(super) struct Tensors {
    pub(super) hidden_states: Array3<f64>,
    pub(super) routing_weights: Array3<f64>,
    pub(super) experts: Projections,
    /// Those of the shared experts, as of one.
    pub(super) shared: Option<Projections>,
}

/// Projections and biases of some experts before rounding.
pub(super) struct Projections {
    pub(super) gate_up_proj: Array3<f64>,
    pub(super) gate_up_proj_bias: Array2<f64>,
    pub(super) down_proj: Array3<f64>,
    pub(super) down_proj_bias: Array2<f64>,
}

impl Tensors {
    pub(super) fn draw(spec: &CaseSpec, router_indices: &Array2<i64>, kept: &[bool]) -> Tensors {
        let CaseSpec {
            batch,
            sequence,
            hidden,
            intermediate,
            experts,
            ..
        } = *spec;
        let cells = Cells::new(spec);
        let columns = spec.layer.activation.columns();
        let of_shared = spec.shared_intermediate().zip(Cells::of_shared(spec));
        Tensors {
            hidden_states: Array3::from_shape_fn((batch, sequence, hidden), |(b, s, h)| {
                cells.hidden(b * sequence + s, h)
            }),
            routing_weights: routing_weights(spec, router_indices, kept),
            experts: Projections::draw(&cells, columns, [experts, hidden, intermediate]),
            shared: of_shared.map(|(inner, cells)| Projections::draw(&cells, columns, [1, hidden, inner])),
        }
    }
}

impl Projections {
    /// `columns` of the first projection for each of the intermediate size; the sizes are E, H and I.
    fn draw(cells: &Cells, columns: usize, [experts, hidden, intermediate]: [usize; 3]) -> Projections {
        let width = columns * intermediate;
        Projections {
            gate_up_proj: Array3::from_shape_fn((experts, hidden, width), |(e, h, j)| cells.gate_up(e, h, j)),
            gate_up_proj_bias: Array2::from_shape_fn((experts, width), |(e, j)| cells.gate_up_bias(e, j)),
            down_proj: Array3::from_shape_fn((experts, intermediate, hidden), |(e, i, h)| cells.down(e, i, h)),
            down_proj_bias: Array2::from_shape_fn((experts, hidden), |(e, h)| cells.down_bias(e, h)),
        }
    }
}
