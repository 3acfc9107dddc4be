//! Explicit orders of the assignments: what is drawn, and what engines that take none are given.

use std::ops::ControlFlow;

use crate::common::{Loops, share};
use binned_experts_check::case::{OrderProfile, Profile};
use binned_experts_check::check::{CaseResult, CheckPlan, Contender, check};
use binned_experts_check::engine::{Engine, Reference};
use binned_experts_check::oracle::Coverage;
use binned_experts_check::{CaseSpec, Domain, ElementType, Selection};

#[test]
fn orders_are_what_their_profiles_say() {
    for profile in OrderProfile::ALL.iter().copied() {
        let promised = share(Profile::Order(profile), |spec, expected| {
            let inputs = expected.inputs();
            let expert = |flat: usize| inputs.assignment(flat).2;
            let ties = || {
                inputs
                    .order
                    .windows(2)
                    .filter(|pair| expert(pair[0]) == expert(pair[1]))
            };
            let several = spec.tokens() * spec.top_k > 8 * spec.experts;
            match profile {
                // Where nothing differs from the stable order there is no explicit one.
                OrderProfile::TiesReversed => {
                    ties().all(|pair| pair[0] > pair[1]) || !Coverage::new(expected).ties_reordered
                }
                OrderProfile::TiesShuffled if several => {
                    let ascending = ties().filter(|pair| pair[0] < pair[1]).count();
                    0 < ascending && ascending < ties().count()
                }
                OrderProfile::TiesShuffled => true,
            }
        });
        assert_eq!(promised, 100, "{profile:?}");
    }
}

/// The order is the last thing drawn, so that a kernel that takes none has the same cases.
#[test]
fn one_case_in_ten_has_an_order_and_is_the_same_without() {
    let stable = Selection {
        domain: Domain::in_stable_order(),
        ..Selection::default()
    };
    let (mut differ, mut drop) = (0, 0);
    for seed in 0..1000 {
        let spec = CaseSpec::from_seed(seed, &Selection::default());
        let without = CaseSpec {
            order: None,
            ..spec.clone()
        };
        assert_eq!(CaseSpec::from_seed(seed, &stable), without);
        if spec.order.is_some() {
            let problem = spec.build().unwrap();
            differ += usize::from(problem.has_explicit_order());
            drop += usize::from(problem.has_explicit_order() && problem.bins().dropped(spec.capacity) > 0);
        }
    }
    assert!(
        (70..=130).contains(&differ),
        "{differ} of 1000 differ from the stable order"
    );
    assert!(drop >= 35, "{drop} of 1000 differ and drop assignments");
}

#[test]
fn engines_that_take_no_order_have_the_cases_without() {
    let plan = CheckPlan {
        cases: 100,
        selection: Selection {
            elements: vec![ElementType::F32],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    let orders = |engines: Vec<&mut dyn Engine>| {
        let mut orders = 0;
        let mut contenders: Vec<Contender<'_>> = engines.into_iter().map(Contender::single).collect();
        let summary = check(&mut contenders, &plan, &mut |result: &CaseResult| {
            orders += usize::from(result.spec.as_ref().is_some_and(|spec| spec.order.is_some()));
            ControlFlow::Continue(())
        });
        assert!(summary.unwrap().engines.iter().all(|totals| totals.agree == 100));
        orders
    };
    assert!(orders(vec![&mut Reference]) > 0);
    let mut takes_none = Loops::FP32;
    assert_eq!(orders(vec![&mut Reference, &mut takes_none]), 0);
}
