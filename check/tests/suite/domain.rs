//! Domains: what is refused, what a line says of one, and that every case drawn for one is inside it.

use std::collections::BTreeSet;

use binned_experts_check::case::{
    CaseSpec, Larger, OrderProfile, Profile, Routing, RoutingProfile, SizeProfile, Warmup,
};
use binned_experts_check::domain::{Axis, Sizes, TieOrder};
use binned_experts_check::draw::mix;
use binned_experts_check::{Domain, Precision, Selection};

/// Multiples of 64, distinct experts, no drops, fixed alpha and limit, finite values, at least one token.
pub(crate) const MULTIPLES: &str = "
    tokens = { min = 1 }
    hidden = { multiple_of = 64 }
    intermediate = { multiple_of = 64 }
    drops = false
    duplicates = false
    alpha = [1.702]
    limit = [7.0]
    finite = true
    tie_order = 'stable'
";
/// Few experts, powers of two of them a token, and H = I.
pub(crate) const SQUARE: &str = "
    intermediate = { equals = 'hidden' }
    experts = { max = 256 }
    top_k = { power_of_two = true, max = 16 }
    tie_order = 'stable'
";
/// One shape.
pub(crate) const ONE_SHAPE: &str = "
    tokens = { one_of = [48] }
    hidden = { one_of = [40] }
    intermediate = { one_of = [24] }
    experts = { one_of = [8] }
    top_k = { one_of = [2] }
";

fn domain(text: &str) -> Domain {
    text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn drawn(domain: &Domain, seeds: std::ops::Range<u64>) -> impl Iterator<Item = CaseSpec> {
    let selection = Selection {
        domain: domain.clone(),
        ..Selection::default()
    };
    seeds.map(move |seed| CaseSpec::from_seed(seed, &selection))
}

fn assert_inside(domain: &Domain, spec: &CaseSpec) {
    let admitted = domain.admits(spec);
    assert!(
        admitted.is_ok(),
        "{}\n{domain}\n{domain:?}\n{spec}",
        admitted.unwrap_err()
    );
}

#[test]
fn every_case_of_the_three_domains_is_inside() {
    for text in [MULTIPLES, SQUARE, ONE_SHAPE] {
        let domain = domain(text);
        for spec in drawn(&domain, 0..1000) {
            assert_inside(&domain, &spec);
        }
    }
}

/// What `admits` says of a spec holds for the problem that is built from it, and for the call before.
#[test]
fn what_is_built_is_inside() {
    for text in [MULTIPLES, SQUARE, ONE_SHAPE] {
        let domain = domain(text);
        for spec in drawn(&domain, 0..60) {
            let before = spec.predecessors();
            for spec in before.iter().chain([&spec]) {
                let problem = spec.build().unwrap();
                assert_eq!(domain.admits_problem(&problem), Ok(()), "{spec}");
                assert!(domain.takes_specials() || problem.is_finite(), "{spec}");
            }
        }
    }
}

/// A choice that depends on a number and on what it is for alone.
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: usize) -> usize {
        self.0 = mix(self.0);
        (self.0 >> 16) as usize % n
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn sizes(&mut self, axis: Axis) -> Sizes {
        let least = usize::from(axis != Axis::Tokens && axis != Axis::Capacity);
        if self.one_in(20) {
            return Sizes::multiples_of(1000 + self.below(9000));
        }
        let mut sizes = match self.below(6) {
            0 | 1 => Sizes::default(),
            2 => Sizes::multiples_of([2, 3, 8, 16, 24, 64, 100, 128][self.below(8)]),
            3 => Sizes {
                power_of_two: true,
                ..Sizes::default()
            },
            4 => Sizes {
                one_of: Some((0..1 + self.below(4)).map(|_| least + self.below(130)).collect()),
                ..Sizes::default()
            },
            _ => Sizes::within(least, least + self.below(300)),
        };
        if self.one_in(4) {
            sizes.min = Some(least + self.below(40));
        }
        if self.one_in(4) {
            sizes.max = Some(sizes.min.unwrap_or(least) + self.below(600));
        }
        sizes
    }

    fn domain(&mut self) -> Domain {
        let mut domain = Domain {
            tokens: self.sizes(Axis::Tokens),
            hidden: self.sizes(Axis::Hidden),
            intermediate: self.sizes(Axis::Intermediate),
            experts: self.sizes(Axis::Experts),
            top_k: self.sizes(Axis::TopK).meet_most(24),
            capacity: self.sizes(Axis::Capacity),
            drops: self.one_in(3).then_some(false),
            duplicates: self.one_in(2).then_some(false),
            alpha: self.one_in(3).then(|| vec![1.702, 2.5]),
            limit: self.one_in(3).then(|| vec![[7.0, 0.5, f64::INFINITY][self.below(3)]]),
            finite: self.one_in(3).then_some(true),
            tie_order: self.one_in(2).then_some(TieOrder::Stable),
            precision: self.one_in(3).then(|| vec![Precision::TF32, Precision::BF16]),
            ..Domain::default()
        };
        if self.one_in(3) {
            domain.intermediate.equals = Some(Axis::Hidden);
        }
        domain
    }
}

