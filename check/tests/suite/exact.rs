//! The value profile `exact`: one result, bit for bit, in every order of summation.

use binned_experts_check::case::{ValueProfile, WeightProfile};
use binned_experts_check::engine::Reference;
use binned_experts_check::oracle::{Definition, Inputs};
use binned_experts_check::{CaseSpec, ElementType, Engine, Selection, Tensor};
use ndarray::ArrayD;

use crate::common::bf16;

/// The most quanta that an f32 accumulator holds in every order.
const MOST_QUANTA: f64 = (1u32 << 24) as f64;

/// Cases of an element type without special values, and of at most 5,000 assignments.
fn cases(element: ElementType, wanted: usize) -> impl Iterator<Item = CaseSpec> {
    let selection = Selection {
        elements: vec![element],
        values: vec![ValueProfile::Exact],
        ..Selection::default()
    };
    (0..)
        .map(move |seed| CaseSpec::from_seed(seed, &selection))
        .filter(|spec| spec.special.is_none() && (1..5000).contains(&(spec.tokens() * spec.top_k)))
        .take(wanted)
}

/// The largest power of two that divides a number; that of 0 is infinite.
fn quantum(value: f64) -> f64 {
    if value == 0.0 {
        return f64::INFINITY;
    }
    let mantissa = value.to_bits() & ((1 << 52) - 1) | 1 << 52;
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1075 + mantissa.trailing_zeros() as i32;
    2f64.powi(exponent)
}

/// That every partial sum of the terms is a number of f32, in any order.
fn assert_any_order(terms: &[f64], spec: &CaseSpec) {
    let least = terms.iter().copied().map(quantum).fold(f64::INFINITY, f64::min);
    let sizes: f64 = terms.iter().map(|term| term.abs()).sum();
    assert!(sizes == 0.0 || sizes / least <= MOST_QUANTA, "{terms:?}\n{spec}");
}

fn assert_stored<'a>(values: impl IntoIterator<Item = &'a f64>, spec: &CaseSpec) {
    let values: Vec<f64> = values.into_iter().copied().collect();
    let stored = Tensor::from_f64(
        ArrayD::from_shape_vec(vec![values.len()], values.clone()).unwrap(),
        spec.element,
    );
    assert_eq!(stored.to_f64(), values, "{spec}");
}

/// The weighted rows of the kept slots of a token, one column.
fn terms(inputs: &Inputs, definition: &Definition, token: usize, column: usize) -> Vec<f64> {
    let top_k = inputs.dims.top_k;
    (token * top_k..(token + 1) * top_k)
        .filter(|flat| definition.kept[*flat])
        .map(|flat| {
            let (_, _, expert) = inputs.assignment(flat);
            inputs.routing_weights[[token, expert]] * definition.expert_output[[flat, column]]
        })
        .collect()
}

fn assert_exact(spec: &CaseSpec) {
    let inputs = Inputs::new(&spec.build().unwrap());
    let definition = Definition::new(&inputs);
    let dims = inputs.dims;
    for flat in (0..definition.kept.len()).filter(|flat| definition.kept[*flat]) {
        let (token, _, expert) = inputs.assignment(flat);
        // One product and a bias in each sum, exact in f64 as everywhere.
        let features = inputs.hidden_states.row(token);
        assert!(features.iter().filter(|x| **x != 0.0).count() <= 1, "{spec}");
        for (row, feature) in features.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            for column in 0..2 * dims.intermediate {
                let product = feature * inputs.gate_up_proj[[expert, row, column]];
                assert_any_order(&[product, inputs.gate_up_proj_bias[[expert, column]]], spec);
            }
        }
        // So all products with the second matrix are 0, and the row is its bias.
        assert!(
            definition.activated.row(flat).iter().all(|value| *value == 0.0),
            "{spec}"
        );
        assert_eq!(
            definition.expert_output.row(flat),
            inputs.down_proj_bias.row(expert),
            "{spec}"
        );
    }
    assert_stored(&definition.gate_up, spec);
    assert_stored(&definition.expert_output, spec);
    assert_stored(&definition.output, spec);
    for token in 0..dims.tokens {
        for column in 0..dims.hidden {
            let terms = terms(&inputs, &definition, token, column);
            assert_any_order(&terms, spec);
            assert_stored(&terms, spec);
            assert_eq!(terms.iter().sum::<f64>(), definition.output[[token, column]], "{spec}");
        }
    }
}

#[test]
fn every_stage_is_exact_in_every_precision() {
    for element in ElementType::ALL {
        for spec in cases(*element, 80) {
            assert_eq!(spec.weights, WeightProfile::PowersOfTwo, "{spec}");
            assert_exact(&spec);
        }
    }
}

/// With the roundings of PyTorch, which stores every stage in the element type.
#[test]
fn the_reference_is_exact() {
    for element in ElementType::ALL {
        for spec in cases(*element, 60) {
            let problem = spec.build().unwrap();
            let outcome = Reference.forward(&problem).unwrap();
            let expected = Definition::new(&Inputs::new(&problem)).output;
            let expected: Vec<f64> = expected.iter().copied().collect();
            assert_eq!(outcome.output.to_f64(), expected, "{spec}");
        }
    }
}

/// What the exact values are for: an accumulator of 8 bits loses the small terms between large ones.
#[test]
fn sums_over_the_slots_in_bf16_are_wrong() {
    let (mut wrong, mut all, mut one_slot) = (0, 0, 0);
    for spec in cases(ElementType::Bf16, 400) {
        if spec.top_k < 3 {
            one_slot += usize::from(spec.top_k < 2);
            continue;
        }
        let inputs = Inputs::new(&spec.build().unwrap());
        let definition = Definition::new(&inputs);
        let is_wrong = |token: usize| {
            let terms = terms(&inputs, &definition, token, 0);
            let sum = terms.iter().fold(0.0, |sum, term| bf16(sum + *term as f32));
            f64::from(sum) != terms.iter().sum::<f64>()
        };
        all += 1;
        wrong += usize::from((0..inputs.dims.tokens).any(is_wrong));
    }
    println!("{wrong} of {all}; {one_slot} with one slot");
    assert!(wrong * 4 >= all && all >= 300, "{wrong} of {all}");
}
