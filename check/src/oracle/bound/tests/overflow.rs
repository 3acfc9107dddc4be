//! A sum that overflows, or may.

use super::*;

/// A sum that cannot overflow although its terms come near to it has the same parts.
#[test]
fn near_overflow_a_bound_has_the_same_parts() {
    let small = Roundings { max: 1024.0, ..EXACT };
    let (column, sum, bias) = ([1.0, -1.0], 100.0, 50.0);
    let exact = [(400.0, 0.0), (300.0, 0.0)];
    let root = (400f64.powi(2) + 300f64.powi(2) + bias * bias).sqrt();
    let roundings = Roundings {
        accumulate: unit(1.0 / 1024.0),
        ..small
    };
    assert_close(
        affine(exact, column, bias, 0.0, roundings),
        3.0 * 3f64.sqrt() * (150.0 + root) / 1024.0,
    );
    let roundings = Roundings {
        max: small.max,
        ..stored(unit(1.0 / 64.0))
    };
    assert_close(affine(exact, column, bias, 0.0, roundings), (sum + 150.0) / 64.0);
    let roundings = Roundings {
        operand: unit(1.0 / 64.0),
        ..small
    };
    let operands = (3.0 * 2f64.sqrt() * root + 2.0 * sum) / 64.0;
    assert_close(affine(exact, column, bias, 0.0, roundings), operands);
    assert_close(affine(exact, column, bias, 0.125, small), 0.125 * sum);
    let uncertain = [(400.0, 4.0), (300.0, 1.0)];
    assert_close(affine(uncertain, column, bias, 0.0, small), 4f64.hypot(1.0) + 3.0);
}

#[test]
fn sums_that_can_overflow_accept_anything() {
    let small = Roundings { max: 1024.0, ..EXACT };
    // Twelve terms of 100 and four of −100: 1200 on the way to 800.
    let column = std::array::from_fn(|row| if row < 12 { 1.0 } else { -1.0 });
    assert_eq!(affine([(100.0, 0.0); 16], column, 0.0, 0.0, small), INF);
    // The bias, or an error, carries it over.
    assert_eq!(affine([(300.0, 0.0)], [1.0], 900.0, 0.0, small), INF);
    assert_eq!(affine([(0.5, 0.0)], [1.0], 1023.9, 0.0, small), INF);
    assert_eq!(affine([(300.0, 900.0)], [1.0], 0.0, 0.0, small), INF);
    assert_eq!(affine([(0.5, 1023.9)], [1.0], 0.0, 0.0, small), INF);
    // The roundings on the way do: 800 · (1 + 2 · 2 / 8).
    let roundings = Roundings {
        accumulate: unit(0.125),
        ..small
    };
    assert_eq!(affine([(800.0, 0.0)], [1.0], 0.0, 0.0, roundings), INF);
}

/// The bound of Σ (value ± error) · weight whose right value is `value`, with no roundings but those of `roundings`.
fn terms(terms: &[(f64, f64, f64)], value: f64, roundings: Roundings) -> f64 {
    let mut sum = Terms::new(roundings);
    for &(value, error, weight) in terms {
        sum.add(value, error, 0.0, weight);
    }
    sum.bound(
        value,
        terms.len(),
        0.0,
        roundings.spread(),
        roundings.accumulate,
        roundings,
    )
}

#[test]
fn an_infinite_weight_decides_where_the_sign_of_its_factor_is_certain() {
    assert_eq!(terms(&[(2.0, 0.0, INF)], INF, EXACT), 0.0);
    assert_eq!(terms(&[(-2.0, 1.0, INF)], -INF, EXACT), 0.0);
    assert_eq!(terms(&[(1.0, 1.0, INF)], INF, EXACT), INF);
    assert_eq!(terms(&[(1.0, 2.0, INF)], INF, EXACT), INF);
    assert_eq!(terms(&[(0.0, 0.0, INF)], NAN, EXACT), 0.0);
    assert_eq!(terms(&[(INF, 0.0, 2.0)], INF, EXACT), 0.0);
    assert_eq!(terms(&[(NAN, 0.0, 2.0), (1.0, 0.0, 1.0)], NAN, EXACT), 0.0);
}

