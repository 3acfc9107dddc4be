//! The bound of an element of the output.

use binned_experts_reference::Layer;

use super::LAMBDA;
use super::exact::ExactSum;
use super::shift::COMMON;
use super::terms::Terms;
use crate::oracle::{Rounding, Roundings};

/// What a kept slot adds to an element: (value ± error) · weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) expert: usize,
    /// The element of the expert's row.
    pub(super) value: f64,
    pub(super) error: f64,
    pub(super) weight: f64,
    /// By how much it shrinks for each unit of the common shift of the first product, and of the second: a part of
    /// `error`.
    pub(super) shifts: [f64; 2],
}

impl Slot {
    /// A row that is added as it is.
    fn plain(value: f64, error: f64) -> Slot {
        Slot {
            expert: usize::MAX,
            value,
            error,
            weight: 1.0,
            shifts: [0.0; 2],
        }
    }

    /// The error times the weight, without the part that its shift is.
    fn weighted_error(&self, roundings: Roundings) -> f64 {
        (self.error - self.shifted(roundings)) * self.weight
    }

    /// The part of the error that its shift is.
    fn shifted(&self, Roundings { operand, .. }: Roundings) -> f64 {
        COMMON * operand.unit * (self.shifts[0].abs() + self.shifts[1].abs())
    }
}

/// The roundings of a sum over the slots.
#[derive(Debug, Clone, Copy)]
pub(super) struct SumRoundings {
    /// Those of the precision.
    roundings: Roundings,
    /// The rounding of a routing weight.
    weight: Rounding,
    /// The rounding of the output.
    output: Rounding,
}

impl SumRoundings {
    pub(super) fn new(roundings: Roundings, layer: &Layer) -> SumRoundings {
        SumRoundings {
            roundings,
            weight: roundings.wide_of(layer.routing_weight_type).unwrap_or(roundings.store),
            output: roundings.output(layer),
        }
    }
}

/// The bound of value = scale · Σ row · weight + shared: the sum over the kept slots of a token, those of one expert
/// next to each other, and what its shared experts give, with an error.
pub(super) fn bound_with_shared(
    slots: &[Slot],
    (shared, error): (f64, f64),
    value: f64,
    scale: f64,
    sum: SumRoundings,
) -> f64 {
    let of_slots = || slots.iter().map(|slot| slot.value * slot.weight);
    let routed = scale * of_slots().sum::<f64>();
    let with_row = || [slots, &[Slot::plain(shared, error)]].concat();
    // The sum over the slots is stored by itself.
    let is_routed_exact = slots.is_empty() || (scale == 1.0 && is_exact(slots, routed, sum));
    if is_routed_exact && is_exact(&with_row(), value, sum) {
        return 0.0;
    }
    let (of_routed, added) = if slots.is_empty() {
        (0.0, 0.0)
    } else {
        let steps = sum
            .roundings
            .sum_error(sum.roundings.combine, slots.len() + 1, shared.abs());
        (scaled_bound(slots, routed, scale, sum), steps)
    };
    let bound = of_routed + error;
    if bound == f64::INFINITY {
        return bound;
    }
    if !routed.is_finite() || !shared.is_finite() {
        return 0.0;
    }
    let bound = bound + added + sum.output.error(value);
    let size = scale.abs() * of_slots().map(f64::abs).sum::<f64>() + shared.abs();
    if size + bound <= 0.5 * sum.roundings.max {
        bound
    } else {
        f64::INFINITY
    }
}

/// The bound of value = scale · Σ row · weight over the kept slots of a token, those of one expert next to each other.
pub(super) fn scaled_bound(slots: &[Slot], value: f64, scale: f64, sum: SumRoundings) -> f64 {
    if scale == 1.0 {
        return combination_bound(slots, value, sum);
    }
    let terms = || slots.iter().map(|slot| slot.value * slot.weight);
    let bound = scale.abs() * combination_bound(slots, terms().sum(), sum);
    if !value.is_finite() || bound == f64::INFINITY {
        return bound;
    }
    let root = terms().map(|term| term * term).sum::<f64>().sqrt();
    let bound = bound + 3.0 * sum.output.error(value) + LAMBDA * sum.weight.unit * scale.abs() * root;
    if value.abs() + bound <= 0.5 * sum.roundings.max {
        bound
    } else {
        f64::INFINITY
    }
}

