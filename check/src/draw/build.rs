//! From a spec to a problem: pure, bounded, the same on every machine.

use binned_experts_reference::{Activation, Element, ExpertWeights, Layer, Problem};
use ndarray::{Array2, Array3};

use super::by_row;
use super::cells::Cells;
use super::distinct::distinct_indices;
use super::foreign::with_foreign;
use super::numbers::Stream;
use super::routing::router_indices;
use super::special::kept_assignments;
use super::tensors::{Projections, Tensors};
use super::tie_order::sorted_indices;
use super::weights::routing_weights;
use crate::case::{AnyProblem, CaseElement, CaseSpec, Foreign, Routing, SpecError};

impl CaseSpec {
    /// Builds the problem.
    ///
    /// # Errors
    /// [`SpecError`] if a size is beyond the limits (2^20 for an axis, 2^28 for a tensor, 2^36 for one of a
    /// [sampled](CaseSpec::sampled) case), if there is not the memory for it, or if sizes or ids do not make a problem.
    pub fn build(&self) -> Result<AnyProblem, SpecError> {
        self.check_sizes()?;
        with_element!(self.element, T => self.build_as::<T>())
    }

    /// `router_indices` `[T,K]`, without building the rest.
    ///
    /// # Errors
    /// The errors of [`build`](CaseSpec::build).
    pub fn router_indices(&self) -> Result<Array2<i64>, SpecError> {
        self.check_sizes()?;
        match &self.routing {
            Routing::Profile(profile) => {
                let dims = (self.tokens(), self.experts, self.top_k);
                let draw = self.draw(Stream::Routing);
                let local = if self.distinct {
                    distinct_indices(*profile, dims, draw)
                } else {
                    router_indices(*profile, dims, draw)
                };
                Ok(match self.foreign {
                    None => local,
                    Some(foreign) => with_foreign(local, foreign, self.experts, self.draw(Stream::Foreign)),
                })
            }
            Routing::Table(table) => self.table_indices(table),
        }
    }

    fn table_indices(&self, table: &[Vec<i64>]) -> Result<Array2<i64>, SpecError> {
        let (tokens, top_k) = (self.tokens(), self.top_k);
        let misfit = |found| SpecError::RoutingShape { tokens, top_k, found };
        if table.len() != tokens {
            return Err(misfit(format!("{} rows", table.len())));
        }
        if let Some(row) = table.iter().position(|row| row.len() != top_k) {
            return Err(misfit(format!("{} ids in row {row}", table[row].len())));
        }
        Ok(Array2::from_shape_fn((tokens, top_k), |(token, slot)| {
            table[token][slot]
        }))
    }

    fn build_as<T: CaseElement>(&self) -> Result<AnyProblem, SpecError> {
        let router_indices = self.router_indices()?;
        // E where an expert is not local.
        let local = router_indices.mapv(|id| self.local_expert(id) as i64);
        let order = self
            .order
            .map(|order| sorted_indices(order, &local, self.experts, self.draw(Stream::Order)));
        let kept = kept_assignments(&local, order.as_deref(), self.experts, self.capacity);
        let (hidden_states, routing_weights, weights) = if self.sampled {
            let cells = Cells::new(self);
            (
                by_row::hidden_states(self, &cells)?,
                routing_weights(self, &local, &kept).mapv(|weight| T::rounded(weight, self.layer.routing_weight_type)),
                by_row::weights(self, &cells)?,
            )
        } else {
            self.rounded(Tensors::draw(self, &local, &kept), &local, &kept)?
        };
        let layer = Layer::from(self.layer);
        let problem = match self.foreign {
            None => Problem::new(hidden_states, router_indices, routing_weights, weights, self.capacity)?,
            Some(Foreign { first_expert, .. }) => Problem::of_rank(
                hidden_states,
                router_indices,
                routing_weights,
                weights,
                self.capacity,
                first_expert,
            )?,
        };
        let problem = problem.with_layer(layer)?;
        let activation = Activation {
            alpha: self.alpha,
            limit: self.limit,
        };
        let problem = problem.with_activation(activation).with_views(self.views_by_name());
        Ok(T::problem(match order {
            Some(order) => problem.with_order(order)?,
            None => problem,
        }))
    }

    /// The tensors in their types, with the special value.
    fn rounded<T: CaseElement>(
        &self,
        mut tensors: Tensors,
        local: &Array2<i64>,
        kept: &[bool],
    ) -> Result<Rounded<T>, SpecError> {
        match (self.special, self.against) {
            (Some(special), Some(against)) if against.meets(special, self.layer.has_blocks()) => {
                tensors.place_against(special, against, self, local, kept);
            }
            (Some(special), _) => tensors.place(special, self, local, kept),
            (None, _) => {}
        }
        let mut weights = self.rounded_weights(tensors.experts)?;
        if let Some(shared) = tensors.shared {
            weights = weights.with_shared(self.rounded_weights(shared)?)?;
        }
        let (hidden_states, routing_weights) = (
            tensors.hidden_states.mapv(T::from_f64),
            tensors
                .routing_weights
                .mapv(|weight| T::rounded(weight, self.layer.routing_weight_type)),
        );
        Ok((hidden_states, routing_weights, weights))
    }

    fn rounded_weights<T: CaseElement>(&self, drawn: Projections) -> Result<ExpertWeights<T>, SpecError> {
        let new = if self.layer.activation.has_up() {
            ExpertWeights::new
        } else {
            ExpertWeights::without_ups
        };
        // Without biases a special value may have been put there.
        let bias = |bias| T::rounded(if self.layer.bias { bias } else { 0.0 }, self.layer.bias_type);
        Ok(new(
            drawn.gate_up_proj.mapv(T::from_f64),
            drawn.gate_up_proj_bias.mapv(bias),
            drawn.down_proj.mapv(T::from_f64),
            drawn.down_proj_bias.mapv(bias),
        )?)
    }
}

/// Hidden states `[B,S,H]`, routing weights `[B,S,E]` and the experts' weights.
type Rounded<T> = (Array3<T>, Array3<<T as Element>::Wide>, ExpertWeights<T>);
