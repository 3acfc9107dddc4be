//! The calls of a benchmark: weights that stay, and hidden states and routing that are drawn anew for each call.
//!
//! The distributions are those of the seed's benchmark: hidden states and projections 0.1·normal, biases 0.01·normal,
//! expert ids uniform and independent, so that a token can have one twice, and routing weights the softmax over the experts
//! of uniform numbers. The normal numbers are sums of four uniform ones, within ±3.47. The capacity drops nothing.

mod nearly;

use std::collections::BTreeSet;

use binned_experts_reference::{Dims, Error, ExpertWeights, Problem};
use ndarray::{Array, Array2, Array3, Dimension, IntoDimension};
use rayon::prelude::*;

pub use nearly::{with_exchanged_tokens, with_other_routing};

use crate::case::{AnyProblem, CaseElement, ElementType};
use crate::draw::mix;

/// The deviation of hidden states and projections.
const OF_VALUES: f64 = 0.1;
/// The deviation of biases.
const OF_BIASES: f64 = 0.01;

/// The sizes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workload {
    /// B.
    pub batch: usize,
    /// S; T = B·S.
    pub sequence: usize,
    /// H.
    pub hidden: usize,
    /// I.
    pub intermediate: usize,
    /// E.
    pub experts: usize,
    /// K.
    pub top_k: usize,
}

/// What no way to compute a call can leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Necessary {
    /// Different pairs of a token and an expert whose routing weight is not 0.
    pub pairs: usize,
    /// Tokens of such pairs.
    pub tokens: usize,
    /// Experts of such pairs.
    pub experts: usize,
}

impl Workload {
    /// The weights of a seed, as a problem without tokens.
    ///
    /// # Errors
    /// As [`Problem::new`], and [`Error::OutOfMemory`].
    pub fn weights(&self, element: ElementType, seed: u64) -> Result<AnyProblem, Error> {
        with_element!(element, T => self.weights_of::<T>(seed).map(T::problem))
    }

    fn weights_of<T: CaseElement>(&self, seed: u64) -> Result<Problem<T>, Error> {
        let Workload {
            hidden,
            intermediate,
            experts,
            top_k,
            ..
        } = *self;
        let width = intermediate.saturating_mul(2);
        let weights = ExpertWeights::new(
            normals("gate_up_proj", (experts, hidden, width), OF_VALUES, key(seed, 0))?,
            widened::<T>(normals("gate_up_proj_bias", (experts, width), OF_BIASES, key(seed, 1))?),
            normals("down_proj", (experts, intermediate, hidden), OF_VALUES, key(seed, 2))?,
            widened::<T>(normals("down_proj_bias", (experts, hidden), OF_BIASES, key(seed, 3))?),
        )?;
        Problem::new(
            Array3::from_elem((1, 0, hidden), T::from_f64(0.0)),
            Array2::zeros((0, top_k)),
            Array3::from_elem((1, 0, experts), T::ZERO.widen()),
            weights,
            0,
        )
    }

    /// The call of a seed with the weights of a problem. H and E are those of the weights.
    ///
    /// # Errors
    /// As [`Problem::new`], and [`Error::OutOfMemory`].
    pub fn call(&self, weights: &AnyProblem, seed: u64) -> Result<AnyProblem, Error> {
        with_problem!(weights, weights => self.call_of(weights, seed).map(CaseElement::problem))
    }

