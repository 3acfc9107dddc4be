//! From a spec to a problem: pure, bounded, the same on every machine.

use binned_experts_reference::{Activation, ExpertWeights, Problem};
use half::{bf16, f16};
use ndarray::{Array2, Array3, Axis};

use super::cell::Cell;
use super::draw::{Draw, Stream};
use super::order::sorted_indices;
use super::routing::router_indices;
use super::{CaseSpec, Place, Routing, SpecError, Special, SpecialValue, WeightProfile};
use crate::tensor::{AnyProblem, CaseElement, ElementType};

/// The largest size of an axis.
const MAX_SIZE: usize = 1 << 20;
/// The largest number of elements of a tensor.
const MAX_ELEMENTS: usize = 1 << 28;

impl CaseSpec {
    /// Builds the problem.
    ///
    /// # Errors
    /// [`SpecError`] if a size is beyond the limits (2^20 for an axis, 2^28 for a tensor), or if sizes or ids do not
    /// make a problem.
    pub fn build(&self) -> Result<AnyProblem, SpecError> {
        self.check_sizes()?;
        match self.element {
            ElementType::F32 => self.build_as::<f32>(),
            ElementType::F64 => self.build_as::<f64>(),
            ElementType::Bf16 => self.build_as::<bf16>(),
            ElementType::F16 => self.build_as::<f16>(),
        }
    }

    /// `router_indices` `[T,K]`, without building the rest.
    ///
    /// # Errors
    /// As [`build`](CaseSpec::build).
    pub fn router_indices(&self) -> Result<Array2<i64>, SpecError> {
        self.check_sizes()?;
        match &self.routing {
            Routing::Profile(profile) => {
                let dims = (self.tokens(), self.experts, self.top_k);
                Ok(router_indices(*profile, dims, self.draw(Stream::Routing)))
            }
            Routing::Table(table) => self.table_indices(table),
        }
    }

    fn check_sizes(&self) -> Result<(), SpecError> {
        let axes = [
            ("batch", self.batch),
            ("sequence", self.sequence),
            ("hidden", self.hidden),
            ("intermediate", self.intermediate),
            ("experts", self.experts),
            ("top_k", self.top_k),
        ];
        for (what, found) in axes {
            at_most(what, MAX_SIZE, found)?;
        }
        at_most("tokens", MAX_SIZE, self.batch.saturating_mul(self.sequence))?;
        let tensors: [(&str, &[usize]); 5] = [
            ("hidden_states", &[self.tokens(), self.hidden]),
            ("router_indices", &[self.tokens(), self.top_k]),
            ("routing_weights", &[self.tokens(), self.experts]),
            (
                "gate_up_proj",
                &[self.experts, self.hidden.max(1), 2 * self.intermediate],
            ),
            ("down_proj", &[self.experts, self.intermediate, self.hidden]),
        ];
        for (what, sizes) in tensors {
            at_most(
                what,
                MAX_ELEMENTS,
                sizes
                    .iter()
                    .fold(1, |product: usize, size| product.saturating_mul(*size)),
            )?;
        }
        if self.experts == 0 && self.tokens() > 0 {
            return Err(binned_experts_reference::Error::NoExperts.into());
        }
        Ok(())
    }

    fn table_indices(&self, table: &[Vec<usize>]) -> Result<Array2<i64>, SpecError> {
        let (tokens, top_k) = (self.tokens(), self.top_k);
        let misfit = |found| SpecError::RoutingShape { tokens, top_k, found };
        if table.len() != tokens {
            return Err(misfit(format!("{} rows", table.len())));
        }
        if let Some(row) = table.iter().position(|row| row.len() != top_k) {
            return Err(misfit(format!("{} ids in row {row}", table[row].len())));
        }
        Ok(Array2::from_shape_fn((tokens, top_k), |(token, slot)| {
            table[token][slot] as i64
        }))
    }

