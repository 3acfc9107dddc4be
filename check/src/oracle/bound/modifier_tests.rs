//! What each modifier adds to a bound, or takes from it, worked by hand.

use binned_experts_reference::{Activation, Layer};

use super::combination::{Slot, SumRoundings, combination_bound};
use super::tests::{COLUMN, EXACT, X, affine, assert_close, stored, swiglu_bound, unit};
use crate::case::ElementType;
use crate::oracle::{Precision, Rounding, Roundings};

fn sum_bound(slots: &[Slot], value: f64, roundings: Roundings) -> f64 {
    combination_bound(slots, value, SumRoundings::new(roundings, &Layer::GPT_OSS))
}

fn of(precision: &str, element: ElementType) -> Roundings {
    Roundings::new(precision.parse::<Precision>().unwrap(), element)
}

#[test]
fn a_modifier_changes_nothing_where_sums_are_as_fine_as_what_is_stored() {
    for (preset, element) in [
        ("fp64", ElementType::F64),
        ("fp32", ElementType::F32),
        ("tf32", ElementType::F32),
    ] {
        let plain = of(preset, element);
        for modifier in ["slots-in-element", "sums-in-element", "fused"] {
            assert_eq!(of(&format!("{preset}+{modifier}"), element), plain);
        }
    }
}

#[test]
fn each_modifier_has_a_place() {
    let plain = of("bf16", ElementType::Bf16);
    let bf16 = |modifier: &str| of(&format!("bf16+{modifier}"), ElementType::Bf16);
    let (bf16_rounding, f32_rounding) = (Rounding::BF16, Rounding::F32);
    let expected = Roundings {
        combine: bf16_rounding,
        ..plain
    };
    assert_eq!(bf16("slots-in-element"), expected);
    let expected = Roundings {
        partial: bf16_rounding,
        ..plain
    };
    assert_eq!(bf16("partials-in-element"), expected);
    let expected = Roundings {
        accumulate: bf16_rounding,
        ..plain
    };
    assert_eq!(bf16("sums-in-element"), expected);
    let expected = Roundings {
        sigmoid_error: 4.0 / 256.0,
        ..plain
    };
    assert_eq!(bf16("absolute-sigmoid"), expected);
    let expected = Roundings {
        between: f32_rounding,
        activated: bf16_rounding,
        ..plain
    };
    assert_eq!(bf16("fused"), expected);
    let flush = bf16("flush");
    let smallest_normal = f64::from(f32::MIN_POSITIVE);
    for rounding in [
        flush.operand,
        flush.accumulate,
        flush.between,
        flush.combine,
        flush.store,
    ] {
        assert_eq!(rounding.step, smallest_normal);
    }
    assert_eq!((flush.partial, flush.activated), (Rounding::NONE, Rounding::NONE));
    assert!(flush.flushes && !plain.flushes);
    // What another modifier stores is flushed as well.
    assert_eq!(bf16("fused+flush").activated.step, smallest_normal);
    assert_eq!(bf16("partials-in-element+flush").partial.step, smallest_normal);
    assert_eq!(of("f16+flush", ElementType::F16).store.step, 2f64.powi(-14));
    assert_eq!(of("tf32+flush", ElementType::F32).operand.step, smallest_normal);
}

#[test]
fn slots_are_rounded_one_by_one() {
    let slot = |value: f64, weight: f64| Slot {
        expert: 0,
        value,
        error: 0.0,
        weight,
        shifts: [0.0; 2],
    };
    let slots = [
        slot(1.0 / 3.0, 9.0),
        slot(2.0 / 3.0, -3.0),
        slot(2.0 / 3.0, 1.5),
        slot(0.0, 1.0),
    ];
    let roundings = Roundings {
        combine: unit(1.0 / 64.0),
        ..EXACT
    };
    let expected = 3.0 * 2.0 * (2.0 + 14f64.sqrt()) / 64.0;
    assert_close(sum_bound(&slots, 2.0, roundings), expected);
}

#[test]
fn the_sums_of_parts_are_rounded_as_steps_of_a_short_sum() {
    let roundings = Roundings {
        partial: unit(1.0 / 64.0),
        ..EXACT
    };
    // Three products and a bias are four parts at most.
    let of_four = 3.0 * 2.0 * (2.0 + 14f64.sqrt()) / 64.0;
    assert_close(affine(X, COLUMN, 0.0, 0.0, roundings), of_four);
    let many = affine([(0.1, 0.0); 40], [1.0; 40], 0.0, 0.0, roundings);
    assert_close(many, 3.0 * 4.0 * (4.0 + 0.4f64.sqrt()) / 64.0);
    let roundings = Roundings {
        partial: Rounding { unit: 0.0, step: 0.125 },
        ..EXACT
    };
    assert_close(affine(X, COLUMN, 0.0, 0.0, roundings), 3.0 * 2.0 * 0.125);
}

