//! The sizes of published models, and of kernels written for one of them, are drawn.

use std::collections::BTreeSet;

use binned_experts_check::case::{Profile, SizeProfile, ValueProfile};
use binned_experts_check::{CaseSpec, Selection};

fn drawn(seeds: u64) -> impl Iterator<Item = CaseSpec> {
    (0..seeds).map(|seed| CaseSpec::from_seed(seed, &Selection::default()))
}

#[test]
fn every_number_of_slots_up_to_32_is_drawn() {
    let found: BTreeSet<usize> = drawn(1000).map(|spec| spec.top_k).collect();
    let missing: Vec<usize> = (1..=32).filter(|top_k| !found.contains(top_k)).collect();
    assert_eq!(missing, [0; 0]);
}

/// Each within so many seeds, with a token at least.
#[test]
fn sizes_that_models_have_together_are_drawn_together() {
    type Holds = fn(&CaseSpec) -> bool;
    let together: [(&str, u64, Holds); 15] = [
        ("E > 64 with H > 16", 200, |spec| spec.experts > 64 && spec.hidden > 16),
        ("E of 64 or more, K of 6 or more, H and I of 64 or more", 500, |spec| {
            spec.experts >= 64 && spec.top_k >= 6 && spec.hidden.min(spec.intermediate) >= 64
        }),
        ("E of 32 to 128, K = 4, H and I of 128 or more", 1500, |spec| {
            (32..=128).contains(&spec.experts) && spec.top_k == 4 && spec.hidden.min(spec.intermediate) >= 128
        }),
        ("E = 512 with K = 22", 1000, |spec| {
            spec.experts == 512 && spec.top_k == 22
        }),
        ("E = 72", 1000, |spec| spec.experts == 72),
        ("E = 96", 1000, |spec| spec.experts == 96),
        ("E = 160", 1000, |spec| spec.experts == 160),
        ("E = 192", 1000, |spec| spec.experts == 192),
        ("E = 288", 1000, |spec| spec.experts == 288),
        ("E = 384", 1000, |spec| spec.experts == 384),
        ("H of 1,536 or more", 200, |spec| spec.hidden >= 1536),
        ("H of 8,192 or more", 1000, |spec| spec.hidden >= 8192),
        ("H or I of 4,096 or more, terms that cancel", 300, |spec| {
            spec.hidden.max(spec.intermediate) >= 4096 && spec.values == ValueProfile::Cancelling
        }),
        ("I beyond 1,024", 200, |spec| spec.intermediate > 1024),
        ("I of 640", 1000, |spec| spec.intermediate == 640),
    ];
    for (name, seeds, holds) in together {
        let first = drawn(4 * seeds).position(|spec| spec.tokens() > 0 && holds(&spec));
        println!("{name}: {first:?}");
        assert!(
            first.is_some_and(|first| (first as u64) < seeds),
            "{name}: first at {first:?}, promised by {seeds}"
        );
    }
}

/// A fuzzer runs thousands of cases in a second.
#[test]
fn a_fuzzer_draws_no_large_case() {
    let small = Selection::small();
    for seed in 0..4000 {
        let spec = CaseSpec::from_seed(seed, &small);
        assert!(spec.hidden.max(spec.intermediate) <= 257, "{spec}");
    }
}

/// One side of a long case is long, whatever else is named with it.
#[test]
fn long_sides_are_on_either_axis() {
    let selection = Selection::default().with_profiles([Profile::Size(SizeProfile::Long)]);
    let specs: Vec<_> = (0..200).map(|seed| CaseSpec::from_seed(seed, &selection)).collect();
    let hidden = specs.iter().filter(|spec| spec.hidden > spec.intermediate).count();
    assert!((60..=140).contains(&hidden), "{hidden} of 200");
    let most = specs.iter().map(CaseSpec::tokens).max();
    assert!(most > Some(256), "{most:?}");
}