/// The bound of value = Σ row · weight over the kept slots of a token, those of one expert next to each other.
pub(super) fn combination_bound(slots: &[Slot], value: f64, sum: SumRoundings) -> f64 {
    if is_exact(slots, value, sum) {
        return 0.0;
    }
    let roundings = sum.roundings;
    let mut terms = Terms::new(roundings);
    for slot in slots {
        terms.add(slot.value, slot.error, slot.shifted(roundings), slot.weight);
    }
    let of_experts = slots.chunk_by(|one, other| one.expert == other.expert);
    for rows in of_experts.filter(|rows| rows.len() > 1) {
        terms.repeat(rows.iter().map(|slot| slot.weighted_error(roundings)));
    }
    let (between, number) = (roundings.between, slots.len() as f64);
    let products = LAMBDA.min(number.sqrt()) * between.unit * terms.root + number * between.step;
    let stored = products + sum.output.error(value) + lost_weights(slots, roundings);
    let stored = stored + shifted(slots, roundings);
    terms.bound(
        value,
        slots.len(),
        stored,
        roundings.spread(),
        roundings.combine,
        roundings,
    )
}

/// What the shift of the products leaves in the sum, where operands are cut.
fn shifted(slots: &[Slot], Roundings { operand, .. }: Roundings) -> f64 {
    if operand.unit == 0.0 {
        return 0.0;
    }
    let of = |product: usize| slots.iter().map(|slot| slot.shifts[product] * slot.weight).sum::<f64>();
    COMMON * operand.unit * (of(0).abs() + of(1).abs())
}

/// The error of weights and rows that are taken as 0 below the smallest normal value.
fn lost_weights(slots: &[Slot], Roundings { flushes, store, .. }: Roundings) -> f64 {
    let lost = |value: f64| if value.abs() < store.step { value.abs() } else { 0.0 };
    let of_slot = |slot: &Slot| lost(slot.weight) * (slot.value.abs() + slot.error) + store.step * slot.weight.abs();
    if flushes { slots.iter().map(of_slot).sum() } else { 0.0 }
}

