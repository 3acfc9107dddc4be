//! The bounds of sums over the slots with wide routing weights and outputs, worked by hand.

use binned_experts_reference::{Layer, TensorType};

use super::combination::{Slot, SumRoundings, combination_bound, scaled_bound};
use super::tests::{assert_close, bounds, stored, unit, zero_token};
use super::*;
use crate::case::ElementType;
use crate::oracle::{Precision, Rounding};

/// The element type has steps of 2^-10, the wide one of 2^-20.
const COARSE: f64 = 1.0 / 1024.0;
const FINE: f64 = COARSE * COARSE;
const ROUNDINGS: Roundings = Roundings {
    wide: Some(unit(FINE)),
    ..stored(unit(COARSE))
};

const WEIGHTS: Layer = Layer {
    routing_weight_type: TensorType::Wide,
    ..Layer::GPT_OSS
};
const OUTPUT: Layer = Layer {
    output_type: TensorType::Wide,
    ..Layer::GPT_OSS
};
const BOTH: Layer = Layer {
    output_type: TensorType::Wide,
    ..WEIGHTS
};

fn slot(expert: usize, value: f64, error: f64, weight: f64) -> Slot {
    Slot {
        expert,
        value,
        error,
        weight,
        shifts: [0.0; 2],
    }
}

/// Rows of 1.5 and 2 with weights of 1/3 each, which no rounding here holds.
fn of(errors: [f64; 2], layer: &Layer) -> f64 {
    let slots = [slot(0, 1.5, errors[0], 1.0 / 3.0), slot(1, 2.0, errors[1], 1.0 / 3.0)];
    let bound = combination_bound(&slots, 3.5 / 3.0, SumRoundings::new(ROUNDINGS, layer));
    let propagated = (errors[0] / 3.0).hypot(errors[1] / 3.0) + (errors[0] + errors[1]) / 3.0;
    bound - propagated
}

#[test]
fn the_output_is_rounded_to_its_own_type() {
    let products = 2f64.sqrt() * 0.5f64.hypot(2.0 / 3.0) * COARSE;
    let sum = 3.5 / 3.0;
    assert_close(of([0.0, 0.0], &Layer::GPT_OSS), products + sum * COARSE);
    assert_close(of([0.0, 0.0], &OUTPUT), products + sum * FINE);
}

/// A product is rounded as a row is, whatever the type of its weight.
#[test]
fn a_wide_weight_leaves_the_rounding_of_its_product() {
    let products = 2f64.sqrt() * 0.5f64.hypot(2.0 / 3.0) * COARSE;
    for errors in [[0.0, 0.0], [0.01, 0.02]] {
        assert_close(of(errors, &WEIGHTS), products + 3.5 / 3.0 * COARSE);
        assert_close(of(errors, &BOTH), products + 3.5 / 3.0 * FINE);
    }
}

/// Weights times the factor are rounded to the type of the weights, all else to that of the output.
#[test]
fn a_factor_is_rounded_with_the_weights_or_with_the_output() {
    let slots = [slot(0, 1.5, 0.01, 1.0 / 3.0)];
    let of = |layer: &Layer| {
        let sum = SumRoundings::new(ROUNDINGS, layer);
        scaled_bound(&slots, 1.0, 2.0, sum) - 2.0 * combination_bound(&slots, 0.5, sum)
    };
    assert_close(of(&Layer::GPT_OSS), 3.0 * COARSE + 3.0 * COARSE);
    assert_close(of(&OUTPUT), 3.0 * FINE + 3.0 * COARSE);
    assert_close(of(&BOTH), 3.0 * FINE + 3.0 * FINE);
}

/// Beside f32 and f64 a wide tensor is of the element type, whatever the claim.
#[test]
fn types_count_beside_16_bits_alone() {
    for element in [ElementType::F32, ElementType::F64] {
        for precision in [Precision::FP32, Precision::BF16, Precision::F16] {
            assert_eq!(Roundings::new(precision, element).wide, None);
        }
    }
    for element in [ElementType::Bf16, ElementType::F16] {
        let roundings = Roundings::new(Precision::of(element), element);
        assert_eq!(roundings.wide, Some(Rounding::F32));
        assert_eq!(
            (roundings.output(&OUTPUT), roundings.output(&WEIGHTS)),
            (Rounding::F32, roundings.store)
        );
    }
    let slots = [slot(0, 1.5, 0.0, 1.0 / 3.0)];
    let bound = |layer| combination_bound(&slots, 0.5, SumRoundings::new(stored(unit(COARSE)), layer));
    assert_eq!(bound(&BOTH), bound(&Layer::GPT_OSS));
}

/// 257 has nine bits: one too many for an output of bf16, and none too many for one of f32.
#[test]
fn a_wide_output_is_met_exactly_where_rows_are() {
    let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
    let of = |layer: Layer| {
        let inputs = Inputs {
            layer,
            ..zero_token([256.0, 1.0, 0.0], [1.0; 3])
        };
        let (definition, bounds) = bounds(&inputs, bf16);
        (definition.output[[0, 0]], bounds.output[[0, 0]])
    };
    assert!(of(Layer::GPT_OSS).1 > 0.0);
    assert_eq!(of(OUTPUT), (257.0, 0.0));
}
