//! The generator keeps its promises: always valid, the same everywhere, and each profile makes what its name says.

use std::collections::{BTreeSet, HashSet};

use crate::common::share;
use binned_experts_check::case::{
    CapacityProfile, Place, Profile, Routing, RoutingProfile, SizeProfile, Special, SpecialValue, Warmup, WeightProfile,
};
use binned_experts_check::oracle::Coverage;
use binned_experts_check::oracle::Expected;
use binned_experts_check::oracle::Inputs;
use binned_experts_check::{CaseSpec, Selection};
use proptest::prelude::*;

/// Expert ids by token.
fn rows(expected: &Expected) -> Vec<Vec<usize>> {
    expected
        .inputs()
        .router_indices
        .rows()
        .into_iter()
        .map(|row| row.to_vec())
        .collect()
}

fn counts(expected: &Expected) -> Vec<usize> {
    let mut counts = vec![0; expected.inputs().dims.experts];
    rows(expected)
        .concat()
        .into_iter()
        .for_each(|expert| counts[expert] += 1);
    counts
}

fn all_on(expected: &Expected, expert: usize) -> bool {
    rows(expected).concat().iter().all(|id| *id == expert)
}

fn has_duplicates(row: &[usize]) -> bool {
    row.iter().collect::<HashSet<_>>().len() < row.len()
}

#[test]
fn sizes_are_what_their_profiles_say() {
    for profile in SizeProfile::ALL.iter().copied() {
        let promised = share(Profile::Size(profile), |spec, expected| {
            let dims = expected.inputs().dims;
            let assignments = dims.tokens * dims.top_k;
            match profile {
                SizeProfile::Tiny => dims.hidden <= 8 && dims.intermediate <= 8 && dims.tokens > 0,
                SizeProfile::TileEdges => {
                    let near = |size: usize| size <= 3 || [16, 32, 64, 128, 256].iter().any(|b| size.abs_diff(*b) <= 1);
                    near(dims.hidden) || near(dims.intermediate) || near(dims.tokens)
                }
                SizeProfile::ManyAssignments => (8_000..=150_000).contains(&assignments),
                SizeProfile::ManyExperts => (72..=1025).contains(&spec.experts),
                SizeProfile::ManyRows => {
                    let fullest = counts(expected).into_iter().max();
                    fullest > Some(9 * 128) && dims.hidden >= 32 && dims.intermediate > 64
                }
                SizeProfile::Long => {
                    let [short, long] = [dims.hidden.min(dims.intermediate), dims.hidden.max(dims.intermediate)];
                    short <= 8 && (639..=8193).contains(&long) && spec.experts <= 5 && (1..=1024).contains(&dims.tokens)
                }
                SizeProfile::Medium => {
                    let is_medium = |size: usize| (258..=1024).contains(&size);
                    is_medium(dims.hidden)
                        && is_medium(dims.intermediate)
                        && counts(expected).into_iter().max() > Some(128)
                }
                SizeProfile::NoTokens => dims.tokens == 0,
            }
        });
        assert!(promised >= 90, "{profile:?}: {promised} %");
    }
}

#[test]
fn routings_are_what_their_profiles_say() {
    for profile in RoutingProfile::ALL.iter().copied() {
        let promised = share(Profile::Routing(profile), |_, expected| {
            let rows = rows(expected);
            let flat = rows.concat();
            let (counts, experts, top_k) = (
                counts(expected),
                expected.inputs().dims.experts,
                expected.inputs().dims.top_k,
            );
            if rows.is_empty() {
                return true;
            }
            match profile {
                RoutingProfile::Uniform => flat.iter().all(|id| *id < experts),
                RoutingProfile::Distinct => !rows.iter().any(|row| has_duplicates(row)),
                RoutingProfile::Zipf => experts < 3 || flat.len() < 64 || counts[0] > counts[experts - 1],
                RoutingProfile::AllToFirst => all_on(expected, 0),
                RoutingProfile::AllToMiddle => all_on(expected, experts / 2),
                RoutingProfile::AllToLast => all_on(expected, experts - 1),
                RoutingProfile::EmptyRuns => counts[0] == 0 && counts[1] == 0 && counts[experts - 1] == 0,
                RoutingProfile::FirstFull => flat.len() < 64 || 4 * counts[0] > 3 * flat.len(),
                RoutingProfile::Sorted => flat.is_sorted(),
                RoutingProfile::Reversed => flat.iter().rev().is_sorted(),
                RoutingProfile::TwoEqual => rows.iter().all(|row| row[0] == row[1]),
                RoutingProfile::AllEqual => top_k >= 2 && rows.iter().all(|row| row.iter().all(|id| *id == row[0])),
                RoutingProfile::ApartEqual => {
                    top_k >= 3 && rows.iter().all(|row| row[0] == row[top_k - 1] && row[0] != row[1])
                }
                RoutingProfile::TileCounts => [16, 32, 64, 128, 256]
                    .iter()
                    .any(|b| [b - 1, *b, b + 1].iter().all(|count| counts.contains(count))),
            }
        });
        let least = if profile == RoutingProfile::TileCounts { 85 } else { 95 };
        assert!(promised >= least, "{profile:?}: {promised} %");
    }
}

