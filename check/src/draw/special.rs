//! A special value in its place.

use ndarray::{Array2, Axis};

use super::numbers::{Draw, Stream};
use super::tensors::Tensors;
use crate::case::{CaseSpec, ElementType, LayerSpec, Place, Special, SpecialValue};

impl Tensors {
    /// Puts the special value in its place; where the case has no such place, nothing changes.
    pub(super) fn place(&mut self, special: Special, spec: &CaseSpec, router_indices: &Array2<i64>, kept: &[bool]) {
        let draw = spec.draw(Stream::Special);
        let value = SpecialDraw::new(special, spec);
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
                let mut experts: Vec<usize> = (0..spec.experts).filter(|e| used(*e) == wants_used).collect();
                // Every token has the shared experts.
                let has_shared = self.shared.is_some() && wants_used && spec.tokens() > 0;
                experts.extend(has_shared.then_some(spec.experts));
                let (Some(expert), Some(tensor)) = (pick(experts), Tensor::drawn(draw, spec.layer)) else {
                    return;
                };
                let (of, expert) = match &mut self.shared {
                    Some(shared) if expert == spec.experts => (shared, 0),
                    _ => (&mut self.experts, expert),
                };
                match tensor {
                    Tensor::GateUp => value.put(of.gate_up_proj.index_axis_mut(Axis(0), expert).iter_mut()),
                    Tensor::GateUpBias => value.put(of.gate_up_proj_bias.row_mut(expert).iter_mut()),
                    Tensor::Down => value.put(of.down_proj.index_axis_mut(Axis(0), expert).iter_mut()),
                    Tensor::DownBias => value.put(of.down_proj_bias.row_mut(expert).iter_mut()),
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

/// A tensor of an expert.
#[derive(Clone, Copy)]
enum Tensor {
    GateUp,
    GateUpBias,
    Down,
    DownBias,
}

impl Tensor {
    /// One that can hold a special value. Codes of blocks have none; without biases, the matrix before one stands for it.
    fn drawn(draw: Draw, layer: LayerSpec) -> Option<Tensor> {
        let tensor = [Tensor::Down, Tensor::GateUpBias, Tensor::DownBias, Tensor::GateUp][draw.below(4, [0, 0, 2])];
        match (tensor, layer.bias, layer.has_blocks()) {
            (_, false, true) => None,
            (Tensor::GateUp | Tensor::GateUpBias, true, true) => Some(Tensor::GateUpBias),
            (Tensor::Down | Tensor::DownBias, true, true) => Some(Tensor::DownBias),
            (Tensor::GateUp | Tensor::GateUpBias, false, false) => Some(Tensor::GateUp),
            (Tensor::Down | Tensor::DownBias, false, false) => Some(Tensor::Down),
            (tensor, true, false) => Some(tensor),
        }
    }
}

/// Draws a [`SpecialValue`] in an element type.
pub(super) struct SpecialDraw {
    kind: SpecialValue,
    element: ElementType,
    draw: Draw,
}

impl SpecialDraw {
    pub(super) fn new(special: Special, spec: &CaseSpec) -> SpecialDraw {
        SpecialDraw {
            kind: special.value,
            element: spec.element,
            draw: spec.draw(Stream::Special),
        }
    }

    /// Writes a subnormal value or −0 to every cell, since one alone rarely shows, and any other value to one cell.
    fn put<'a>(&self, cells: impl ExactSizeIterator<Item = &'a mut f64>) {
        let everywhere = matches!(self.kind, SpecialValue::Subnormal | SpecialValue::NegativeZero);
        let one = self.draw.below(cells.len().max(1), [0, 0, 3]);
        for (index, cell) in cells.enumerate().filter(|(index, _)| everywhere || *index == one) {
            *cell = self.at(index);
        }
    }

    pub(super) fn at(&self, index: usize) -> f64 {
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

/// Whether the capacity keeps an assignment, for each flat index.
pub(super) fn kept_assignments(
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
    let all = || Vec::from_iter(0..ids.len());
    for flat in order.map_or_else(all, <[usize]>::to_vec) {
        kept[flat] = keep(ids[flat]).unwrap_or(false);
    }
    kept
}