    fn build_as<T: CaseElement>(&self) -> Result<AnyProblem, SpecError> {
        let router_indices = self.router_indices()?;
        let order = self
            .order
            .map(|order| sorted_indices(order, &router_indices, self.draw(Stream::Order)));
        let mut values = Values::draw(self, &router_indices);
        if let Some(special) = self.special {
            let kept = kept_assignments(&router_indices, order.as_deref(), self.experts, self.capacity);
            values.place(special, self, &router_indices, &kept);
        }
        let weights = ExpertWeights::new(
            values.gate_up_proj.mapv(T::from_f64),
            values.gate_up_proj_bias.mapv(T::from_f64),
            values.down_proj.mapv(T::from_f64),
            values.down_proj_bias.mapv(T::from_f64),
        )?;
        let problem = Problem::new(
            values.hidden_states.mapv(T::from_f64),
            router_indices,
            values.routing_weights.mapv(T::from_f64),
            weights,
            self.capacity,
        )?;
        let activation = Activation {
            alpha: self.alpha,
            limit: self.limit,
        };
        let problem = problem.with_activation(activation);
        Ok(T::problem(match order {
            Some(order) => problem.with_order(order)?,
            None => problem,
        }))
    }
}

/// All tensors before rounding to the element type.
struct Values {
    hidden_states: Array3<f64>,
    routing_weights: Array3<f64>,
    gate_up_proj: Array3<f64>,
    gate_up_proj_bias: Array2<f64>,
    down_proj: Array3<f64>,
    down_proj_bias: Array2<f64>,
}

impl Values {
    fn draw(spec: &CaseSpec, router_indices: &Array2<i64>) -> Values {
        let CaseSpec {
            batch,
            sequence,
            hidden,
            intermediate,
            experts,
            ..
        } = *spec;
        let cell = Cell::new(spec);
        let token = |b: usize, s: usize| b * sequence + s;
        Values {
            hidden_states: Array3::from_shape_fn((batch, sequence, hidden), |(b, s, h)| cell.hidden(token(b, s), h)),
            routing_weights: routing_weights(spec, router_indices),
            gate_up_proj: Array3::from_shape_fn((experts, hidden, 2 * intermediate), |(e, h, j)| cell.gate_up(e, h, j)),
            gate_up_proj_bias: Array2::from_shape_fn((experts, 2 * intermediate), |(e, j)| cell.gate_up_bias(e, j)),
            down_proj: Array3::from_shape_fn((experts, intermediate, hidden), |(e, i, h)| cell.down(e, i, h)),
            down_proj_bias: Array2::from_shape_fn((experts, hidden), |(e, h)| cell.down_bias(e, h)),
        }
    }

    /// Puts the special value in its place; where the case has no such place, nothing changes.
    fn place(&mut self, special: Special, spec: &CaseSpec, router_indices: &Array2<i64>, kept: &[bool]) {
        let draw = spec.draw(Stream::Special);
        let value = SpecialDraw {
            kind: special.value,
            element: spec.element,
            draw,
        };
        let of_token = |token: usize| token * spec.top_k..(token + 1) * spec.top_k;
        let used = |expert: usize| router_indices.iter().any(|id| *id == expert as i64);
        let pick = |places: Vec<usize>| (!places.is_empty()).then(|| places[draw.below(places.len(), [0, 0, 1])]);
        match special.place {
            Place::Token | Place::DroppedToken => {
                let wants_kept = special.place == Place::Token;
                let fits = |token: &usize| of_token(*token).any(|flat| kept[flat]) == wants_kept;
                let Some(token) = pick((0..spec.tokens()).filter(fits).collect()) else {
                    return;
                };
                let sequence = self.hidden_states.index_axis_mut(Axis(0), token / spec.sequence);
                let mut row = sequence.index_axis_move(Axis(0), token % spec.sequence);
                value.put(row.iter_mut());
            }
            Place::Expert | Place::UnusedExpert => {
                let wants_used = special.place == Place::Expert;
                let Some(expert) = pick((0..spec.experts).filter(|e| used(*e) == wants_used).collect()) else {
                    return;
                };
                match draw.below(4, [0, 0, 2]) {
                    0 => value.put(self.down_proj.index_axis_mut(Axis(0), expert).iter_mut()),
                    1 => value.put(self.gate_up_proj_bias.row_mut(expert).iter_mut()),
                    2 => value.put(self.down_proj_bias.row_mut(expert).iter_mut()),
                    _ => value.put(self.gate_up_proj.index_axis_mut(Axis(0), expert).iter_mut()),
                }
            }
            Place::Weight => {
                let Some(flat) = pick((0..kept.len()).filter(|flat| kept[*flat]).collect()) else {
                    return;
                };
                let (token, slot) = (flat / spec.top_k, flat % spec.top_k);
                let expert = router_indices[[token, slot]] as usize;
                let at = [token / spec.sequence, token % spec.sequence, expert];
                self.routing_weights[at] = value.at(0);
            }
        }
    }
}

