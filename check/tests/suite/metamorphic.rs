//! Relations that the function keeps, on generated cases in f64 whose assignments stand in the stable order.

use approx::abs_diff_eq;
use binned_experts_check::{AnyProblem, CaseSpec, Domain, ElementType, Selection};
use binned_experts_reference::{ExpertWeights, Problem, binned_experts_ref};
use ndarray::{Array2, Array3, Axis, concatenate};
use proptest::prelude::*;

/// A case in f64 without special values, small enough to be run several times.
fn problems() -> impl Strategy<Value = (CaseSpec, Problem<f64>)> {
    proptest::collection::vec(any::<u8>(), 64..256).prop_map(|bytes| {
        let selection = Selection {
            elements: vec![ElementType::F64],
            domain: Domain::in_stable_order(),
            ..Selection::default()
        };
        let spec = CaseSpec::from_bytes(&bytes, &selection);
        let spec = CaseSpec {
            special: None,
            warmup: None,
            sequence: spec.sequence.min(200),
            ..spec
        };
        let AnyProblem::F64(problem) = spec.build().unwrap() else {
            panic!("an f64 case")
        };
        (spec, problem)
    })
}

/// The arguments of a problem, to be changed.
struct Parts {
    hidden_states: Array3<f64>,
    router_indices: Array2<i64>,
    routing_weights: Array3<f64>,
    weights: ExpertWeights<f64>,
    capacity: usize,
    like: Problem<f64>,
}

impl Parts {
    fn of(problem: &Problem<f64>) -> Parts {
        Parts {
            hidden_states: problem.hidden_states().clone(),
            router_indices: problem.router_indices().to_owned(),
            routing_weights: problem.routing_weights().clone(),
            weights: (**problem.weights()).clone(),
            capacity: problem.capacity(),
            like: problem.clone(),
        }
    }

    /// With a capacity that drops nothing.
    fn roomy(problem: &Problem<f64>) -> Parts {
        Parts {
            capacity: problem.bins().assignments(),
            ..Parts::of(problem)
        }
    }

    /// `[T,H]`.
    fn output(self) -> Array2<f64> {
        let Parts {
            hidden_states,
            router_indices,
            routing_weights,
            weights,
            capacity,
            like,
        } = self;
        let problem = Problem::new(hidden_states, router_indices, routing_weights, weights, capacity).unwrap();
        let problem = problem.with_activation(like.activation());
        let output = binned_experts_ref(&problem).unwrap().output;
        output
            .into_shape_with_order((problem.dims().tokens, problem.dims().hidden))
            .unwrap()
    }
}

/// Whether two results of the same values added in another order are the same.
fn close(left: &Array2<f64>, right: &Array2<f64>) -> bool {
    let scale = left
        .iter()
        .chain(right)
        .fold(1.0, |scale: f64, value| scale.max(value.abs()));
    left.dim() == right.dim()
        && left
            .iter()
            .zip(right)
            .all(|(left, right)| abs_diff_eq!(left, right, epsilon = 1e-11 * scale))
}

