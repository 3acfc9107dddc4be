//! The inputs, which are checked once.

use std::sync::Arc;

use ndarray::{Array2, Array3, ArrayView2};

use crate::{Bins, Element, Error, sort_tokens_by_expert};

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
    /// I: inner width of an expert; `gate_up_proj` is 2·I wide.
    pub intermediate: usize,
    /// E: number of experts.
    pub experts: usize,
    /// K: experts per token.
    pub top_k: usize,
    /// C: rows kept per expert.
    pub capacity: usize,
}

/// Parameters of the clamped SwiGLU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Activation {
    /// Factor inside the sigmoid.
    pub alpha: f64,
    /// Upper clamp of the gate, and clamp of up on both sides.
    pub limit: f64,
}

impl Activation {
    /// The constants of gpt-oss: alpha 1.702, limit 7.
    pub const GPT_OSS: Activation = Activation {
        alpha: 1.702,
        limit: 7.0,
    };
}

/// The four weight tensors of the experts.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpertWeights<T> {
    gate_up_proj: Array3<T>,
    gate_up_proj_bias: Array2<T>,
    down_proj: Array3<T>,
    down_proj_bias: Array2<T>,
}

impl<T: Element> ExpertWeights<T> {
    /// Takes `gate_up_proj` `[E,H,2I]` (even columns gate, odd columns up), `gate_up_proj_bias` `[E,2I]`, `down_proj`
    /// `[E,I,H]` and `down_proj_bias` `[E,H]`, in any memory layout.
    ///
    /// # Errors
    /// [`Error::OddGateUp`] if the last axis of `gate_up_proj` is odd, [`Error::Shape`] if another tensor does not
    /// fit it.
    pub fn new(
        gate_up_proj: Array3<T>,
        gate_up_proj_bias: Array2<T>,
        down_proj: Array3<T>,
        down_proj_bias: Array2<T>,
    ) -> Result<ExpertWeights<T>, Error> {
        let (experts, hidden, gate_up) = gate_up_proj.dim();
        if !gate_up.is_multiple_of(2) {
            return Err(Error::OddGateUp { found: gate_up });
        }
        expect_shape("gate_up_proj_bias", &[experts, gate_up], gate_up_proj_bias.shape())?;
        expect_shape("down_proj", &[experts, gate_up / 2, hidden], down_proj.shape())?;
        expect_shape("down_proj_bias", &[experts, hidden], down_proj_bias.shape())?;
        Ok(ExpertWeights {
            gate_up_proj,
            gate_up_proj_bias,
            down_proj,
            down_proj_bias,
        })
    }

    /// `[E,H,2I]`; even columns gate, odd columns up.
    pub fn gate_up_proj(&self) -> &Array3<T> {
        &self.gate_up_proj
    }

    /// `[E,2I]`.
    pub fn gate_up_proj_bias(&self) -> &Array2<T> {
        &self.gate_up_proj_bias
    }

    /// `[E,I,H]`.
    pub fn down_proj(&self) -> &Array3<T> {
        &self.down_proj
    }

    /// `[E,H]`.
    pub fn down_proj_bias(&self) -> &Array2<T> {
        &self.down_proj_bias
    }

    /// H.
    pub fn hidden(&self) -> usize {
        self.gate_up_proj.dim().1
    }

    /// I.
    pub fn intermediate(&self) -> usize {
        self.down_proj.dim().1
    }

    /// E.
    pub fn experts(&self) -> usize {
        self.gate_up_proj.dim().0
    }
}

/// The arguments of `binned_experts_ref`, checked to fit one another.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem<T> {
    hidden_states: Array3<T>,
    router_indices: Array2<i64>,
    routing_weights: Array3<T>,
    weights: Arc<ExpertWeights<T>>,
    bins: Bins,
    is_explicit: bool,
    capacity: usize,
    activation: Activation,
}

impl<T: Element> Problem<T> {
    /// Takes `hidden_states` `[B,S,H]`, `router_indices` `[B·S,K]`, the dense `routing_weights` `[B,S,E]`, the experts'
    /// weights and the capacity C. The activation is [`Activation::GPT_OSS`] and equal experts keep ascending flat
    /// index, unless set otherwise.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::ZeroTopK`], [`Error::ExpertOutOfRange`], [`Error::TooLarge`] if a size beyond 2^20 has
    /// no element in any tensor, or [`Error::SizeOverflow`] if an intermediate result would not fit the address space.
    pub fn new(
        hidden_states: Array3<T>,
        router_indices: Array2<i64>,
        routing_weights: Array3<T>,
        weights: impl Into<Arc<ExpertWeights<T>>>,
        capacity: usize,
    ) -> Result<Problem<T>, Error> {
        let weights = weights.into();
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
        let bins = sort_tokens_by_expert(router_indices.view(), experts)?;
        Ok(Problem {
            hidden_states,
            router_indices,
            routing_weights,
            weights,
            bins,
            is_explicit: false,
            capacity,
            activation: Activation::GPT_OSS,
        })
    }

    /// Replaces the activation parameters.
    #[must_use]
    pub fn with_activation(self, activation: Activation) -> Problem<T> {
        Problem { activation, ..self }
    }

    /// Replaces the stable sort by an explicit order of the assignments.
    ///
    /// # Errors
    /// An `Order…` variant if `order` is not a permutation of `0..T·K` sorted by expert.
    pub fn with_order(self, order: Vec<usize>) -> Result<Problem<T>, Error> {
        let (ids, experts) = (self.router_indices.view(), self.weights.experts());
        let bins = Bins::from_order(ids, experts, order)?;
        let is_explicit = bins != sort_tokens_by_expert(ids, experts)?;
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

    /// Dense, `[B,S,E]`.
    pub fn routing_weights(&self) -> &Array3<T> {
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