/// Whether neither a product nor the sum is rounded.
fn is_exact(slots: &[Slot], value: f64, sum: SumRoundings) -> bool {
    let Roundings {
        between, combine, max, ..
    } = sum.roundings;
    let is_stored = |slot: &Slot| slot.error * slot.weight == 0.0 && between.represents(slot.value * slot.weight);
    if !value.is_finite() || !slots.iter().all(is_stored) {
        return false;
    }
    let mut exact = ExactSum::EMPTY;
    slots.iter().for_each(|slot| exact.add(slot.value, slot.weight));
    exact.fits(combine, max) && sum.output.represents(value)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{EXACT, assert_close, unit};
    use super::*;
    use crate::oracle::Rounding;

    const fn slot(value: f64, error: f64, weight: f64) -> Slot {
        Slot {
            expert: 0,
            value,
            error,
            weight,
            shifts: [0.0; 2],
        }
    }

    /// Those of the layer of gpt-oss.
    fn usual(roundings: Roundings) -> SumRoundings {
        SumRoundings::new(roundings, &Layer::GPT_OSS)
    }

    /// The element type has steps of 2^-10, and the sum over the slots is added up in steps of 2^-20.
    const STORED: Roundings = Roundings {
        store: unit(1.0 / 1024.0),
        between: unit(1.0 / 1024.0),
        combine: unit(1.0 / 1048576.0),
        ..EXACT
    };

    fn shared(slots: &[Slot], shared: (f64, f64), scale: f64, roundings: Roundings) -> f64 {
        let routed: f64 = slots.iter().map(|slot| slot.value * slot.weight).sum();
        bound_with_shared(slots, shared, scale * routed + shared.0, scale, usual(roundings))
    }

    #[test]
    fn the_bounds_of_routed_and_shared_experts_add_up_and_their_sum_is_stored() {
        let slots = [slot(1.0 / 3.0, 0.25, 3.0), slot(2.0 / 3.0, 0.0, 1.5)];
        let row = 0.7;
        for scale in [1.0, -2.0] {
            let routed = scaled_bound(&slots, scale * 2.0, scale, usual(STORED));
            let steps = 3.0 * 3f64.sqrt() * (1.0 / 1048576.0 + Rounding::F64.unit) * row;
            let stored = (scale * 2.0 + row).abs() / 1024.0;
            assert_close(
                shared(&slots, (row, 0.125), scale, STORED),
                routed + 0.125 + steps + stored,
            );
        }
        // Where nothing is kept the row alone is stored.
        assert_close(shared(&[], (row, 0.125), -2.0, STORED), 0.125 + row / 1024.0);
    }

    #[test]
    fn a_sum_with_shared_experts_is_exact_where_each_part_is() {
        let slots = [slot(5.0, 0.0, 3.0)];
        assert_eq!(shared(&slots, (2.0, 0.0), 1.0, STORED), 0.0);
        assert_eq!(shared(&[], (2.0, 0.0), 3.0, STORED), 0.0);
        assert!(shared(&slots, (2.0, 0.5), 1.0, STORED) > 0.5);
        // 15 and 2^-10 are values of 10 bits, and their sum is none.
        assert!(shared(&slots, (1.0 / 1024.0, 0.0), 1.0, STORED) > 0.0);
        // 1025 has eleven bits, and 1024 one.
        let sum_of_more_bits = [slot(1024.0, 0.0, 1.0), slot(1.0, 0.0, 1.0)];
        assert!(shared(&sum_of_more_bits, (-1.0, 0.0), 1.0, STORED) > 0.0);
        // A factor is rounded.
        assert!(shared(&slots, (2.0, 0.0), 2.0, STORED) > 0.0);
    }

    #[test]
    fn a_sum_with_shared_experts_near_the_largest_value_is_open() {
        let of = |value: f64, row: f64, max: f64| {
            shared(&[slot(value, 0.0, 1.0)], (row, 0.0), 1.0, Roundings { max, ..STORED })
        };
        let third = 1.0 / 3.0;
        assert!(of(third, -third, 2.0).is_finite());
        // The sum is 0, but the terms are beyond half of the largest value.
        assert_eq!(of(third, -third, 1.2), f64::INFINITY);
        // What is not a number is met exactly, and so is an infinity.
        for (value, row) in [
            (f64::NAN, third),
            (third, f64::NAN),
            (f64::INFINITY, third),
            (third, f64::INFINITY),
        ] {
            assert_eq!(of(value, row, 2.0), 0.0, "{value} {row}");
        }
        let open = shared(&[slot(third, f64::INFINITY, 1.0)], (f64::NAN, 0.0), 1.0, STORED);
        assert_eq!(open, f64::INFINITY);
    }

    /// Two experts, each in slots whose weights have one sign: their rows err as a whole, to any side.
    #[test]
    fn the_slots_of_an_expert_err_together() {
        let slot = |expert: usize, error: f64, weight: f64| Slot {
            expert,
            value: 1.0,
            error,
            weight,
            shifts: [0.0; 2],
        };
        let of = |slots: &[Slot]| combination_bound(slots, 0.0, usual(EXACT));
        let opposite = [
            slot(0, 0.5, 3.0),
            slot(0, 0.5, 4.0),
            slot(1, 1.0, -2.0),
            slot(1, 1.0, -1.5),
        ];
        // The sums of the errors of both are 3.5 and −3.5: their root alone is left.
        assert_close(of(&opposite), 3.5 * 2f64.sqrt());
        // Of weights that cancel the errors may still be of their own.
        assert_close(of(&[slot(0, 0.5, 3.0), slot(0, 0.5, -3.0)]), 0.5 * 18f64.sqrt());
    }

    /// ⅓·9 − ⅔·3 = 1, times −2. Thirds have too many bits for the sum to be exact.
    const SLOTS: [Slot; 2] = [slot(1.0 / 3.0, 0.0, 9.0), slot(2.0 / 3.0, 0.0, -3.0)];

    #[test]
    fn a_factor_on_the_sum_multiplies_its_bound_and_is_rounded_itself() {
        let roundings = Roundings {
            store: Rounding {
                unit: 1.0 / 64.0,
                step: 1.0 / 1024.0,
            },
            ..EXACT
        };
        let sum = 1.0 / 64.0 + 1.0 / 1024.0;
        // The sum, the product and the factor; or each weight times the factor.
        let factor = 3.0 * (2.0 / 64.0 + 1.0 / 1024.0) + 3.0 / 64.0 * 2.0 * 13f64.sqrt();
        let of = |value: f64, scale: f64, max: f64| {
            scaled_bound(&SLOTS, value, scale, usual(Roundings { max, ..roundings }))
        };
        assert_close(of(-2.0, -2.0, f64::MAX), 2.0 * sum + factor);
        assert_close(of(1.0, 1.0, f64::MAX), sum);
        // Within half of the largest value nothing overflows.
        let largest = 2.0 + 2.0 * sum + factor;
        assert_close(of(-2.0, -2.0, 2.001 * largest), 2.0 * sum + factor);
        assert_eq!(of(-2.0, -2.0, 1.999 * largest), f64::INFINITY);
        // What is not a number is met exactly.
        let not_a_number = [SLOTS[0], slot(f64::NAN, 0.0, 1.0)];
        assert_eq!(scaled_bound(&not_a_number, f64::NAN, 2.0, usual(roundings)), 0.0);
    }

    #[test]
    fn weights_below_the_smallest_normal_value_may_be_lost_and_so_may_what_they_multiply() {
        let flush = Roundings {
            store: Rounding { unit: 0.0, step: 0.5 },
            flushes: true,
            ..EXACT
        };
        // The weight of ¼ is lost with its row of ⅔ ± ⅛, that of ½ is not; each row loses ½ times its weight. The error
        // counts three times as a root, and once as a sum; the sum is stored.
        let slots = [slot(1.0 / 3.0, 0.0, 0.5), slot(2.0 / 3.0, 0.125, 0.25)];
        let lost = 0.25 * (2.0 / 3.0 + 0.125) + 0.5 * (0.5 + 0.25);
        assert_close(
            combination_bound(&slots, 1.0 / 3.0, usual(flush)),
            lost + 4.0 * 0.125 * 0.25 + 0.5,
        );
    }

    #[test]
    fn the_shift_of_a_row_is_multiplied_by_its_weight() {
        let roundings = Roundings {
            operand: unit(1.0 / 1024.0),
            ..EXACT
        };
        let shifted = Slot {
            error: 1.5 / 1024.0 * 3.0,
            shifts: [1.0, 2.0],
            ..slot(1.0 / 3.0, 0.0, 4.0)
        };
        assert_close(
            combination_bound(&[shifted], 4.0 / 3.0, usual(roundings)),
            4.0 * 1.5 / 1024.0 * 3.0,
        );
    }

    #[test]
    fn slots_whose_products_and_sum_are_stored_as_they_are_are_exact() {
        let roundings = Roundings {
            between: unit(1.0 / 16.0),
            ..EXACT
        };
        // Of a weight of 0 no error is left.
        assert_eq!(
            combination_bound(&[slot(5.0, 0.0, 3.0), slot(1.0, 0.5, 0.0)], 15.0, usual(roundings)),
            0.0
        );
        assert!(combination_bound(&[slot(5.0, 0.0, 7.0)], 35.0, usual(roundings)) > 0.0);
        assert!(combination_bound(&[slot(5.0, 0.5, 3.0)], 15.0, usual(roundings)) > 0.0);
    }
}