/// 0..n in an order that depends on a number.
fn permutation(n: usize, number: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    let mut state = number | 1;
    for last in (1..n).rev() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn permuting_tokens_permutes_the_rows((_, problem) in problems(), number: u64) {
        let order = permutation(problem.dims().tokens, number);
        let flat = |tensor: &Array3<f64>| {
            let (batch, sequence, width) = tensor.dim();
            tensor.to_shape((1, batch * sequence, width)).unwrap().select(Axis(1), &order)
        };
        let permuted = Parts {
            hidden_states: flat(problem.hidden_states()),
            router_indices: problem.router_indices().select(Axis(0), &order),
            routing_weights: flat(problem.routing_weights()),
            ..Parts::roomy(&problem)
        };
        prop_assert!(close(&permuted.output(), &Parts::roomy(&problem).output().select(Axis(0), &order)));
    }

    #[test]
    fn renaming_experts_changes_nothing((_, problem) in problems(), number: u64) {
        let order = permutation(problem.dims().experts, number);
        let new_name = |old: i64| order.iter().position(|expert| *expert as i64 == old).unwrap() as i64;
        let weights = problem.weights();
        let renamed = Parts {
            router_indices: problem.router_indices().mapv(new_name),
            routing_weights: problem.routing_weights().select(Axis(2), &order),
            weights: ExpertWeights::new(
                weights.gate_up_proj().select(Axis(0), &order),
                weights.gate_up_proj_bias().select(Axis(0), &order),
                weights.down_proj().select(Axis(0), &order),
                weights.down_proj_bias().select(Axis(0), &order),
            ).unwrap(),
            ..Parts::of(&problem)
        };
        prop_assert!(close(&renamed.output(), &Parts::of(&problem).output()));
    }

    #[test]
    fn permuting_slots_changes_nothing((_, problem) in problems(), number: u64) {
        let order = permutation(problem.dims().top_k, number);
        let permuted = Parts {
            router_indices: problem.router_indices().select(Axis(1), &order),
            ..Parts::roomy(&problem)
        };
        prop_assert!(close(&permuted.output(), &Parts::roomy(&problem).output()));
    }

    #[test]
    fn a_capacity_beyond_the_largest_count_changes_no_bit((_, problem) in problems(), more in 0usize..1000) {
        let fullest = problem.bins().tokens_per_expert().into_iter().max().unwrap_or(0);
        let full = Parts { capacity: fullest, ..Parts::of(&problem) };
        let beyond = Parts { capacity: fullest + more, ..Parts::of(&problem) };
        prop_assert_eq!(full.output(), beyond.output());
    }

    #[test]
    fn one_row_more_changes_only_tokens_that_it_keeps((_, problem) in problems()) {
        let capacity = problem.capacity().min(problem.bins().assignments());
        let more = Parts { capacity: capacity + 1, ..Parts::of(&problem) }.output();
        let fewer = Parts { capacity, ..Parts::of(&problem) }.output();
        let mut gains = vec![false; problem.dims().tokens];
        for expert in 0..problem.dims().experts {
            for flat in problem.bins().kept(expert, capacity + 1).iter().skip(capacity) {
                gains[flat / problem.dims().top_k] = true;
            }
        }
        for token in (0..gains.len()).filter(|token| !gains[*token]) {
            prop_assert_eq!(more.row(token), fewer.row(token));
        }
    }

    #[test]
    fn a_batch_may_be_split((_, problem) in problems(), number: usize) {
        let tokens = problem.dims().tokens;
        let at = number % (tokens + 1);
        let flat = |tensor: &Array3<f64>| {
            let (batch, sequence, width) = tensor.dim();
            tensor.to_shape((1, batch * sequence, width)).unwrap().to_owned()
        };
        let part = |range: std::ops::Range<usize>| {
            let tokens: Vec<usize> = range.collect();
            Parts {
                hidden_states: flat(problem.hidden_states()).select(Axis(1), &tokens),
                router_indices: problem.router_indices().select(Axis(0), &tokens),
                routing_weights: flat(problem.routing_weights()).select(Axis(1), &tokens),
                ..Parts::roomy(&problem)
            }.output()
        };
        let joined = concatenate(Axis(0), &[part(0..at).view(), part(at..tokens).view()]).unwrap();
        prop_assert!(close(&joined, &Parts::roomy(&problem).output()));
    }

    #[test]
    fn doubling_one_tokens_weights_doubles_its_row_exactly((_, problem) in problems(), number: usize) {
        let (tokens, (_, sequence, _)) = (problem.dims().tokens, problem.hidden_states().dim());
        prop_assume!(tokens > 0);
        let token = number % tokens;
        let mut doubled = Parts::of(&problem);
        let weights = doubled.routing_weights.index_axis_mut(Axis(0), token / sequence);
        weights.index_axis_move(Axis(0), token % sequence).mapv_inplace(|weight| 2.0 * weight);
        let mut expected = Parts::of(&problem).output();
        expected.row_mut(token).mapv_inplace(|value| 2.0 * value);
        prop_assert_eq!(doubled.output(), expected);
    }

    #[test]
    fn the_result_is_linear_in_the_routing_weights((_, problem) in problems(), factor in -2.0f64..2.0) {
        let with = |routing_weights: Array3<f64>| Parts { routing_weights, ..Parts::of(&problem) }.output();
        let other = problem.routing_weights().mapv(|weight| 1.0 - weight * weight);
        let sum = with(problem.routing_weights() + &(&other * factor));
        let parts = with(problem.routing_weights().clone()) + with(other) * factor;
        prop_assert!(close(&sum, &parts));
    }
}

/// The relations are worth nothing on cases that drop everything or compute nothing.
#[test]
fn the_cases_are_not_vacuous() {
    let selection = Selection {
        elements: vec![ElementType::F64],
        domain: Domain::in_stable_order(),
        ..Selection::default()
    };
    let computing = (0..100).filter(|seed| {
        let AnyProblem::F64(problem) = CaseSpec::from_seed(*seed, &selection).build().unwrap() else {
            panic!("an f64 case")
        };
        Parts::of(&problem).output().iter().any(|value| *value != 0.0)
    });
    assert!(computing.count() >= 75);
}