/// Four terms of half a step each are lost together.
#[test]
fn a_coarse_accumulator_loses_small_terms_to_one_side() {
    let roundings = Roundings {
        accumulate: unit(0.5),
        ..EXACT
    };
    let expected = 3.0 * 2.0 * (4.0 * 0.5) * 0.5 * (2.0 + 14f64.sqrt());
    assert_close(affine(X, COLUMN, 0.0, 0.0, roundings), expected);
}

const TWO: Activation = Activation {
    alpha: 2.0,
    limit: 50.0,
};

#[test]
fn an_absolute_error_of_the_sigmoid_does_not_fall_with_it() {
    let roundings = Roundings {
        sigmoid_error: 1.0 / 1024.0,
        ..EXACT
    };
    for gate in [0.5, -20.0] {
        let more = swiglu_bound((gate, 0.0), (-3.0, 0.0), 0.0, TWO, roundings)
            - swiglu_bound((gate, 0.0), (-3.0, 0.0), 0.0, TWO, EXACT);
        assert_close(more, 3.0 * gate.abs() / 1024.0);
    }
}

#[test]
fn a_fused_kernel_rounds_the_activation_once() {
    let fused = Roundings {
        activated: unit(1.0 / 1024.0),
        store: unit(1.0 / 1024.0),
        ..EXACT
    };
    assert_close(swiglu_bound((0.5, 0.0), (-3.0, 0.0), 8.0, TWO, fused), 8.0 / 1024.0);
    // What an error of the gate leaves is rounded with the activation.
    let moved = swiglu_bound((0.5, 0.25), (-3.0, 0.0), 8.0, TWO, EXACT);
    let rounded = swiglu_bound((0.5, 0.25), (-3.0, 0.0), 8.0, TWO, fused);
    assert_close(rounded, moved + (8.0 + moved) / 1024.0);
    // Nothing that leaves a product is rounded, and of the slots only their sum.
    assert_close(affine(X, COLUMN, 5.0, 0.0, fused), 0.0);
    let slot = Slot {
        expert: 0,
        value: 1.0 / 3.0,
        error: 0.0,
        weight: 3.0,
        shifts: [0.0; 2],
    };
    assert_close(sum_bound(&[slot], 1.0, fused), 1.0 / 1024.0);
    assert_close(sum_bound(&[slot], 1.0, stored(unit(1.0 / 1024.0))), 2.0 / 1024.0);
}

#[test]
fn what_is_flushed_is_lost_to_one_side() {
    let step = |step: f64| Rounding { unit: 0.0, step };
    let flush = Roundings {
        operand: step(0.5),
        flushes: true,
        ..EXACT
    };
    // A quarter of x and an eighth of the weights are lost: ¼ · 3 + ⅛ · 2.
    assert_close(affine([(0.25, 0.0), (2.0, 0.0)], [3.0, 0.125], 0.0, 0.0, flush), 1.0);
    // An x that may be below ½ loses at most ½, besides what its own error makes, three times as a root.
    assert_close(affine([(0.75, 0.5)], [2.0], 0.0, 0.0, flush), 3.0 + 1.0 + 0.5 * 2.0);
    // A weight that is lost takes an x of 2 ± ½ with it.
    assert_close(
        affine([(2.0, 0.5)], [0.125], 0.0, 0.0, flush),
        4.0 * 0.5 * 0.125 + 0.125 * 2.5,
    );
    let flush = Roundings {
        accumulate: step(0.125),
        flushes: true,
        ..EXACT
    };
    // A product and a sum for each of four terms.
    assert_close(affine(X, COLUMN, 0.0, 0.0, flush), 2.0 * 4.0 * 0.125);
}

/// Slots whose rows cancel where their shifts add up.
#[test]
fn the_shift_of_cut_operands_keeps_its_sign_over_the_slots() {
    let roundings = Roundings {
        operand: unit(1.0 / 1024.0),
        ..EXACT
    };
    let slot = |value: f64, weight: f64, shifts: [f64; 2]| Slot {
        expert: 0,
        value,
        error: 1.5 / 1024.0 * (shifts[0].abs() + shifts[1].abs()),
        weight,
        shifts,
    };
    let of = |slots: [Slot; 2]| sum_bound(&slots, 2.0 / 3.0, roundings);
    // The whole error of each is its shift: nothing is left of it but the shift of the sum.
    let adding = of([slot(1.0 / 3.0, 1.0, [1.0, 2.0]), slot(-1.0 / 3.0, -1.0, [-1.0, -2.0])]);
    assert_close(adding, 1.5 / 1024.0 * (2.0 + 4.0));
    let cancelling = of([slot(1.0 / 3.0, 1.0, [1.0, 2.0]), slot(1.0 / 3.0, 1.0, [-1.0, -2.0])]);
    assert_close(cancelling, 0.0);
}
