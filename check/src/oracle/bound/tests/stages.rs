//! The stages, each with the bounds of the one before.

use super::*;

#[test]
fn biases_that_cancel_over_the_slots_are_met_exactly() {
    let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
    let of = |biases, weights| {
        let (definition, bounds) = bounds(&zero_token(biases, weights), bf16);
        (definition.output[[0, 0]], bounds.output[[0, 0]])
    };
    let (value, bound) = of([256.0, 1.0, -256.0], [1.0; 3]);
    assert_eq!((value, bound), (1.0, 0.0));
    // Summed in bf16, 256 + 1 is 256.
    assert_eq!(share_used(0.0, value, bound), None);
    assert_eq!(share_used(1.0, value, bound), Some(0.0));
    // The sum, or the product that is stored, has nine bits.
    assert!(of([256.0, 1.0, 0.0], [1.0; 3]).1 > 0.0);
    assert!(of([3.0, 1.0, 0.0], [171.0, 1.0, 1.0]).1 > 0.0);
    // A quantum of 2^-17 below 256 does not fit f32.
    assert!(of([256.0, 2f64.powi(-17), -256.0], [1.0; 3]).1 > 0.0);
    assert_eq!(of([64.0, 2f64.powi(-16), -64.0], [1.0; 3]).1, 0.0);
}

#[test]
fn each_stage_takes_the_bounds_of_the_one_before() {
    let inputs = inputs();
    for roundings in [
        stored(unit(1.0 / 256.0)),
        stored(step(1.0 / 256.0)),
        Roundings {
            accumulate: unit(1.0 / 256.0),
            combine: unit(1.0 / 256.0),
            ..EXACT
        },
    ] {
        let (store, accumulate) = (roundings.store, roundings.accumulate.unit);
        let (definition, bounds) = bounds(&inputs, roundings);
        for flat in 0..4 {
            let (gate_up, error) = (definition.gate_up.row(flat), bounds.gate_up.row(flat));
            for (i, (gate, up)) in [(0, 1), (2, 3)].into_iter().enumerate() {
                let (gate, up) = ((gate_up[gate], error[gate]), (gate_up[up], error[up]));
                let expected = swiglu_bound(gate, up, definition.activated[[flat, i]], inputs.activation, roundings);
                assert_eq!(bounds.activated[[flat, i]], expected);
            }
            let expert = inputs.assignment(flat).2;
            for column in 0..2 {
                let effect = |i: usize| inputs.down_proj[[expert, i, column]] * bounds.activated[[flat, i]];
                let product = |i: usize| inputs.down_proj[[expert, i, column]] * definition.activated[[flat, i]];
                let value = definition.expert_output[[flat, column]];
                let sum: f64 = product(0) + product(1);
                let root = product(0).hypot(product(1));
                let expected = effect(0).hypot(effect(1))
                    + (effect(0) + effect(1)).abs()
                    + 8.0 * store.unit * sum.abs()
                    + store.unit * (sum.abs() + value.abs())
                    + 2.0 * store.step
                    + 3.0 * 3f64.sqrt() * accumulate * (sum.abs().max(value.abs()) + root);
                assert_close(bounds.expert_output[[flat, column]], expected);
            }
        }
        for (token, [first, second]) in [[0, 1], [2, 3]].into_iter().enumerate() {
            let weight = |flat| inputs.routing_weights[[token, inputs.assignment(flat).2]];
            for column in 0..2 {
                let effect = |flat| weight(flat) * bounds.expert_output[[flat, column]];
                let product = |flat| weight(flat) * definition.expert_output[[flat, column]];
                let value = definition.output[[token, column]].abs();
                let root = product(first).hypot(product(second));
                let expected = effect(first).hypot(effect(second))
                    + (effect(first) + effect(second)).abs()
                    + 2f64.sqrt() * store.unit * root
                    + store.unit * value
                    + 3.0 * store.step
                    + 3.0 * 2f64.sqrt() * accumulate * (value + root);
                assert_close(bounds.output[[token, column]], expected);
            }
        }
    }
}

#[test]
fn a_stage_has_bounds_of_its_own_unless_it_is_met_exactly() {
    let (_, bounds) = bounds(&inputs(), stored(unit(1.0 / 256.0)));
    for (stage, expected) in [
        (Stage::GateUp, Some(&bounds.gate_up)),
        (Stage::Activated, Some(&bounds.activated)),
        (Stage::ExpertOutput, Some(&bounds.expert_output)),
        (Stage::Output, Some(&bounds.output)),
        (Stage::SortedIndices, None),
        (Stage::Gathered, None),
    ] {
        assert_eq!(bounds.of(stage), expected, "{stage}");
    }
}

#[test]
fn a_weighted_feature_is_stored_as_a_result_and_as_an_operand() {
    let roundings = Roundings {
        between: unit(1.0 / 256.0),
        activated: unit(1.0 / 1024.0),
        max: 8.0,
        ..EXACT
    };
    let error = |value| weighted_error(value, roundings);
    assert_close(error(1.0 / 3.0), (1.0 / 256.0 + 1.0 / 1024.0) / 3.0);
    assert_close(error(-1.0 / 3.0), (1.0 / 256.0 + 1.0 / 1024.0) / 3.0);
    // One of the values of both, and one of the finer type alone.
    assert_eq!((error(1.5), error(0.0)), (0.0, 0.0));
    assert_close(
        error(1.0 + 1.0 / 512.0),
        (1.0 / 256.0 + 1.0 / 1024.0) * (1.0 + 1.0 / 512.0),
    );
    // Beyond half of the largest value an overflow is open.
    assert_eq!((error(4.0), error(4.5), error(-4.5)), (0.0, INF, INF));
    // What is not finite is met exactly.
    assert_eq!((error(INF), error(-INF), error(NAN)), (0.0, 0.0, 0.0));
}

#[test]
fn what_is_dropped_is_zero_and_to_be_met_exactly() {
    let mut inputs = inputs();
    inputs.dims.capacity = 1;
    let roundings = Roundings::new(Precision::FP32, ElementType::F32);
    // Token 1 finds both experts full.
    let (definition, bounds) = bounds(&inputs, roundings);
    assert_eq!(definition.kept, [true, true, false, false]);
    assert!(bounds.output.row(0).iter().all(|bound| *bound > 0.0));
    assert!(bounds.output.row(1).iter().all(|bound| *bound == 0.0));
    assert!(bounds.gate_up.row(2).iter().all(|bound| *bound == 0.0));
}

/// In f64 terms can be so small that their squares are 0. They count all the same.
#[test]
fn terms_whose_squares_underflow_count() {
    let fp64 = Roundings::new(Precision::FP64, ElementType::F64);
    let small = power_of_two(-600) / 3.0;
    let found = affine([(small, 0.0), (-small, 0.0)], [1.0, 1.0 - 1e-6], 0.0, 0.0, fp64);
    let root = 2f64.sqrt() * small;
    let summed = 3.0 * 3f64.sqrt() * 2.0 * Rounding::F64.unit * root;
    assert!((found / summed - 1.0).abs() < 1e-3, "{found}, {summed}");
}
