//! A sum: the roundings of its steps, and where it is met exactly.

use super::*;

#[test]
fn a_sum_bears_the_roundings_of_its_steps() {
    let root = 14f64.sqrt();
    let roundings = Roundings {
        accumulate: unit(1.0 / 1024.0),
        ..EXACT
    };
    for (bias, size) in [(5.0, 7.0), (-10.0, 8.0), (-1.0, 2.0), (0.0, 2.0)] {
        // λ · sqrt(n) · u · (|S| + r) over three products and the bias.
        assert_close(
            affine(X, COLUMN, bias, 0.0, roundings),
            3.0 * 2.0 * (size + root) / 1024.0,
        );
    }
    let roundings = Roundings {
        accumulate: step(0.125),
        ..EXACT
    };
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), 3.0 * 2.0 * 0.125);
}

/// The f64 arithmetic of the oracle rounds as that of an engine of its class does.
#[test]
fn the_oracle_rounds_too() {
    let unit_of_f64 = power_of_two(-53);
    let bound = affine(X, COLUMN, 5.0, 0.0, EXACT) / unit_of_f64;
    assert_close(bound, 3.0 * 2.0 * (7.0 + 14f64.sqrt()));
    let roundings = Roundings {
        accumulate: Rounding::F64,
        ..EXACT
    };
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings) / unit_of_f64, 2.0 * bound);
}

#[test]
fn a_product_bears_the_roundings_of_its_operands() {
    let roundings = Roundings {
        operand: unit(0.25),
        ..EXACT
    };
    // u · (λ · sqrt(2) · r + 2·|S|).
    let expected = 0.25 * (3.0 * 2f64.sqrt() * 14f64.sqrt() + 2.0 * 2.0);
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), expected);
    let roundings = Roundings {
        operand: step(0.25),
        ..EXACT
    };
    // λ · t · sqrt(Σa² + Σb²).
    let expected = 3.0 * 0.25 * (1f64 + 92.25).sqrt();
    assert_close(affine(X, COLUMN, 5.0, 0.0, roundings), expected);
}

#[test]
fn a_product_and_its_bias_are_stored_once_each() {
    let store = Rounding {
        unit: 0.25,
        step: 0.125,
    };
    let roundings = stored(store);
    assert_close(
        affine(X, COLUMN, -5.0, 0.0, roundings),
        0.25 * (2.0 + 3.0) + 2.0 * 0.125,
    );
}

#[test]
fn errors_of_the_operands_propagate_as_if_independent_and_as_if_equal() {
    let x = [(1.0 / 3.0, 0.5 / 3.0), (2.0 / 3.0, 0.25 / 3.0), (2.0 / 3.0, 0.0)];
    // Their effects: 0.5 / 3 · 9 and 0.25 / 3 · −3.
    let propagated = 1.5f64.hypot(0.25) + 1.25;
    assert_close(affine(x, COLUMN, 5.0, 0.0, EXACT), propagated);
    assert_close(affine(x, COLUMN.map(|weight| -weight), 5.0, 0.0, EXACT), propagated);
    assert_close(affine(X, COLUMN, 5.0, 0.125, EXACT), 0.125 * 2.0);
    assert_close(affine(x, COLUMN, 5.0, 0.125, EXACT), propagated + 0.125 * 2.0);
    assert_eq!(affine([(1.0, INF), (2.0, 0.0)], [0.0, 1.0], 0.0, 0.0, EXACT), INF);
}

/// A sum of a few small integers is rounded nowhere.
#[test]
fn a_sum_of_small_integers_is_met_exactly() {
    let bf16 = Roundings::new(Precision::BF16, ElementType::Bf16);
    let of = |x: [f64; 3], column: [f64; 3], bias| affine(x.map(|x| (x, 0.0)), column, bias, 0.0, bf16);
    assert_eq!(of([0.0; 3], [0.1, 7.0, 1e30], 256.0), 0.0);
    assert_eq!(of([0.0, 1.0, 0.0], [0.1, -0.75, 3.0], 0.5), 0.0);
    assert_eq!(of([3.0, -2.0, 5.0], [1.0, 64.0, 0.5], 2.0), 0.0);
    // A term on the way to 1 is lost in a sum of 24 bits; of 23 it is kept.
    assert!(of([1.0, 1.0, 1.0], [2f64.powi(24), 1.0, -(2f64.powi(24))], 0.0) > 0.0);
    assert_eq!(of([1.0, 1.0, 1.0], [2f64.powi(22), 1.0, -(2f64.powi(22))], 0.0), 0.0);
    // 257 has nine bits: as a sum that is stored before its bias is added, and as a result.
    assert!(of([1.0, 1.0, 0.0], [256.0, 1.0, 0.0], -1.0) > 0.0);
    assert!(of([1.0, 0.0, 0.0], [256.0, 1.0, 0.0], 1.0) > 0.0);
    // What is known up to an error is rounded.
    assert!(affine([(1.0, 1e-9)], [1.0], 0.0, 0.0, bf16) > 0.0);
}

#[test]
fn operands_that_are_rounded_are_not_exact() {
    let tf32 = Roundings::new(Precision::TF32, ElementType::F32);
    let of = |x: f64, weight: f64| affine([(x, 0.0)], [weight], 0.0, 0.0, tf32);
    assert_eq!((of(1.0, 2047.0), of(2047.0, 1.0)), (0.0, 0.0));
    assert!(of(1.0, 2049.0) > 0.0 && of(2049.0, 1.0) > 0.0);
    let fp32 = Roundings::new(Precision::FP32, ElementType::F32);
    assert_eq!(affine([(1.0, 0.0)], [2049.0], 0.0, 0.0, fp32), 0.0);
}