trait MeetMost {
    fn meet_most(self, most: usize) -> Self;
}

impl MeetMost for Sizes {
    /// The same sizes, at most `most`.
    fn meet_most(self, most: usize) -> Sizes {
        Sizes {
            max: Some(self.max.map_or(most, |max| max.min(most))),
            ..self
        }
    }
}

#[test]
fn every_case_of_many_domains_is_inside() {
    let mut sound = 0;
    for seed in 0..300 {
        let domain = Choices(seed).domain();
        if domain.check().is_err() {
            continue;
        }
        sound += 1;
        for spec in drawn(&domain, 0..24) {
            assert_inside(&domain, &spec);
        }
        let ruled_out = domain.ruled_out();
        for profile in ruled_out {
            let selection = Selection {
                domain: domain.clone(),
                ..Selection::default()
            };
            assert_inside(&domain, &CaseSpec::from_seed(seed, &selection.with_profiles([profile])));
        }
    }
    assert!(sound > 150, "{sound}");
}

/// In how many of a thousand cases a routing has each property.
fn routings(domain: &Domain) -> Vec<(&'static str, usize)> {
    let mut counts = vec![
        ("empty expert", 0),
        ("all on one expert", 0),
        ("duplicates in a token", 0),
        ("dropped assignments", 0),
        ("token wholly dropped", 0),
        ("exactly full", 0),
        ("no tokens", 0),
        ("one token", 0),
        ("over 256 assignments", 0),
        ("over 65,535 assignments", 0),
        ("over 64 experts", 0),
        ("over 256 experts", 0),
        ("tile counts", 0),
        ("sorted", 0),
        ("a call before", 0),
        ("a larger call before", 0),
    ];
    for spec in drawn(domain, 0..1000) {
        let ids = spec.router_indices().unwrap();
        let mut by_expert = vec![0; spec.experts];
        let mut kept = vec![0; spec.tokens()];
        for ((token, _), &expert) in ids.indexed_iter() {
            by_expert[expert as usize] += 1;
            kept[token] += usize::from(by_expert[expert as usize] <= spec.capacity);
        }
        let fullest = by_expert.iter().copied().max().unwrap_or(0);
        let has_duplicates = |row: &[i64]| row.iter().collect::<BTreeSet<_>>().len() < row.len();
        let flat: Vec<i64> = ids.iter().copied().collect();
        let some = spec.tokens() > 0;
        let holds = [
            some && by_expert.contains(&0),
            some && spec.experts > 1 && by_expert.contains(&ids.len()),
            ids.rows().into_iter().any(|row| has_duplicates(&row.to_vec())),
            fullest > spec.capacity,
            kept.contains(&0),
            some && fullest == spec.capacity,
            !some,
            spec.tokens() == 1,
            ids.len() > 256,
            ids.len() > 65_535,
            spec.experts > 64,
            spec.experts > 256,
            [16, 32, 64, 128, 256]
                .iter()
                .any(|tile| [tile - 1, *tile, tile + 1].iter().all(|n| by_expert.contains(n))),
            spec.tokens() > 4 && flat.is_sorted(),
            spec.warmup.is_some(),
            spec.warmup == Some(Warmup::Larger),
        ];
        for ((_, count), holds) in counts.iter_mut().zip(holds) {
            *count += usize::from(holds);
        }
    }
    counts
}

