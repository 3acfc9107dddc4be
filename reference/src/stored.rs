//! Tensors as a layer's files and kernels have them, and back.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, Dim};

use crate::element::is_nan;
use crate::memory::try_filled;
use crate::problem::{expect_shape, local_expert};
use crate::{Element, Error, ExpertWeights, Layer, Problem, ProjectionLayout, RoutingWeightLayout};

/// The experts' weights in the layout of a [`Layer`]; those of the shared experts are as those of one expert. Those
/// that are stored in blocks are here values, from which [`Mxfp4`](crate::Mxfp4) makes blocks.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredWeights<T: Element> {
    /// `[E,H,2I]` or `[E,2I,H]`; I in place of 2I where the activation has no ups.
    pub gate_up_proj: Array3<T>,
    /// `[E,2I]`, or `[E,I]`; none in a layer without biases.
    pub gate_up_proj_bias: Option<Array2<T::Wide>>,
    /// `[E,I,H]` or `[E,H,I]`.
    pub down_proj: Array3<T>,
    /// `[E,H]`; none in a layer without biases.
    pub down_proj_bias: Option<Array2<T::Wide>>,
}

/// What errors call the tensors.
struct Names {
    gate_up_proj: &'static str,
    gate_up_proj_bias: &'static str,
    down_proj: &'static str,
    down_proj_bias: &'static str,
}

const ROUTED: Names = Names {
    gate_up_proj: "gate_up_proj",
    gate_up_proj_bias: "gate_up_proj_bias",
    down_proj: "down_proj",
    down_proj_bias: "down_proj_bias",
};

const SHARED: Names = Names {
    gate_up_proj: "shared_gate_up_proj",
    gate_up_proj_bias: "shared_gate_up_proj_bias",
    down_proj: "shared_down_proj",
    down_proj_bias: "shared_down_proj_bias",
};

impl<T: Element> ExpertWeights<T> {
    /// The weights in the layout of a layer, without those of [shared experts](ExpertWeights::shared).
    pub fn stored(&self, layer: &Layer) -> StoredWeights<T> {
        let columns = layer.gate_up_columns(self.intermediate());
        let projection = |inner: Array3<T>| match layer.projections {
            ProjectionLayout::InOut => inner,
            ProjectionLayout::OutIn | ProjectionLayout::Mxfp4 => transposed(&inner),
        };
        let bias = |bias: Array2<T::Wide>| layer.has_bias.then_some(bias);
        StoredWeights {
            gate_up_proj: projection(self.gate_up_proj().select(Axis(2), &columns)),
            gate_up_proj_bias: bias(self.gate_up_proj_bias().select(Axis(1), &columns)),
            down_proj: projection(self.down_proj().clone()),
            down_proj_bias: bias(self.down_proj_bias().clone()),
        }
    }

    /// Weights in the layout of a layer. Biases are 0 where the layer has none.
    ///
    /// # Errors
    /// [`Error::OddGateUp`] if there are ups and the width of `gate_up_proj` is odd, [`Error::Shape`] if another tensor
    /// does not fit it.
    pub fn from_stored(stored: StoredWeights<T>, layer: &Layer) -> Result<ExpertWeights<T>, Error> {
        let odd = |found| Error::OddGateUp { found };
        ExpertWeights::read(stored, layer, &ROUTED, odd)
    }

    /// With the weights of shared experts in the layout of a layer, as those of one expert.
    ///
    /// # Errors
    /// [`Error::BlockSize`] if there are ups and the width of `shared_gate_up_proj` is odd, [`Error::Shape`] if another
    /// tensor does not fit it, and as [`with_shared`](ExpertWeights::with_shared).
    pub fn with_stored_shared(self, stored: StoredWeights<T>, layer: &Layer) -> Result<ExpertWeights<T>, Error> {
        let odd = |found| Error::BlockSize {
            what: SHARED.gate_up_proj,
            block: 2,
            found,
        };
        self.with_shared(ExpertWeights::read(stored, layer, &SHARED, odd)?)
    }