/// A kernel whose last thread does not exist shows only where the last expert has rows.
#[test]
fn the_last_of_many_experts_is_used() {
    let last_used = |spec: &CaseSpec| {
        let ids = spec.router_indices().unwrap();
        spec.experts > 64 && ids.iter().any(|id| *id as usize == spec.experts - 1)
    };
    let cases = |profiles: Vec<Profile>, cases: u64| {
        let selection = Selection::default().with_profiles(profiles);
        (0..cases).map(move |seed| CaseSpec::from_seed(seed, &selection))
    };
    let many = Profile::Size(SizeProfile::ManyExperts);
    for spec in cases(vec![many], 600) {
        assert!(last_used(&spec), "{spec}");
    }
    for routing in RoutingProfile::ALL.iter().copied() {
        let named_others = matches!(
            routing,
            RoutingProfile::AllToFirst | RoutingProfile::AllToMiddle | RoutingProfile::EmptyRuns
        );
        for spec in cases(vec![many, Profile::Routing(routing)], 60) {
            assert_eq!(last_used(&spec), !named_others, "{spec}");
        }
    }
}

#[test]
fn capacities_are_what_their_profiles_say() {
    for profile in CapacityProfile::ALL.iter().copied() {
        let promised = share(Profile::Capacity(profile), |spec, expected| {
            let fullest = counts(expected).into_iter().max().unwrap_or(0);
            let dropped = Coverage::new(expected).dropped;
            let assignments = spec.tokens() * spec.top_k;
            match profile {
                CapacityProfile::CapacityZero => spec.capacity == 0,
                CapacityProfile::CapacityOne => spec.capacity == 1,
                CapacityProfile::ExactlyFull => spec.capacity == fullest && !dropped,
                CapacityProfile::OneOver => fullest == 0 || (spec.capacity + 1 == fullest && dropped),
                CapacityProfile::FarOver => fullest < 4 || (spec.capacity <= fullest / 4 && dropped),
                CapacityProfile::CapacityRule => spec.capacity == 2 * assignments / spec.experts,
                CapacityProfile::CapacityHuge => spec.capacity > assignments && !dropped,
            }
        });
        assert_eq!(promised, 100, "{profile:?}");
    }
}

#[test]
fn routing_weights_are_what_their_profiles_say() {
    for profile in WeightProfile::ALL.iter().copied() {
        let promised = share(Profile::Weights(profile), |spec, expected| {
            let weights = &expected.inputs().routing_weights;
            let few = weights.len() < 16 || spec.special.is_some();
            let sums = || weights.rows().into_iter().map(|row| row.sum());
            match profile {
                _ if few => true,
                WeightProfile::Normalised => sums().all(|sum| (sum - 1.0).abs() < 0.05),
                WeightProfile::Unnormalised => sums().any(|sum| (sum - 1.0).abs() > 0.05),
                WeightProfile::Negative => weights.iter().any(|w| *w < 0.0) && weights.iter().any(|w| *w > 0.0),
                WeightProfile::SomeZero => weights.iter().any(|w| *w == 0.0) && weights.iter().any(|w| *w > 0.0),
                WeightProfile::OneHot => weights
                    .rows()
                    .into_iter()
                    .all(|row| row.iter().filter(|w| **w != 0.0).count() == 1),
                WeightProfile::PowersOfTwo => weights.iter().all(|w| *w == 0.0 || w.abs().log2() % 1.0 == 0.0),
            }
        });
        assert!(promised >= 95, "{profile:?}: {promised} %");
    }
}

