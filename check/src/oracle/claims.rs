//! Which claims there are.

use super::{Modifier, Precision, Roundings};
use crate::case::ElementType;

/// The claims on cases of an element type that are as coarse as its own arithmetic or coarser, each after those that it
/// [admits](Precision::admits). Of claims that mean the same roundings there is the one with the fewest modifiers.
pub(crate) fn claims_on(element: ElementType) -> Vec<Precision> {
    let own = Precision::of(element);
    let plain = std::iter::once(own).chain(own.coarser());
    let mut all: Vec<Precision> = plain.flat_map(modified).collect();
    all.sort_by_key(|claim| claim.modifiers().count());
    let mut claims: Vec<(Precision, Roundings)> = Vec::new();
    for claim in all {
        let roundings = Roundings::new(claim, element);
        if claims.iter().all(|(_, known)| *known != roundings) {
            claims.push((claim, roundings));
        }
    }
    let mut claims: Vec<Precision> = claims.into_iter().map(|(claim, _)| claim).collect();
    let of = claims.clone();
    claims.sort_by_key(|claim| of.iter().filter(|other| claim.admits(**other)).count());
    claims
}

/// A preset with every set of modifiers that go together.
fn modified(plain: Precision) -> Vec<Precision> {
    Modifier::ALL.iter().fold(vec![plain], |claims, modifier| {
        let more = claims.iter().filter_map(|claim| claim.with(*modifier).ok());
        claims.iter().copied().chain(more).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_come_after_those_that_they_admit() {
        for &element in ElementType::ALL {
            let claims = claims_on(element);
            for (at, claim) in claims.iter().enumerate() {
                assert!(claim.admits(*claim));
                assert!(claims[at + 1..].iter().all(|later| !claim.admits(*later)), "{claim}");
            }
        }
    }

    #[test]
    fn claims_that_differ_are_there_once() {
        let names = |element| -> Vec<String> {
            let claims = claims_on(element).into_iter();
            claims.map(|claim| claim.to_string()).collect()
        };
        assert_eq!(names(ElementType::Bf16)[..2], ["bf16+fused", "bf16"]);
        assert_eq!(names(ElementType::Bf16).len(), 32);
        // Sums over the slots and stored results are in f32 by themselves.
        assert_eq!(names(ElementType::F32)[0], "fp32");
        assert!(!names(ElementType::F32).contains(&"fp32+fused".to_owned()));
        assert!(!names(ElementType::F32).contains(&"fp32+slots-in-element".to_owned()));
    }
}