    fn call_of<T: CaseElement>(&self, weights: &Problem<T>, seed: u64) -> Result<Problem<T>, Error> {
        let (batch, sequence, top_k) = (self.batch, self.sequence, self.top_k);
        let Dims { hidden, experts, .. } = weights.dims();
        let hidden_states = normals("hidden_states", (batch, sequence, hidden), OF_VALUES, key(seed, 4))?;
        let tokens = batch * sequence;
        let id = |at| (bits(key(seed, 5), at) % experts.max(1) as u64) as i64;
        let router_indices = filled("router_indices", (tokens, top_k), id)?;
        let exponential = |at| libm::exp(unit(bits(key(seed, 6), at)));
        let mut routing_weights = filled("routing_weights", (batch, sequence, experts), exponential)?;
        for mut row in routing_weights.rows_mut() {
            let sum = row.sum();
            row /= sum;
        }
        let capacity = router_indices.len();
        let routing_weights = routing_weights.mapv(|weight| T::from_f64(weight).widen());
        let weights = weights.weights().clone();
        Problem::new(hidden_states, router_indices, routing_weights, weights, capacity)
    }
}

/// What no way to compute a call can leave out.
pub fn necessary(call: &AnyProblem) -> Necessary {
    let pairs = with_problem!(call, problem => pairs(problem));
    Necessary {
        pairs: pairs.len(),
        tokens: BTreeSet::from_iter(pairs.iter().map(|(token, _)| token)).len(),
        experts: BTreeSet::from_iter(pairs.iter().map(|(_, expert)| expert)).len(),
    }
}

/// Different pairs of a token and a local expert whose routing weight is not 0.
fn pairs<T: CaseElement>(problem: &Problem<T>) -> BTreeSet<(usize, usize)> {
    let (top_k, sequence) = (problem.dims().top_k, problem.hidden_states().dim().1);
    let pair = |(flat, expert): (usize, &Option<usize>)| Some((flat / top_k, (*expert)?));
    let counts = |(token, expert): &(usize, usize)| {
        let weight = problem.routing_weights()[[token / sequence, token % sequence, *expert]];
        CaseElement::to_f64(weight) != 0.0
    };
    problem
        .expert_of()
        .iter()
        .enumerate()
        .filter_map(pair)
        .filter(counts)
        .collect()
}

/// Tells apart the tensors of a seed.
fn key(seed: u64, tensor: u64) -> u64 {
    mix(mix(seed) ^ tensor)
}

fn bits(key: u64, at: usize) -> u64 {
    mix(key ^ at as u64)
}

/// Uniform in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// Close to normal, of mean 0 and deviation 1: the sum of four uniform numbers of 16 bits.
fn normal(bits: u64) -> f64 {
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
    (sum as f64 - 2.0 * 65535.0) / 37837.0
}

fn normals<T: CaseElement, D: Dimension>(
    what: &'static str,
    shape: impl IntoDimension<Dim = D>,
    deviation: f64,
    key: u64,
) -> Result<Array<T, D>, Error> {
    let value = |at: usize| T::from_f64(deviation * normal(bits(key, at)));
    filled(what, shape, value)
}

/// Biases as a problem holds them.
fn widened<T: CaseElement>(biases: Array2<T>) -> Array2<T::Wide> {
    biases.mapv(T::widen)
}

