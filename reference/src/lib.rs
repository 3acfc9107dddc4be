//! Gpt-oss style mixture-of-experts with a capacity, in plain [`ndarray`]. The steps are those of `binned_experts_ref`,
//! a function of a public PyTorch benchmark.
//!
//! Symbols, always in this order: T tokens (= B·S), H hidden, I intermediate, E experts, K top_k, C capacity. An
//! *assignment* is one (token, slot) pair with the flat index `token · K + slot`; an assignment beyond the capacity
//! of its expert is *dropped*.
//!
//! | step | result | rule |
//! |---|---|---|
//! | [`sort_tokens_by_expert`] | order `[T·K]`, bins `[E]` | by expert; equal experts keep ascending flat index |
//! | [`binned_gather`] | x `[E,C,H]` | row i of expert e is the token of its i-th assignment, i < min(n_e, C) |
//! | [`gate_up`] | `[E,C,2I]` | x · `gate_up_proj` + bias; even columns gate, odd columns up |
//! | [`activate`] | `[E,C,I]` | gate ≤ limit, up in ±limit; (up + 1) · gate · sigmoid(alpha · gate) |
//! | [`down`] | `[E,C,H]` | · `down_proj` + bias |
//! | [`binned_scatter`] | `[T,H]` | Σ over the slots, in slot order, of row · routing weight; dropped ones are 0 |
//!
//! Layers of other models have another activation, no biases, the routing weight on what goes into an expert, a factor
//! on the sum, shared experts, or tensors in another layout or type: see [`Layer`]. Of the experts of other ranks of an
//! expert-parallel program nothing is added: see [`Problem::of_rank`].
//!
//! [`binned_experts_ref`] runs them on a [`Problem`] and returns every intermediate result in a [`Trace`]. Rows that
//! PyTorch pads with zeros are not stored; see [`Binned`].
//!
//! The element types are `f32`, `f64`, [`half::bf16`] and [`half::f16`], rounded after each operation as PyTorch rounds
//! them; see [`Element`]. NaN and infinities behave as in PyTorch, and stay in the rows that use them. Inputs that do
//! not fit one another give an [`Error`].

#![forbid(unsafe_code)]

mod activation;
mod binned;
mod bins;
mod element;
mod error;
mod experts;
mod forward;
mod layer;
mod memory;
mod mxfp4;
mod named;
mod problem;
mod stored;
mod view;
mod weights;

pub use activation::{Activation, ActivationKind, activate};
pub use binned::{Binned, binned_gather, binned_scatter, select_weights};
pub use bins::{Bins, sort_tokens_by_expert};
pub use element::Element;
pub use error::Error;
pub use experts::{down, gate_up};
pub use forward::{Trace, binned_experts_ref};
pub use layer::{GateUpLayout, Layer, ProjectionLayout, RoutingWeightLayout, TensorType, WeightOn};
pub use mxfp4::Mxfp4;
pub use problem::{Dims, Problem, expert_capacity};
pub use stored::{StoredWeights, weights_by_expert};
pub use view::{Placement, View, Views};
pub use weights::ExpertWeights;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