/// Within a factor of two of a run without a domain, but for what the domain forbids.
#[test]
fn a_domain_covers_the_routings_that_it_allows() {
    let free = routings(&Domain::default());
    let forbidden: [(&str, &[&str]); 3] = [
        (
            MULTIPLES,
            &[
                "duplicates in a token",
                "dropped assignments",
                "token wholly dropped",
                "no tokens",
            ],
        ),
        (SQUARE, &["over 256 experts"]),
        (
            ONE_SHAPE,
            &[
                "no tokens",
                "one token",
                "over 256 assignments",
                "over 65,535 assignments",
                "over 64 experts",
                "over 256 experts",
                "a larger call before",
            ],
        ),
    ];
    for (text, forbidden) in forbidden {
        for ((name, inside), (_, free)) in routings(&domain(text)).iter().zip(&free) {
            if forbidden.contains(name) {
                assert_eq!(*inside, 0, "{name} in {text}");
            } else {
                assert!(
                    2 * inside >= *free,
                    "{name}: {inside} for {free} without a domain, in {text}"
                );
            }
        }
    }
}

/// Sizes lie on both sides of the edges of tiles, as far as the domain has any.
#[test]
fn sizes_are_around_the_edges_that_a_domain_has() {
    let sizes_of = |text: &str, size: fn(&CaseSpec) -> usize| {
        let selection = Selection {
            domain: domain(text),
            sizes: vec![SizeProfile::TileEdges],
            ..Selection::default()
        };
        (0..1000)
            .map(|seed| size(&CaseSpec::from_seed(seed, &selection)))
            .collect::<BTreeSet<usize>>()
    };
    let hidden = sizes_of(MULTIPLES, |spec| spec.hidden);
    assert_eq!(hidden, BTreeSet::from([64, 128, 192, 256, 320]));
    let slots = sizes_of(SQUARE, |spec| spec.top_k);
    assert_eq!(slots, BTreeSet::from([1, 2, 4, 8, 16]));
    let experts = sizes_of("experts = { multiple_of = 24, max = 100 }", |spec| spec.experts);
    assert_eq!(experts, BTreeSet::from([24, 48, 72, 96]));
    let tokens = sizes_of("tokens = { min = 20, max = 70 }", |spec| spec.tokens());
    assert!(
        [20, 31, 32, 33, 63, 64, 65, 70]
            .iter()
            .all(|size| tokens.contains(size)),
        "{tokens:?}"
    );
}