/// An array of what a function gives for each place in row-major order.
fn filled<T: Send, D: Dimension>(
    what: &'static str,
    shape: impl IntoDimension<Dim = D>,
    value: impl Fn(usize) -> T + Sync + Send,
) -> Result<Array<T, D>, Error> {
    let shape = shape.into_dimension();
    let overflow = || Error::SizeOverflow {
        what,
        sizes: shape.slice().to_vec(),
    };
    let elements = shape.size_checked().ok_or_else(overflow)?;
    let mut values = Vec::new();
    values
        .try_reserve_exact(elements)
        .map_err(|_| Error::OutOfMemory { what, elements })?;
    (0..elements).into_par_iter().map(value).collect_into_vec(&mut values);
    Array::from_shape_vec(shape.clone(), values).map_err(|_| overflow())
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const SMALL: Workload = Workload {
        batch: 2,
        sequence: 50,
        hidden: 40,
        intermediate: 24,
        experts: 4,
        top_k: 2,
    };

    pub(super) fn call(seed: u64) -> AnyProblem {
        let weights = SMALL.weights(ElementType::F32, seed).unwrap();
        SMALL.call(&weights, seed + 1).unwrap()
    }

    pub(super) fn typed(problem: &AnyProblem) -> &Problem<f32> {
        match problem {
            AnyProblem::F32(problem) => problem,
            other => panic!("{:?}", other.element()),
        }
    }

    /// Mean and deviation.
    fn moments<'a>(values: impl IntoIterator<Item = &'a f32>) -> (f64, f64) {
        let values: Vec<f64> = values.into_iter().map(|value| f64::from(*value)).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let square = values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64;
        (mean, (square - mean * mean).sqrt())
    }

    #[test]
    fn values_have_their_distributions() {
        let call = call(3);
        let (problem, weights) = (typed(&call), typed(&call).weights());
        let near = |(mean, deviation): (f64, f64), expected: f64| {
            // Of the smallest tensor, 160 biases, these are four standard errors.
            assert!(mean.abs() < 0.32 * expected, "{mean}");
            assert!((deviation / expected - 1.0).abs() < 0.23, "{deviation}");
        };
        near(moments(problem.hidden_states()), 0.1);
        near(moments(weights.gate_up_proj()), 0.1);
        near(moments(weights.down_proj()), 0.1);
        near(moments(weights.gate_up_proj_bias()), 0.01);
        near(moments(weights.down_proj_bias()), 0.01);
        for row in problem.routing_weights().rows() {
            assert!((row.sum() - 1.0).abs() < 1e-6 && row.iter().all(|weight| (0.1..0.5).contains(weight)));
        }
        let ids = problem.router_indices();
        let twice = ids.rows().into_iter().filter(|row| row[0] == row[1]).count();
        assert!((10..45).contains(&twice), "{twice}");
        for expert in 0..4 {
            let number = ids.iter().filter(|id| **id == expert).count();
            assert!((30..70).contains(&number), "{number} of expert {expert}");
        }
        assert_eq!(problem.bins().dropped(problem.capacity()), 0);
    }

    #[test]
    fn sizes_that_fit_no_memory_are_refused() {
        let huge = |hidden, top_k| Workload { hidden, top_k, ..SMALL };
        let overflow = huge(usize::MAX / 2, 2).weights(ElementType::F32, 0);
        assert!(matches!(overflow, Err(Error::SizeOverflow { .. })), "{overflow:?}");
        let weights = huge(1 << 52, 2).weights(ElementType::F32, 0);
        assert!(matches!(weights, Err(Error::OutOfMemory { .. })), "{weights:?}");
        let weights = SMALL.weights(ElementType::F32, 0).unwrap();
        let call = huge(40, 1 << 52).call(&weights, 0);
        assert!(matches!(call, Err(Error::OutOfMemory { .. })), "{call:?}");
    }

    #[test]
    fn a_seed_decides_all_values_and_another_changes_them() {
        assert_eq!(call(3), call(3));
        let (one, other) = (call(3), call(4));
        assert_ne!(typed(&one).hidden_states(), typed(&other).hidden_states());
        assert_ne!(typed(&one).router_indices(), typed(&other).router_indices());
        assert_ne!(typed(&one).weights().down_proj(), typed(&other).weights().down_proj());
    }

    #[test]
    fn a_pair_counts_once_and_a_weight_of_zero_not_at_all() {
        let weights = SMALL.weights(ElementType::F32, 0).unwrap();
        let hidden_states = Array3::zeros((1, 3, 40));
        let ids = ndarray::array![[0, 0], [1, 3], [3, 3]];
        let mut routing_weights = Array3::from_elem((1, 3, 4), 0.25);
        routing_weights[[0, 1, 1]] = 0.0;
        let weights = typed(&weights).weights().clone();
        let problem = Problem::new(hidden_states, ids, routing_weights, weights, 6).unwrap();
        let expected = Necessary {
            pairs: 3,
            tokens: 3,
            experts: 2,
        };
        assert_eq!(necessary(&AnyProblem::F32(problem)), expected);
    }
}
