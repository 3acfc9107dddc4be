//! The inputs, which are checked once.

use std::sync::Arc;

use ndarray::{Array, Array2, Array3, ArrayView1, ArrayView2, ArrayView3, Dimension};

use crate::bins::flat_experts;
use crate::{
    Activation, ActivationKind, Bins, Element, Error, ExpertWeights, Layer, Mxfp4, ProjectionLayout, TensorType, Views,
};

/// The largest size that no tensor holds an element of. Where tokens, hidden and intermediate are 0, for one, tensors
/// without an element can name any number of experts.
const MAX_EMPTY: usize = 1 << 20;

/// The sizes of a problem, in the order used everywhere: T, H, I, E, K, C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dims {
    /// T: batch · sequence.
    pub tokens: usize,
    /// H: width of a token.
    pub hidden: usize,
    /// I: inner width of an expert; `gate_up_proj` is 2·I wide, or I without ups.
    pub intermediate: usize,
    /// E: number of experts.
    pub experts: usize,
    /// K: experts per token.
    pub top_k: usize,
    /// C: rows kept per expert.
    pub capacity: usize,
}

/// The arguments of `binned_experts_ref`, checked to fit one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem<T: Element> {
    hidden_states: Array3<T>,
    router_indices: Array2<i64>,
    routing_weights: Array3<T::Wide>,
    weights: Arc<ExpertWeights<T>>,
    /// The local expert of each assignment.
    expert_of: Vec<Option<usize>>,
    first_expert: Option<usize>,
    bins: Bins,
    is_explicit: bool,
    capacity: usize,
    layer: Layer,
    activation: Activation,
    views: Views,
}

impl<T: Element> Problem<T> {
    /// Takes `hidden_states` `[B,S,H]`, `router_indices` `[B·S,K]`, the dense `routing_weights` `[B,S,E]`, the experts'
    /// weights and the capacity C. The layer is [`Layer::GPT_OSS`], with relu² where the weights have no ups, with the
    /// shared experts of the weights, and with wide routing weights and biases where a value is not one of the element
    /// type; alpha and limit are [`Activation::GPT_OSS`], and equal experts keep ascending flat index, unless set
    /// otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::ZeroTopK`], [`Error::ExpertOutOfRange`], [`Error::TooLarge`] if a size beyond 2^20 has
    /// no element in any tensor, or [`Error::SizeOverflow`] if an intermediate result would not fit the address space.
    pub fn new(
        hidden_states: Array3<T>,
        router_indices: Array2<i64>,
        routing_weights: Array3<T::Wide>,
        weights: impl Into<Arc<ExpertWeights<T>>>,
        capacity: usize,
    ) -> Result<Problem<T>, Error> {
        let weights = weights.into();
        let expert_of = |ids: ArrayView2<i64>, experts| flat_experts(ids, experts);
        Problem::build(
            hidden_states,
            router_indices,
            routing_weights,
            weights,
            capacity,
            expert_of,
        )
    }

    /// The part that one rank of an expert-parallel program computes: the E experts from the id `first_expert` on are
    /// local, and `routing_weights` `[B,S,E]` and the experts' weights are theirs. A slot with any other id, -1 for one,
    /// adds nothing.
    ///
    /// # Errors
    /// The errors of [`new`](Problem::new) but for ids, of which every one is taken.
    pub fn of_rank(
        hidden_states: Array3<T>,
        router_indices: Array2<i64>,
        routing_weights: Array3<T::Wide>,
        weights: impl Into<Arc<ExpertWeights<T>>>,
        capacity: usize,
        first_expert: usize,
    ) -> Result<Problem<T>, Error> {
        let expert_of = |ids: ArrayView2<i64>, experts| {
            let local = |id: &i64| local_expert(*id, first_expert, experts);
            Ok(ids.iter().map(local).collect())
        };
        let weights = weights.into();
        let problem = Problem::build(
            hidden_states,
            router_indices,
            routing_weights,
            weights,
            capacity,
            expert_of,
        )?;
        Ok(Problem {
            first_expert: Some(first_expert),
            ..problem
        })
    }