#[test]
fn a_domain_that_makes_no_sense_names_the_field() {
    for (text, message) in [
        ("hiden = { min = 1 }", "unknown field `hiden`"),
        ("hidden = { least = 1 }", "unknown field `least`"),
        ("hidden = 64", "hidden"),
        ("precision = ['fp31']", "found fp31"),
        (
            "tie_order = 'any'",
            "expected one of stable, given, returned; found any",
        ),
        ("precision = []", "precision: expected at least one, found none"),
        (
            "precision = ['bf16', 'tf32', 'fp32']",
            "precision: expected one for an element type, found tf32 and fp32 for f32",
        ),
        ("alpha = []", "alpha: expected at least one number, found none"),
        ("alpha = [inf]", "alpha: expected finite numbers, found inf"),
        ("limit = [7.0, nan]", "limit: expected numbers, found NaN"),
        (
            "tokens = { min = 5, max = 4 }",
            "tokens: expected min to be at most max, found min = 5 and max = 4",
        ),
        (
            "hidden = { multiple_of = 0 }",
            "hidden.multiple_of: expected at least 1, found 0",
        ),
        (
            "experts = { one_of = [] }",
            "experts.one_of: expected at least one size, found none",
        ),
        (
            "hidden = { multiple_of = 6, power_of_two = true }",
            "hidden: expected conditions that some size of at least 1 fulfils, found H % 6 = 0, H a power of two",
        ),
        (
            "top_k = { max = 0 }",
            "top_k: expected conditions that some size of at least 1 fulfils, found K ≤ 0",
        ),
        (
            "hidden = { equals = 'intermediate' }",
            "hidden.equals: expected only intermediate to equal hidden, found intermediate",
        ),
        (
            "hidden = { one_of = [3, 5] }\nintermediate = { equals = 'hidden', multiple_of = 2 }",
            "intermediate: expected a size that is one of H too, where H in {3, 5}, found I = H, I % 2 = 0",
        ),
        (
            "experts = { max = 3 }\ntop_k = { min = 4 }\nduplicates = false",
            "top_k: expected at most E experts in a token, where E ≤ 3, since duplicates = false, found K ≥ 4",
        ),
        (
            "tokens = { min = 10 }\ntop_k = { min = 4 }\ncapacity = { max = 39 }\ndrops = false",
            "capacity: expected room for 40 assignments of one expert, since drops = false, found C ≤ 39",
        ),
        (
            "hidden = { min = 1000000 }\nintermediate = { min = 1000000 }",
            "sizes: expected a least case that can be built, found gate_up_proj: expected at most",
        ),
    ] {
        let error = text.parse::<Domain>().unwrap_err().to_string();
        assert!(error.starts_with("domain: "), "{error}");
        assert!(error.contains(message), "{text}:\n{error}\n{message}");
    }
}