/// Whether a value is of a special kind for its element type.
fn is_special(kind: SpecialValue, spec: &CaseSpec, value: f64) -> bool {
    match kind {
        SpecialValue::Nan => value.is_nan(),
        SpecialValue::Inf => value == f64::INFINITY,
        SpecialValue::NegativeInf => value == f64::NEG_INFINITY,
        SpecialValue::Subnormal => value != 0.0 && value.abs() <= 100.0 * spec.element.tiny(),
        SpecialValue::NegativeZero => value == 0.0 && value.is_sign_negative(),
        SpecialValue::NearOverflow => value.is_finite() && value.abs() > 0.4 * spec.element.max(),
    }
}

#[test]
fn special_values_stand_where_their_profiles_say() {
    for value in SpecialValue::ALL.iter().copied() {
        for place in Place::ALL.iter().copied() {
            let promised = share(Profile::Special(Special { value, place }), |spec, expected| {
                let (inputs, definition) = (expected.inputs(), expected.definition());
                let top_k = spec.top_k;
                let kept = |token: usize| definition.kept[token * top_k..][..top_k].contains(&true);
                let counts = counts(expected);
                let hit = |value_found: &f64| is_special(value, spec, *value_found);
                let in_expert = |expert: usize| {
                    inputs
                        .gate_up_proj
                        .outer_iter()
                        .nth(expert)
                        .is_some_and(|matrix| matrix.iter().any(hit))
                        || inputs
                            .down_proj
                            .outer_iter()
                            .nth(expert)
                            .is_some_and(|matrix| matrix.iter().any(hit))
                        || inputs.gate_up_proj_bias.row(expert).iter().any(hit)
                        || inputs.down_proj_bias.row(expert).iter().any(hit)
                };
                match place {
                    Place::Token => (0..spec.tokens()).any(|t| kept(t) && inputs.hidden_states.row(t).iter().any(hit)),
                    Place::DroppedToken => {
                        (0..spec.tokens()).any(|t| !kept(t) && inputs.hidden_states.row(t).iter().any(hit))
                    }
                    Place::Weight => (0..definition.kept.len()).any(|flat| {
                        let (token, _, expert) = inputs.assignment(flat);
                        definition.kept[flat] && hit(&inputs.routing_weights[[token, expert]])
                    }),
                    Place::Expert => (0..spec.experts).any(|e| counts[e] > 0 && in_expert(e)),
                    Place::UnusedExpert => (0..spec.experts).any(|e| counts[e] == 0 && in_expert(e)),
                }
            });
            // Cases without tokens, or with a capacity of 0, have no kept token; few have no dropped one.
            let least = if place == Place::DroppedToken { 60 } else { 75 };
            assert!(promised >= least, "{value:?} in {place:?}: {promised} %");
        }
    }
}

#[test]
fn what_comes_before_differs_as_its_profile_says() {
    for profile in Warmup::ALL.iter().copied() {
        let promised = share(Profile::Warmup(profile), |spec, _| {
            let before = spec.predecessors();
            let alone = |seed| CaseSpec {
                warmup: None,
                seed,
                ..spec.clone()
            };
            let others = before.iter().all(|before| *before == alone(before.seed));
            let seeds: BTreeSet<u32> = before.iter().map(|before| before.seed).chain([spec.seed]).collect();
            match profile {
                Warmup::Same => before == [alone(spec.seed)],
                Warmup::OtherValues => others && seeds.len() == 2,
                Warmup::ThreeOthers => others && seeds.len() == 4,
                Warmup::Larger => before.len() == 1 && before[0].tokens() > spec.tokens(),
            }
        });
        assert_eq!(promised, 100, "{profile:?}");
    }
}

/// PyTorch takes limits up to the largest value of the type, and infinity.
#[test]
fn limits_reach_from_below_one_to_infinity() {
    let [mut low, mut high, mut infinite] = [0; 3];
    for seed in 0..1000 {
        let CaseSpec { limit, element, .. } = CaseSpec::from_seed(seed, &Selection::default());
        assert!(limit <= element.max() || limit == f64::INFINITY, "{element}: {limit}");
        low += usize::from(limit < 7.0);
        high += usize::from(limit >= 1e4);
        infinite += usize::from(limit == f64::INFINITY);
    }
    assert!(
        low >= 80 && high >= 150 && infinite >= 40,
        "{low}, {high}, {infinite} of 1000"
    );
}

