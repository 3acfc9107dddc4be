//! relu(gate)².

use super::at_least;
use crate::Element;

pub(super) fn value<T: Element>(gate: T) -> T {
    let positive = at_least(gate, T::ZERO).widen();
    T::narrow(positive * positive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_by_hand() {
        assert_eq!([-3.0f32, 0.0, 1.5].map(value), [0.0, 0.0, 2.25]);
        assert!(value(f32::NAN).is_nan());
        assert_eq!(value(f32::NEG_INFINITY), 0.0);
        assert_eq!(value(1e30f32), f32::INFINITY);
    }
}