    fn build(
        hidden_states: Array3<T>,
        router_indices: Array2<i64>,
        routing_weights: Array3<T::Wide>,
        weights: Arc<ExpertWeights<T>>,
        capacity: usize,
        expert_of: impl FnOnce(ArrayView2<i64>, usize) -> Result<Vec<Option<usize>>, Error>,
    ) -> Result<Problem<T>, Error> {
        let (batch, sequence, _) = hidden_states.dim();
        let (hidden, intermediate, experts) = (weights.hidden(), weights.intermediate(), weights.experts());
        expect_shape("hidden_states", &[batch, sequence, hidden], hidden_states.shape())?;
        let tokens = checked_product("tokens", &[batch, sequence])?;
        let top_k = router_indices.ncols();
        expect_shape("router_indices", &[tokens, top_k], router_indices.shape())?;
        expect_shape("routing_weights", &[batch, sequence, experts], routing_weights.shape())?;
        if top_k == 0 {
            return Err(Error::ZeroTopK);
        }
        let sizes = [
            ("hidden", hidden, tokens > 0 || experts > 0),
            ("intermediate", intermediate, experts > 0),
            ("experts", experts, tokens > 0 || hidden > 0 || intermediate > 0),
            ("top_k", top_k, tokens > 0),
        ];
        for (what, found, has_elements) in sizes {
            if !has_elements && found > MAX_EMPTY {
                let limit = MAX_EMPTY;
                return Err(Error::TooLarge { what, limit, found });
            }
        }
        checked_product("gathered", &[tokens, top_k, hidden, size_of::<T>()])?;
        checked_product("gate_up", &[tokens, top_k, intermediate, 2, size_of::<T>()])?;
        let shared = weights.shared().map_or(0, ExpertWeights::intermediate);
        checked_product("gate_up of the shared experts", &[tokens, shared, 2, size_of::<T>()])?;
        let expert_of = expert_of(router_indices.view(), experts)?;
        let activation = if weights.has_ups() {
            ActivationKind::ClampedSwiglu
        } else {
            ActivationKind::ReluSquared
        };
        let type_of = |are_of_element: bool| {
            if are_of_element {
                TensorType::Element
            } else {
                TensorType::Wide
            }
        };
        Ok(Problem {
            layer: Layer {
                activation,
                bias_type: type_of(weights.has_biases_of_element()),
                routing_weight_type: type_of(routing_weights.iter().copied().all(T::holds)),
                shared_experts: weights.shared_experts(),
                ..Layer::GPT_OSS
            },
            hidden_states,
            router_indices,
            routing_weights,
            weights,
            bins: Bins::stable(&expert_of, experts)?,
            expert_of,
            first_expert: None,
            is_explicit: false,
            capacity,
            activation: Activation::GPT_OSS,
            views: Views::new(),
        })
    }

    /// Replaces the kind of layer. The tensors of the problem stay as they are, whatever its layout.
    ///
    /// # Errors
    /// [`Error::Shape`] if the width of `gate_up_proj` is not that of the activation, [`Error::SharedExperts`] if the
    /// weights are not those of its shared experts, [`Error::Bias`] if the layer has no biases and the weights have one
    /// that is not 0, [`Error::NotOfElement`] if it has biases or routing weights of the element type and a value is
    /// none of it, [`Error::Scale`] if its factor is not finite, [`Error::SharedInBlocks`] if it stores projections in
    /// blocks beside shared experts, and the errors of [`Mxfp4::encode`] if blocks cannot hold these.
    pub fn with_layer(self, layer: Layer) -> Result<Problem<T>, Error> {
        let weights = &self.weights;
        let (experts, hidden, _) = weights.gate_up_proj().dim();
        let width = layer.gate_up_width(weights.intermediate());
        expect_shape(
            "gate_up_proj",
            &[experts, hidden, width],
            weights.gate_up_proj().shape(),
        )?;
        expect_shared(&layer, weights)?;
        expect_biases(&layer, weights, ["gate_up_proj_bias", "down_proj_bias"])?;
        if let Some(shared) = weights.shared() {
            expect_biases(&layer, shared, ["shared_gate_up_proj_bias", "shared_down_proj_bias"])?;
        }
        if layer.routing_weight_type == TensorType::Element {
            expect_of_element::<T, _>("routing_weights", &self.routing_weights)?;
        }
        if layer.projections == ProjectionLayout::Mxfp4 {
            Mxfp4::encode("gate_up_proj", transposed(weights.gate_up_proj()))?;
            Mxfp4::encode("down_proj", transposed(weights.down_proj()))?;
        }
        if !layer.scale.is_finite() {
            return Err(Error::Scale {
                found: layer.scale.to_string(),
            });
        }
        Ok(Problem { layer, ..self })
    }