    fn read(
        stored: StoredWeights<T>,
        layer: &Layer,
        names: &Names,
        odd: impl FnOnce(usize) -> Error,
    ) -> Result<ExpertWeights<T>, Error> {
        let is_in_out = layer.projections == ProjectionLayout::InOut;
        let (experts, first, second) = stored.gate_up_proj.dim();
        let (hidden, width) = if is_in_out { (first, second) } else { (second, first) };
        let per_gate = layer.activation.columns();
        if !width.is_multiple_of(per_gate) {
            return Err(odd(width));
        }
        let intermediate = width / per_gate;
        let down = if is_in_out {
            [experts, intermediate, hidden]
        } else {
            [experts, hidden, intermediate]
        };
        expect_shape(names.down_proj, &down, stored.down_proj.shape())?;
        let bias = |name, found: Option<Array2<T::Wide>>, width: usize| {
            let bias = found.unwrap_or_else(|| Array2::from_elem((experts, width), T::ZERO.widen()));
            expect_shape(name, &[experts, width], bias.shape()).map(|()| bias)
        };
        let gate_up_proj_bias = bias(names.gate_up_proj_bias, stored.gate_up_proj_bias, width)?;
        let down_proj_bias = bias(names.down_proj_bias, stored.down_proj_bias, hidden)?;

        let places = layer.gate_up_places(intermediate);
        let projection = |outer: Array3<T>| if is_in_out { outer } else { transposed(&outer) };
        let gate_up_proj = projection(stored.gate_up_proj).select(Axis(2), &places);
        let gate_up_proj_bias = gate_up_proj_bias.select(Axis(1), &places);
        let down_proj = projection(stored.down_proj);
        if layer.activation.has_up() {
            ExpertWeights::new(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias)
        } else {
            ExpertWeights::without_ups(gate_up_proj, gate_up_proj_bias, down_proj, down_proj_bias)
        }
    }
}

impl<T: Element> Problem<T> {
    /// The experts' weights in the layout of its layer.
    pub fn stored_weights(&self) -> StoredWeights<T> {
        self.weights().stored(self.layer())
    }

    /// The shared experts' weights in the layout of its layer.
    pub fn stored_shared_weights(&self) -> Option<StoredWeights<T>> {
        Some(self.weights().shared()?.stored(self.layer()))
    }

    /// The routing weights in the layout of its layer: `[B,S,E]`, or `[T,K]`, where a slot whose expert is not local has
    /// a weight of 1, which is not to be used.
    pub fn stored_routing_weights(&self) -> ArrayD<T::Wide> {
        let dense = self.routing_weights();
        match self.layer().routing_weights {
            RoutingWeightLayout::ByExpert => dense.clone().into_dyn(),
            RoutingWeightLayout::BySlot => {
                let (top_k, (_, sequence, _)) = (self.dims().top_k, dense.dim());
                let weight = |(token, slot)| match self.expert_of()[token * top_k + slot] {
                    Some(expert) => dense[[token / sequence, token % sequence, expert]],
                    None => T::scalar(1.0),
                };
                Array2::from_shape_fn(self.router_indices().dim(), weight).into_dyn()
            }
        }
    }
}

/// Dense routing weights `[B,S,E]` from a weight `[T,K]` for each slot. What no slot names is 0; the weight of a slot
/// whose expert is not local is not used.
///
/// # Errors
/// [`Error::Shape`] if the weights are not those of the `router_indices` `[T,K]`, or T is not B·S, and
/// [`Error::SlotWeights`] if slots of one token and expert have different ones.
pub fn weights_by_expert<T: Element>(
    slot_weights: ArrayView2<T>,
    router_indices: ArrayView2<i64>,
    (batch, sequence, experts): (usize, usize, usize),
    first_expert: usize,
) -> Result<Array3<T>, Error> {
    expect_shape("routing_weights", router_indices.shape(), slot_weights.shape())?;
    let tokens = router_indices.nrows();
    expect_shape(
        "router_indices",
        &[batch.saturating_mul(sequence), router_indices.ncols()],
        router_indices.shape(),
    )?;
    let mut dense = try_filled("routing_weights", Dim([batch, sequence, experts]), T::ZERO)?;
    let mut slot_of = vec![None; experts];
    for token in 0..tokens {
        slot_of.fill(None);
        let mut batch = dense.index_axis_mut(Axis(0), token / sequence);
        let mut row = batch.row_mut(token % sequence);
        for (slot, (&id, &weight)) in router_indices
            .row(token)
            .iter()
            .zip(slot_weights.row(token))
            .enumerate()
        {
            let Some(expert) = local_expert(id, first_expert, experts) else {
                continue;
            };
            if let Some(first) = slot_of[expert]
                && !is_same(row[expert], weight)
            {
                return Err(Error::SlotWeights { token, slot, first });
            }
            slot_of[expert] = Some(slot);
            row[expert] = weight;
        }
    }
    Ok(dense)
}

