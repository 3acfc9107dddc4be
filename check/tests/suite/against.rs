//! Two special values that meet in a product or a sum.

use binned_experts_check::case::{Against, Place, Special, SpecialValue};
use binned_experts_check::oracle::{Definition, Inputs};
use binned_experts_check::{CaseSpec, Selection};

/// The combinations that meet.
fn pairs() -> Vec<(Special, Against)> {
    let zero = [SpecialValue::Nan, SpecialValue::Inf, SpecialValue::NegativeInf]
        .iter()
        .flat_map(|&value| {
            let places = [Place::Token, Place::Expert, Place::Weight];
            places.map(|place| (Special { value, place }, Against::Zero))
        });
    let opposite = [SpecialValue::Inf, SpecialValue::NegativeInf]
        .iter()
        .flat_map(|&value| [Place::Expert, Place::Weight].map(|place| (Special { value, place }, Against::Opposite)));
    zero.chain(opposite).collect()
}

fn drawn(special: Special, against: Against) -> impl Iterator<Item = CaseSpec> {
    let selection = Selection {
        specials: vec![special],
        against: vec![against],
        ..Selection::default()
    };
    (0..60).map(move |seed| CaseSpec::from_seed(seed, &selection))
}

fn is(kind: SpecialValue, value: f64) -> bool {
    match kind {
        SpecialValue::Nan => value.is_nan(),
        SpecialValue::Inf => value == f64::INFINITY,
        _ => value == f64::NEG_INFINITY,
    }
}

/// Whether a kept assignment multiplies the value with 0, and its result is NaN.
fn meets_zero(special: Special, inputs: &Inputs, definition: &Definition) -> bool {
    let Special { value, place } = special;
    (0..definition.kept.len())
        .filter(|flat| definition.kept[*flat])
        .any(|flat| {
            let (token, _, expert) = inputs.assignment(flat);
            let x = inputs.hidden_states.row(token);
            let first = inputs.gate_up_proj.index_axis(ndarray::Axis(0), expert);
            let second = inputs.down_proj.index_axis(ndarray::Axis(0), expert);
            let activated = definition.activated.row(flat);
            let is_nan = |column: usize| definition.output[[token, column]].is_nan();
            match place {
                Place::Weight => {
                    let row = definition.expert_output.row(flat);
                    is(value, inputs.routing_weights[[token, expert]])
                        && row.iter().all(|value| *value == 0.0)
                        && (0..row.len()).all(is_nan)
                }
                Place::Token => x.iter().zip(first.rows()).any(|(x, weights)| {
                    is(value, *x) && weights.iter().all(|weight| *weight == 0.0) && (0..inputs.dims.hidden).all(is_nan)
                }),
                _ => {
                    let in_first = x.iter().zip(first.rows()).any(|(x, weights)| {
                        *x == 0.0
                            && weights.iter().any(|weight| is(value, *weight))
                            && (0..inputs.dims.hidden).all(is_nan)
                    });
                    let in_second = activated.iter().zip(second.rows()).any(|(activation, weights)| {
                        let mut columns = weights.iter().enumerate();
                        *activation == 0.0 && columns.any(|(column, weight)| is(value, *weight) && is_nan(column))
                    });
                    in_first || in_second
                }
            }
        })
}

/// Whether two kept slots of a token have opposite infinities, and their sum is NaN.
fn meets_opposite(special: Special, inputs: &Inputs, definition: &Definition) -> bool {
    let top_k = inputs.dims.top_k;
    (0..inputs.dims.tokens).any(|token| {
        let kept: Vec<usize> = (token * top_k..(token + 1) * top_k)
            .filter(|flat| definition.kept[*flat])
            .map(|flat| inputs.assignment(flat).2)
            .collect();
        let weight = |expert: usize| inputs.routing_weights[[token, expert]];
        if special.place == Place::Weight {
            let has = |infinity: f64| kept.iter().any(|expert| weight(*expert) == infinity);
            return has(f64::INFINITY) && has(f64::NEG_INFINITY);
        }
        (0..inputs.dims.hidden).any(|column| {
            let terms = kept
                .iter()
                .map(|&expert| weight(expert) * inputs.down_proj_bias[[expert, column]]);
            let terms: Vec<f64> = terms.collect();
            let is_zero = kept
                .iter()
                .any(|&expert| weight(expert) == 0.0 && inputs.down_proj_bias[[expert, column]].is_infinite());
            let has = |infinity: f64| terms.contains(&infinity);
            (is_zero || has(f64::INFINITY) && has(f64::NEG_INFINITY)) && definition.output[[token, column]].is_nan()
        })
    })
}

#[test]
fn special_values_meet_what_their_profiles_say() {
    for (special, against) in pairs() {
        let mut met = 0;
        for spec in drawn(special, against) {
            assert_eq!((spec.special, spec.against), (Some(special), Some(against)), "{spec}");
            let inputs = Inputs::new(&spec.build().unwrap());
            let definition = Definition::new(&inputs);
            met += usize::from(match against {
                Against::Zero => meets_zero(special, &inputs, &definition),
                Against::Opposite => meets_opposite(special, &inputs, &definition),
            });
        }
        println!("{special:?} {against}: {met} of 60");
        // Cases without tokens, or with a capacity of 0, have no kept assignment. In half of the others no token keeps
        // slots of two experts.
        let least = if against == Against::Zero { 40 } else { 20 };
        assert!(met >= least, "{special:?} {against}: {met} of 60");
    }
}

/// Each in two cases of a hundred.
#[test]
fn a_plain_run_has_both() {
    let specs = (0..1000).map(|seed| CaseSpec::from_seed(seed, &Selection::default()));
    let found: Vec<Against> = specs.filter_map(|spec| spec.against).collect();
    for against in Against::ALL {
        let count = found.iter().filter(|other| *other == against).count();
        assert!(count >= 20, "{against}: {count} of 1000");
    }
}

#[test]
fn an_old_case_reads_and_a_pair_reads_back() {
    let text = "element = 'f32'\nbatch = 1\nsequence = 1\nhidden = 1\nintermediate = 1\nexperts = 2\ntop_k = 2\n\
                capacity = 2\nalpha = 1.702\nlimit = 7.0\nseed = 1\nrouting = [[0, 1]]\nvalues = 'gentle'\n\
                weights = 'unnormalised'\nspecial = 'inf-in-expert'";
    let spec: CaseSpec = text.parse().unwrap();
    assert_eq!(spec.against, None);
    let output = |against| {
        let spec = CaseSpec {
            against,
            ..spec.clone()
        };
        assert_eq!(spec.to_string().parse::<CaseSpec>().unwrap(), spec);
        Definition::new(&Inputs::new(&spec.build().unwrap())).output[[0, 0]]
    };
    assert!(output(Some(Against::Opposite)).is_nan());
    assert!(output(Some(Against::Zero)).is_nan());
    assert!(!spec.to_string().contains("against"));
}