    /// Replaces the experts' weights by others of the same sizes.
    ///
    /// # Errors
    /// [`Error::Shape`] if a size is another, and as [`with_layer`](Problem::with_layer).
    pub fn with_weights(self, weights: impl Into<Arc<ExpertWeights<T>>>) -> Result<Problem<T>, Error> {
        let (own, weights) = (&self.weights, weights.into());
        expect_shape(
            "gate_up_proj",
            own.gate_up_proj().shape(),
            weights.gate_up_proj().shape(),
        )?;
        expect_shape("down_proj", own.down_proj().shape(), weights.down_proj().shape())?;
        let layer = self.layer;
        Problem { weights, ..self }.with_layer(layer)
    }

    /// Replaces alpha and limit.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Problem<T> {
        Problem { activation, ..self }
    }

    /// Replaces the views that its tensors are handed over as. The tensors of the problem stay as they are.
    #[must_use]
    pub fn with_views(self, views: Views) -> Problem<T> {
        Problem { views, ..self }
    }

    /// Replaces the stable sort by an explicit order of the assignments.
    ///
    /// # Errors
    /// An `Order…` variant if `order` is not a permutation of the assignments to local experts sorted by expert.
    pub fn with_order(self, order: Vec<usize>) -> Result<Problem<T>, Error> {
        let experts = self.weights.experts();
        let bins = Bins::from_order_of(&self.expert_of, experts, order)?;
        let is_explicit = bins != Bins::stable(&self.expert_of, experts)?;
        Ok(Problem {
            bins,
            is_explicit,
            ..self
        })
    }

    /// The sizes.
    pub fn dims(&self) -> Dims {
        let (batch, sequence, hidden) = self.hidden_states.dim();
        Dims {
            tokens: batch * sequence,
            hidden,
            intermediate: self.weights.intermediate(),
            experts: self.weights.experts(),
            top_k: self.router_indices.ncols(),
            capacity: self.capacity,
        }
    }

    /// `[B,S,H]`.
    pub fn hidden_states(&self) -> &Array3<T> {
        &self.hidden_states
    }

    /// `[B·S,K]`.
    pub fn router_indices(&self) -> ArrayView2<'_, i64> {
        self.router_indices.view()
    }

    /// The local expert of each assignment, `[T·K]`; none for an id of an expert that is not local.
    pub fn expert_of(&self) -> &[Option<usize>] {
        &self.expert_of
    }

    /// The id of the first local expert, of a problem [of one rank](Problem::of_rank); none where every id is local.
    pub fn first_expert(&self) -> Option<usize> {
        self.first_expert
    }

    /// Dense, `[B,S,E]`, of the type that operations compute in, which holds the values of the element type too.
    pub fn routing_weights(&self) -> &Array3<T::Wide> {
        &self.routing_weights
    }

    /// The experts' weights.
    pub fn weights(&self) -> &Arc<ExpertWeights<T>> {
        &self.weights
    }

    /// The assignments in the order that decides which of them are dropped.
    pub fn bins(&self) -> &Bins {
        &self.bins
    }

    /// The order passed to [`with_order`](Problem::with_order); none for the stable order.
    pub fn explicit_order(&self) -> Option<&[usize]> {
        self.is_explicit.then(|| self.bins.sorted_indices())
    }

    /// C, as passed.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The kind of layer.
    pub fn layer(&self) -> &Layer {
        &self.layer
    }

    /// The views that its tensors are handed over as.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// alpha and limit.
    pub fn activation(&self) -> Activation {
        self.activation
    }
}