/// Whether two weights are equal; any NaN equals any other.
fn is_same<T: Element>(one: T, other: T) -> bool {
    one.widen() == other.widen() || (is_nan(one) && is_nan(other))
}

/// `[E,a,b]` as `[E,b,a]`, in row-major order.
fn transposed<T: Element>(array: &Array3<T>) -> Array3<T> {
    array.view().permuted_axes([0, 2, 1]).as_standard_layout().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActivationKind, GateUpLayout};
    use ndarray::array;

    fn weights() -> ExpertWeights<f32> {
        let numbers = |len: usize| (0..len).map(|at| at as f32).collect::<Vec<_>>();
        ExpertWeights::new(
            Array3::from_shape_vec((2, 3, 4), numbers(24)).unwrap(),
            Array2::from_shape_vec((2, 4), numbers(8)).unwrap(),
            Array3::from_shape_vec((2, 2, 3), numbers(12)).unwrap(),
            Array2::from_shape_vec((2, 3), numbers(6)).unwrap(),
        )
        .unwrap()
    }

    #[test]
    fn columns_and_axes_are_where_the_layer_has_them() {
        let layer = Layer {
            gate_up: GateUpLayout::Concatenated,
            projections: ProjectionLayout::OutIn,
            ..Layer::GPT_OSS
        };
        let stored = weights().stored(&layer);
        assert_eq!(stored.gate_up_proj.dim(), (2, 4, 3));
        assert_eq!(
            stored.gate_up_proj.index_axis(Axis(0), 0).column(0),
            array![0.0, 2.0, 1.0, 3.0]
        );
        assert_eq!(stored.gate_up_proj.index_axis(Axis(0), 0).row(0), array![0.0, 4.0, 8.0]);
        assert_eq!(
            stored.gate_up_proj_bias.as_ref().unwrap().row(0),
            array![0.0, 2.0, 1.0, 3.0]
        );
        assert_eq!(stored.down_proj.index_axis(Axis(0), 1).row(0), array![6.0, 9.0]);
        assert_eq!(ExpertWeights::from_stored(stored, &layer).unwrap(), weights());
        let plain = weights().stored(&Layer::GPT_OSS);
        assert_eq!(plain.gate_up_proj, weights().gate_up_proj());
        assert_eq!(ExpertWeights::from_stored(plain, &Layer::GPT_OSS).unwrap(), weights());
    }

    #[test]
    fn a_tensor_that_does_not_fit_is_named_in_the_layout_of_the_layer() {
        let layer = Layer {
            projections: ProjectionLayout::OutIn,
            ..Layer::GPT_OSS
        };
        let mut stored = weights().stored(&layer);
        stored.down_proj = Array3::zeros((2, 2, 3));
        let error = ExpertWeights::from_stored(stored, &layer).unwrap_err();
        assert_eq!(
            error.to_string(),
            "down_proj: expected shape [2, 3, 2], found [2, 2, 3]"
        );
        let without = Layer {
            activation: ActivationKind::ReluSquared,
            has_bias: false,
            ..Layer::GPT_OSS
        };
        let stored = weights().stored(&Layer::GPT_OSS);
        assert!(ExpertWeights::from_stored(stored, &without).is_err());
    }

    #[test]
    fn a_weight_for_each_slot_is_one_for_its_expert() {
        let ids = array![[5, -1], [6, 6], [9, 5]];
        let slots = array![[0.5f32, 8.0], [2.0, 2.0], [f32::NAN, 3.0]];
        let dense = weights_by_expert(slots.view(), ids.view(), (1, 3, 2), 5).unwrap();
        assert_eq!(dense, array![[[0.5, 0.0], [0.0, 2.0], [3.0, 0.0]]]);
        let different = array![[0.5f32, 8.0], [2.0, 3.0], [0.0, 3.0]];
        let error = weights_by_expert(different.view(), ids.view(), (1, 3, 2), 5).unwrap_err();
        let expected = Error::SlotWeights {
            token: 1,
            slot: 1,
            first: 0,
        };
        assert_eq!(error, expected);
    }
}
