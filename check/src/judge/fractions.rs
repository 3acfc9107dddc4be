//! Small cases in place of a sampled one.

use super::smaller::{in_proportion, keep_experts, keep_tokens};
use crate::case::CaseSpec;
use crate::domain::{Domain, Sizes};

/// By what the sizes are divided.
const FRACTIONS: [usize; 3] = [128, 32, 8];

/// Cases of a fraction of the sizes of a sampled one, all of whose tokens are judged, the smallest first.
pub(super) fn fractions(spec: &CaseSpec, domain: &Domain) -> Vec<CaseSpec> {
    let axes = domain.with_layer(spec.layer).axes();
    let of = |admitted: &Sizes, size: usize, part: usize| admitted.at_least(size.div_ceil(part));
    let fraction = |tokens: usize, sides: usize, experts: usize| {
        let mut small = spec.clone();
        small.sampled = false;
        keep_tokens(&mut small, 0..of(&domain.tokens, spec.tokens(), tokens)?);
        small.hidden = of(&axes.hidden, spec.hidden, sides)?;
        small.intermediate = of(&axes.intermediate, spec.intermediate, sides)?;
        keep_experts(&mut small, of(&domain.experts, spec.experts, experts)?);
        small.capacity = of(&domain.capacity, in_proportion(spec.capacity, experts, tokens), 1)?;
        Some(small)
    };
    let mut all = Vec::new();
    for sides in FRACTIONS {
        for (tokens, experts) in FRACTIONS.into_iter().flat_map(|tokens| [(tokens, tokens), (tokens, 1)]) {
            all.extend(fraction(tokens, sides, experts));
        }
    }
    all.retain(|small| small.tokens() > 0 && domain.admits(small).is_ok());
    all
}