/// A plain run exercises every situation in a good share of its cases.
#[test]
fn a_plain_run_covers_everything() {
    let least = [
        ("no tokens", 10),
        ("dropped assignments", 300),
        ("token wholly dropped", 200),
        ("empty expert", 300),
        ("all on one expert", 100),
        ("duplicates in a token", 300),
        ("gate above limit", 200),
        ("gate below -limit", 200),
        ("up above limit", 200),
        ("up below -limit", 200),
        ("NaN or inf in", 60),
        ("NaN or inf out", 25),
        ("over 65,535 assignments", 5),
        ("over 256 experts", 15),
        ("weights not summing to 1", 500),
        ("terms that cancel", 45),
        ("values 2^60 apart", 60),
        ("subnormal values in", 60),
        ("ties in another order", 60),
        ("limit of 10,000 or more", 120),
        ("H and I of 32 or more", 220),
    ];
    let mut found = Coverage::default().named().map(|(name, _)| (name, 0));
    for seed in 0..1000 {
        let problem = CaseSpec::from_seed(seed, &Selection::default()).build().unwrap();
        let expected = Expected::new(Inputs::new(&problem), problem.output_shape(), problem.element());
        for ((_, count), (_, holds)) in found.iter_mut().zip(Coverage::new(&expected).named()) {
            *count += u32::from(holds);
        }
    }
    for ((name, count), (promised, least)) in found.iter().zip(least) {
        assert_eq!(*name, promised);
        assert!(*count >= least, "{name}: {count} of 1000 cases, promised {least}");
    }
}

#[test]
fn no_bytes_give_the_smallest_case() {
    let spec = CaseSpec::from_bytes(&[], &Selection::default());
    assert_eq!(
        (spec.tokens(), spec.hidden, spec.intermediate, spec.experts, spec.top_k),
        (1, 1, 1, 1, 1)
    );
    assert_eq!((spec.special, spec.warmup, spec.order), (None, None, None));
}

#[test]
fn every_profile_has_a_name_that_parses_back() {
    let all = Profile::all();
    for profile in &all {
        assert_eq!(profile.name().parse::<Profile>().as_ref(), Ok(profile));
    }
    let names: HashSet<String> = all.iter().map(|profile| profile.name()).collect();
    assert_eq!(names.len(), all.len());
}

/// The numbers behind a case never change: stored cases and seeds in reports depend on them.
#[test]
fn values_are_the_same_on_every_machine() {
    let mut digest = 0xcbf2_9ce4_8422_2325u64;
    for seed in 0..64 {
        let inputs = Inputs::new(&CaseSpec::from_seed(seed, &Selection::default()).build().unwrap());
        let tensors = [
            inputs.hidden_states.iter(),
            inputs.routing_weights.iter(),
            inputs.gate_up_proj_bias.iter(),
            inputs.down_proj_bias.iter(),
        ]
        .into_iter()
        .flatten()
        .chain(inputs.gate_up_proj.iter())
        .chain(inputs.down_proj.iter());
        for value in tensors {
            let bits = if value.is_nan() {
                f64::NAN.to_bits()
            } else {
                value.to_bits()
            };
            digest = (digest ^ bits).wrapping_mul(0x0100_0000_01b3);
        }
        for id in &inputs.router_indices {
            digest = (digest ^ *id as u64).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(digest, DIGEST, "{digest:#x}");
}

const DIGEST: u64 = 0x0dd6_53f3_9e1a_4cdb;

#[test]
fn a_fuzzer_draws_many_busy_experts_now_and_then() {
    let small = Selection::small();
    let busy = |spec: &CaseSpec| spec.experts.min(spec.tokens() * spec.top_k);
    let specs: Vec<_> = (0..4000).map(|seed| CaseSpec::from_seed(seed, &small)).collect();
    let count = |what: &dyn Fn(&CaseSpec) -> bool| specs.iter().filter(|spec| what(spec)).count();
    let many = count(&|spec| busy(spec) > 64);
    let (experts, assignments) = (
        count(&|spec| spec.experts > 64 && busy(spec) <= 64),
        count(&|spec| busy(spec) == 34 && spec.tokens() * spec.top_k > 64),
    );
    assert!((3..45).contains(&many), "{many}");
    // What is cut is one or the other.
    assert!(experts > 20 && assignments > 20, "{experts}, {assignments}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_a_valid_case_that_prints_and_parses(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let spec = CaseSpec::from_bytes(&bytes, &Selection::default());
        prop_assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec.clone());
        prop_assert!(spec.build().is_ok());
        prop_assert!(spec.tokens() * spec.top_k <= 150_000);
        let table = spec.router_indices().unwrap();
        let table = Routing::Table(table.rows().into_iter().map(|row| row.to_vec()).collect());
        let written = CaseSpec { routing: table, ..spec.clone() };
        let (written, drawn) = (written.build().unwrap(), spec.build().unwrap());
        prop_assert_eq!(written.bins(), drawn.bins());
    }
}
