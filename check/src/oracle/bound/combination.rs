//! The bound of an element of the output.

use super::LAMBDA;
use super::exact::ExactSum;
use super::terms::Terms;
use crate::oracle::Roundings;

/// What a kept slot adds to an element: (value ± error) · weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The element of the expert's row.
    pub(super) value: f64,
    pub(super) error: f64,
    pub(super) weight: f64,
}

/// The bound of value = Σ row · weight over the kept slots of a token.
pub(super) fn combination_bound(slots: &[Slot], value: f64, roundings: Roundings) -> f64 {
    let Roundings { store, .. } = roundings;
    if is_exact(slots, value, roundings) {
        return 0.0;
    }
    let mut terms = Terms::default();
    for slot in slots {
        terms.add(slot.value, slot.error, slot.weight);
    }
    let products = LAMBDA.min((slots.len() as f64).sqrt()) * store.unit * terms.root;
    let stored = products + slots.len() as f64 * store.step + store.error(value);
    terms.bound(value, slots.len(), stored, roundings)
}

/// Whether neither a product nor the sum is rounded.
fn is_exact(slots: &[Slot], value: f64, roundings: Roundings) -> bool {
    let Roundings { store, .. } = roundings;
    let is_stored = |slot: &Slot| slot.error * slot.weight == 0.0 && store.represents(slot.value * slot.weight);
    if !value.is_finite() || !slots.iter().all(is_stored) {
        return false;
    }
    let mut sum = ExactSum::EMPTY;
    slots.iter().for_each(|slot| sum.add(slot.value, slot.weight));
    sum.fits(roundings) && store.represents(value)
}