/// The capacity that the PyTorch benchmark passes: `(T · K · 2) / E`, rounded down. It can be 0; then every assignment
/// is dropped.
///
/// # Errors
/// [`Error::NoExperts`] if E = 0, [`Error::SizeOverflow`] if T · K · 2 overflows.
///
/// ```
/// use binned_experts_reference::expert_capacity;
///
/// assert_eq!(expert_capacity(512, 4, 2)?, 512);
/// assert_eq!(expert_capacity(1, 16, 2)?, 0);
/// # Ok::<(), binned_experts_reference::Error>(())
/// ```
pub fn expert_capacity(tokens: usize, experts: usize, top_k: usize) -> Result<usize, Error> {
    let doubled = checked_product("expert capacity", &[tokens, top_k, 2])?;
    doubled.checked_div(experts).ok_or(Error::NoExperts)
}

pub(crate) fn expect_shape(tensor: &'static str, expected: &[usize], found: &[usize]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape {
        tensor,
        expected: expected.to_vec(),
        found: found.to_vec(),
    })
}

/// Refuses weights of another number of shared experts, and shared experts beside blocks.
fn expect_shared<T: Element>(layer: &Layer, weights: &ExpertWeights<T>) -> Result<(), Error> {
    let expected = layer.shared_experts;
    let inner = weights.shared().map_or(0, ExpertWeights::intermediate);
    let is_there = weights.shared().is_some() == (expected > 0);
    if !is_there || weights.intermediate().checked_mul(expected) != Some(inner) {
        let found = weights.shared_experts();
        return Err(Error::SharedExperts { expected, found });
    }
    if expected > 0 && layer.projections == ProjectionLayout::Mxfp4 {
        return Err(Error::SharedInBlocks { found: expected });
    }
    Ok(())
}

/// Refuses biases that a layer does not have.
fn expect_biases<T: Element>(
    layer: &Layer,
    weights: &ExpertWeights<T>,
    [gate_up, down]: [&'static str; 2],
) -> Result<(), Error> {
    if !layer.has_bias {
        expect_zeros(gate_up, weights.gate_up_proj_bias())?;
        expect_zeros(down, weights.down_proj_bias())?;
    }
    if layer.bias_type == TensorType::Element {
        expect_of_element::<T, _>(gate_up, weights.gate_up_proj_bias())?;
        expect_of_element::<T, _>(down, weights.down_proj_bias())?;
    }
    Ok(())
}

/// Refuses a bias that is not 0.
fn expect_zeros<T: Element>(tensor: &'static str, biases: &Array2<T>) -> Result<(), Error> {
    let is_zero = |row: ArrayView1<T>| row.iter().all(|bias| *bias == T::ZERO);
    match biases.rows().into_iter().position(|row| !is_zero(row)) {
        None => Ok(()),
        Some(expert) => Err(Error::Bias { tensor, expert }),
    }
}

/// Refuses a value that the element type does not have.
fn expect_of_element<T: Element, D: Dimension>(tensor: &'static str, values: &Array<T::Wide, D>) -> Result<(), Error> {
    match values.iter().find(|value| !T::holds(**value)) {
        None => Ok(()),
        Some(found) => Err(Error::NotOfElement {
            tensor,
            found: found.to_string(),
        }),
    }
}

/// `[E,in,out]` as `[E,out,in]`.
fn transposed<T>(projection: &Array3<T>) -> ArrayView3<'_, T> {
    projection.view().permuted_axes([0, 2, 1])
}

/// The place of an id among the experts that are local.
pub(crate) fn local_expert(id: i64, first_expert: usize, experts: usize) -> Option<usize> {
    let local = usize::try_from(id).ok()?.checked_sub(first_expert)?;
    (local < experts).then_some(local)
}

/// The product of sizes, if it fits the address space.
fn checked_product(what: &'static str, sizes: &[usize]) -> Result<usize, Error> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|product| isize::try_from(*product).is_ok())
        .ok_or_else(|| Error::SizeOverflow {
            what,
            sizes: sizes.to_vec(),
        })
}
