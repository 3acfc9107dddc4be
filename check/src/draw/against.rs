//! A special value and what it meets: an infinity or NaN times 0, or the opposite infinity in another slot.

use ndarray::{Array2, Axis};

use super::numbers::Stream;
use super::special::SpecialDraw;
use super::tensors::Tensors;
use crate::case::{Against, CaseSpec, Place, Special};

impl Tensors {
    /// Puts the special value and what it meets in their places; where the case has no such places, nothing changes.
    pub(super) fn place_against(
        &mut self,
        special: Special,
        against: Against,
        spec: &CaseSpec,
        router_indices: &Array2<i64>,
        kept: &[bool],
    ) {
        if spec.hidden == 0 || spec.intermediate == 0 {
            return;
        }
        let assignments: Vec<Slot> = (0..kept.len())
            .filter(|flat| kept[*flat])
            .map(|flat| Slot {
                token: flat / spec.top_k,
                expert: router_indices[[flat / spec.top_k, flat % spec.top_k]] as usize,
            })
            .collect();
        let draw = spec.draw(Stream::Special);
        let pick = |number: usize| (number > 0).then(|| draw.below(number, [0, 0, 1]));
        match against {
            Against::Zero => {
                if let Some(at) = pick(assignments.len()) {
                    self.meet_zero(special, spec, assignments[at]);
                }
            }
            Against::Opposite => {
                let pairs: Vec<(Slot, Slot)> = assignments
                    .chunk_by(|a, b| a.token == b.token)
                    .filter_map(|slots| {
                        let other = slots.iter().find(|slot| slot.expert != slots[0].expert)?;
                        Some((slots[0], *other))
                    })
                    .collect();
                if let Some(at) = pick(pairs.len()) {
                    self.meet_opposite(special, spec, pairs[at]);
                }
            }
        }
    }

    /// In a product of one assignment.
    fn meet_zero(&mut self, special: Special, spec: &CaseSpec, Slot { token, expert }: Slot) {
        let draw = spec.draw(Stream::Special);
        let value = SpecialDraw::new(special, spec).at(0);
        let (b, s) = (token / spec.sequence, token % spec.sequence);
        let feature = draw.below(spec.hidden, [0, 0, 2]);
        let inner = draw.below(spec.intermediate, [0, 0, 3]);
        let gate = spec.layer.activation.columns() * inner;
        match special.place {
            Place::Weight => {
                self.experts.down_proj.index_axis_mut(Axis(0), expert).fill(0.0);
                self.experts.down_proj_bias.row_mut(expert).fill(0.0);
                self.routing_weights[[b, s, expert]] = value;
            }
            Place::Expert if draw.below(2, [0, 0, 4]) == 0 => {
                // A gate of 0 makes the activation 0.
                let mut matrix = self.experts.gate_up_proj.index_axis_mut(Axis(0), expert);
                matrix.column_mut(gate).fill(0.0);
                self.experts.gate_up_proj_bias[[expert, gate]] = 0.0;
                self.experts.down_proj[[expert, inner, feature]] = value;
            }
            Place::Expert => {
                self.hidden_states[[b, s, feature]] = 0.0;
                self.experts.gate_up_proj[[expert, feature, gate]] = value;
            }
            Place::Token | Place::DroppedToken | Place::UnusedExpert => {
                self.hidden_states[[b, s, feature]] = value;
                let mut matrix = self.experts.gate_up_proj.index_axis_mut(Axis(0), expert);
                matrix.row_mut(feature).fill(0.0);
            }
        }
    }

    /// In the sum over the slots of one token.
    fn meet_opposite(&mut self, special: Special, spec: &CaseSpec, (one, other): (Slot, Slot)) {
        let value = SpecialDraw::new(special, spec).at(0);
        let weight = |slot: Slot| [slot.token / spec.sequence, slot.token % spec.sequence, slot.expert];
        if special.place == Place::Weight {
            self.routing_weights[weight(one)] = value;
            self.routing_weights[weight(other)] = -value;
        } else {
            let feature = spec.draw(Stream::Special).below(spec.hidden, [0, 0, 2]);
            // Weighted, they are opposite.
            let is_turned = self.routing_weights[weight(one)] * self.routing_weights[weight(other)] < 0.0;
            self.experts.down_proj_bias[[one.expert, feature]] = value;
            self.experts.down_proj_bias[[other.expert, feature]] = if is_turned { value } else { -value };
        }
    }
}

/// A kept assignment.
#[derive(Clone, Copy)]
struct Slot {
    token: usize,
    expert: usize,
}