#[test]
fn a_domain_reads_back_from_toml_and_json() {
    let text = "precision = ['fp32', 'f16']\ntokens = { min = 1, max = 9 }\nintermediate = { equals = 'hidden' }\n\
                top_k = { one_of = [1, 2] }\nexperts = { power_of_two = true }\ndrops = false\nduplicates = true\n\
                alpha = [1.0]\nlimit = [7.0, inf]\nfinite = true\ntie_order = 'given'\ndeterministic = true";
    let domain = domain(text);
    assert_eq!(toml::to_string(&domain).unwrap().parse(), Ok(domain.clone()));
    let json = serde_json::to_string(&domain).unwrap();
    assert_eq!(Domain::from_json(&json), Ok(domain.clone()));
    assert!(
        Domain::from_json(r#"{"hiden": 1}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field `hiden`")
    );
    assert!(
        Domain::from_json(r#"{"limit": []}"#)
            .unwrap_err()
            .to_string()
            .contains("limit: expected at least one")
    );
    assert_eq!(
        domain.to_string(),
        "fp32 or f16, 1 ≤ T ≤ 9, I = H, E a power of two, K in {1, 2}, nothing dropped, alpha 1, limit in {7, inf}, \
         finite inputs, in an explicit order too, deterministic"
    );
    assert_eq!(Domain::default().to_string(), "anything");
    // An activation without parameters says nothing of them.
    let line = |layers: &str| {
        let text = format!("alpha = [1.0]\nlimit = [7.0]\nlayers = {layers}");
        text.parse::<Domain>().unwrap().to_string()
    };
    assert_eq!(line("['mixtral']"), "layer mixtral");
    assert_eq!(
        line("['mixtral', 'gpt-oss']"),
        "alpha 1, limit 7, layer in {mixtral, gpt-oss}"
    );
}

/// Each line of the three domains is broken in turn by one change of a case inside.
#[test]
fn a_case_outside_is_refused_with_the_field() {
    let inside: CaseSpec = "element = 'f32'\nbatch = 1\nsequence = 3\nhidden = 64\nintermediate = 64\nexperts = 4\n\
        top_k = 2\ncapacity = 3\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = [[0, 1], [2, 0], [0, 3]]\n\
        values = 'gentle'\nweights = 'normalised'"
        .parse()
        .unwrap();
    let domain = domain(&format!(
        "{MULTIPLES}\nprecision = ['fp32']\ntop_k = {{ max = 2 }}\ncapacity = {{ max = 9 }}"
    ));
    assert_eq!(domain.admits(&inside), Ok(()));
    type Change = fn(&mut CaseSpec);
    let changes: [(&str, Change); 13] = [
        ("precision", |spec| spec.element = "bf16".parse().unwrap()),
        ("tokens", |spec| {
            (spec.sequence, spec.routing) = (0, Routing::Table(Vec::new()))
        }),
        ("hidden", |spec| spec.hidden = 65),
        ("intermediate", |spec| spec.intermediate = 63),
        ("top_k", |spec| {
            (spec.top_k, spec.routing) = (3, Routing::Profile(RoutingProfile::Distinct))
        }),
        ("capacity", |spec| spec.capacity = 10),
        ("duplicates", |spec| {
            spec.routing = Routing::Table(vec![vec![1, 1], vec![0, 1], vec![2, 3]])
        }),
        ("drops", |spec| spec.capacity = 2),
        ("alpha", |spec| spec.alpha = 1.0),
        ("limit", |spec| spec.limit = f64::INFINITY),
        ("finite", |spec| {
            spec.special = Some("nan-in-token".to_owned().try_into().unwrap())
        }),
        ("tie_order", |spec| spec.order = Some(OrderProfile::TiesReversed)),
        ("drops", |spec| {
            (spec.warmup, spec.larger) = (Some(Warmup::Larger), Some(Larger { tokens: 9, capacity: 1 }));
            spec.distinct = true;
        }),
    ];
    for (at, (field, change)) in changes.iter().enumerate() {
        let mut spec = inside.clone();
        change(&mut spec);
        let outside = domain.admits(&spec).unwrap_err();
        assert_eq!(outside.field, *field, "{outside}");
        assert_eq!(outside.is_warmup, at == changes.len() - 1, "{outside}");
    }
    let outside = domain.admits(&CaseSpec { hidden: 65, ..inside }).unwrap_err();
    assert_eq!(outside.to_string(), "hidden: expected H % 64 = 0, found 65");
}

#[test]
fn the_profiles_that_a_domain_rules_out_are_named() {
    let names = |text: &str| {
        let ruled_out = domain(text).ruled_out().into_iter().map(Profile::name);
        ruled_out.collect::<Vec<String>>().join(" ")
    };
    assert_eq!(names(""), "");
    assert_eq!(
        names("drops = false"),
        "capacity-zero capacity-one one-over far-over nan-in-dropped-token inf-in-dropped-token \
         negative-inf-in-dropped-token subnormal-in-dropped-token negative-zero-in-dropped-token \
         near-overflow-in-dropped-token"
    );
    assert_eq!(names("duplicates = false"), "uniform two-equal all-equal apart-equal");
    assert_eq!(names("limit = [7.0]"), "huge-gates");
    assert_eq!(names("tokens = { min = 1 }"), "no-tokens");
    assert_eq!(names("experts = { max = 33 }"), "many-experts");
    assert_eq!(
        names("hidden = { max = 600 }\nintermediate = { max = 257 }"),
        "long medium"
    );
    assert_eq!(
        names("hidden = { min = 65 }\nintermediate = { equals = 'hidden' }"),
        "long"
    );
    assert_eq!(
        names("top_k = { max = 1 }"),
        "two-equal all-equal apart-equal against-opposite"
    );
    assert!(names("finite = true").ends_with("against-zero against-opposite"));
    assert_eq!(names("tie_order = 'returned'"), "ties-reversed ties-shuffled");
    assert_eq!(
        names("tokens = { one_of = [9] }\ntop_k = { max = 8 }"),
        "many-assignments many-rows medium no-tokens warmup-larger"
    );
}