/// `[B,S,E]`.
fn routing_weights(spec: &CaseSpec, router_indices: &Array2<i64>) -> Array3<f64> {
    let draw = spec.draw(Stream::Weights);
    let token = |b: usize, s: usize| b * spec.sequence + s;
    let mut weights = Array3::from_shape_fn((spec.batch, spec.sequence, spec.experts), |(b, s, e)| {
        let at = [token(b, s), e, 0];
        match spec.weights {
            WeightProfile::Normalised => draw.unit(at) + 1.0 / 16.0,
            WeightProfile::Unnormalised => 3.0 * draw.unit(at) + 0.125,
            WeightProfile::Negative => draw.normal(at),
            WeightProfile::SomeZero if draw.bits(at).is_multiple_of(2) => 0.0,
            WeightProfile::SomeZero => draw.unit(at) + 1.0 / 16.0,
            WeightProfile::OneHot => 0.0,
        }
    });
    match spec.weights {
        WeightProfile::Normalised => {
            for mut row in weights.rows_mut() {
                let sum = row.sum();
                row.mapv_inplace(|weight| weight / sum);
            }
        }
        WeightProfile::OneHot => {
            for (token, ids) in router_indices.rows().into_iter().enumerate() {
                let slot = draw.below(spec.top_k, [token, 0, 1]);
                weights[[token / spec.sequence, token % spec.sequence, ids[slot] as usize]] =
                    0.5 + draw.unit([token, 0, 2]);
            }
        }
        _ => {}
    }
    weights
}

/// Draws a [`SpecialValue`] in an element type.
struct SpecialDraw {
    kind: SpecialValue,
    element: ElementType,
    draw: Draw,
}

impl SpecialDraw {
    /// Values that matter alone go into one cell, those that matter in numbers into all.
    fn put<'a>(&self, cells: impl ExactSizeIterator<Item = &'a mut f64>) {
        let everywhere = matches!(self.kind, SpecialValue::Subnormal | SpecialValue::NegativeZero);
        let one = self.draw.below(cells.len().max(1), [0, 0, 3]);
        for (index, cell) in cells.enumerate().filter(|(index, _)| everywhere || *index == one) {
            *cell = self.at(index);
        }
    }

    fn at(&self, index: usize) -> f64 {
        match self.kind {
            SpecialValue::Nan => f64::NAN,
            SpecialValue::Inf => f64::INFINITY,
            SpecialValue::NegativeInf => f64::NEG_INFINITY,
            SpecialValue::NegativeZero => -0.0,
            SpecialValue::Subnormal => {
                let steps = 1 + self.draw.below(100, [index, 0, 4]);
                steps as f64
                    * self.element.tiny()
                    * if self.draw.bits([index, 0, 5]).is_multiple_of(2) {
                        1.0
                    } else {
                        -1.0
                    }
            }
            SpecialValue::NearOverflow => self.element.max() * (0.5 + 0.45 * self.draw.unit([index, 0, 6])),
        }
    }
}

/// For each flat assignment whether the capacity keeps it.
fn kept_assignments(
    router_indices: &Array2<i64>,
    order: Option<&[usize]>,
    experts: usize,
    capacity: usize,
) -> Vec<bool> {
    let ids: Vec<i64> = router_indices.iter().copied().collect();
    let mut seen = vec![0; experts];
    let mut keep = |expert: i64| {
        let rank = seen.get_mut(usize::try_from(expert).ok()?)?;
        *rank += 1;
        Some(*rank <= capacity)
    };
    let mut kept = vec![false; ids.len()];
    for at in 0..ids.len() {
        let flat = order.map_or(at, |order| order[at]);
        kept[flat] = keep(ids[flat]).unwrap_or(false);
    }
    kept
}

fn at_most(what: &'static str, limit: usize, found: usize) -> Result<(), SpecError> {
    if found <= limit {
        Ok(())
    } else {
        Err(SpecError::TooLarge { what, limit, found })
    }
}