#[test]
fn what_is_undecided_stays_so_whatever_its_weight() {
    assert_eq!(terms(&[(1.0, INF, 0.0), (1.0, 0.0, 1.0)], 1.0, EXACT), INF);
    assert_eq!(terms(&[(1e200, 0.0, 1e200)], INF, EXACT), INF);
    // An uncertain sign alone decides nothing.
    assert_close(terms(&[(1.0, 2.0, 3.0)], 3.0, EXACT), 6.0 + 6.0);
}

#[test]
fn the_terms_of_one_sign_overflow_together() {
    let small = Roundings { max: 1024.0, ..EXACT };
    let finite = |list: &[(f64, f64, f64)], value: f64| terms(list, value, small) < 1e4;
    for sign in [1.0, -1.0] {
        assert!(!finite(&[(600.0, 0.0, sign), (600.0, 0.0, sign)], 1200.0 * sign));
        assert!(finite(&[(600.0, 0.0, sign), (-600.0, 0.0, sign)], 0.0));
        assert!(finite(&[(512.0, 0.0, sign), (512.0, 0.0, sign)], 1024.0 * sign));
        // An error adds to both sides.
        assert!(!finite(&[(600.0, 0.0, sign), (-10.0, 500.0, sign)], 590.0 * sign));
        assert!(!finite(&[(600.0, 500.0, sign)], 600.0 * sign));
        assert!(!finite(&[(400.0, 150.0, 2.0 * sign)], 800.0 * sign));
    }
    assert!(finite(&[(1023.5, 0.0, 1.0)], 1023.5));
    assert!(terms(&[(3.0, 4.0, 1.0)], 3.0, Roundings { max: 10.0, ..EXACT }) < INF);
    assert!(terms(&[(1.5, 2.0, 4.0)], 6.0, Roundings { max: 15.0, ..EXACT }) < INF);
    // A NaN is right whatever the other terms are.
    assert_eq!(terms(&[(600.0, 0.0, 2.0), (NAN, 0.0, 1.0)], NAN, small), 0.0);
}

#[test]
fn what_may_be_flushed_beside_an_infinity_leaves_anything_right() {
    let flush = Roundings {
        store: step(0.5),
        flushes: true,
        ..EXACT
    };
    assert_eq!(terms(&[(0.25, 0.0, INF)], INF, flush), INF);
    assert_eq!(terms(&[(INF, 0.0, 0.25)], INF, flush), INF);
    // Neither the smallest normal value nor 0 is flushed, and nothing without the modifier.
    assert_eq!(terms(&[(0.5, 0.0, INF), (INF, 0.0, 0.5)], INF, flush), 0.0);
    assert_eq!(terms(&[(0.0, 0.0, INF)], NAN, flush), 0.0);
    assert_eq!(terms(&[(0.25, 0.0, INF), (INF, 0.0, 0.25)], INF, EXACT), 0.0);
    assert!(terms(&[(1.0, 0.0, 0.25)], 0.25, flush) < INF);
}

#[test]
fn roundings_can_carry_a_sum_over_the_largest_value() {
    let of_four = |size: f64, roundings| terms(&[(size / 4.0, 0.0, 1.0); 4], size, roundings);
    let small = Roundings { max: 1024.0, ..EXACT };
    // 1 + 2 · 4 / 16 = 1.5.
    let accumulate = Roundings {
        accumulate: unit(1.0 / 16.0),
        ..small
    };
    assert!(of_four(650.0, accumulate) < INF);
    assert_eq!(of_four(700.0, accumulate), INF);
    // 1 + 4 / 16 = 1.25.
    let store = Roundings {
        max: small.max,
        ..stored(unit(1.0 / 16.0))
    };
    assert!(of_four(800.0, store) < INF);
    assert_eq!(of_four(850.0, store), INF);
}
