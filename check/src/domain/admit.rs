//! Whether a case is inside a domain.

use ndarray::ArrayView2;

use super::{Axis, Domain};
use crate::case::{CaseSpec, SpecError, SpecialValue};
use crate::named::Named;
use crate::oracle::Inputs;
use crate::tensor::{AnyProblem, ElementType};

/// Why a case is not inside a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}{}", if *.is_warmup { " in the warm-up call" } else { "" })]
pub struct Outside {
    /// The field of the domain.
    pub field: &'static str,
    /// What it asks for.
    pub expected: String,
    /// What the case has.
    pub found: String,
    /// Whether it is the warm-up call that is outside.
    pub is_warmup: bool,
}

/// What a domain asks of a case.
struct Facts<'a> {
    element: ElementType,
    /// In the order of [`Axis::ALL`].
    sizes: [usize; 6],
    ids: ArrayView2<'a, i64>,
    alpha: f64,
    limit: f64,
    is_finite: bool,
    has_order: bool,
}

impl Domain {
    /// Whether a case and its warm-up call are inside.
    ///
    /// # Errors
    /// [`Outside`] with the first field that is not fulfilled. A case that cannot be built is outside too.
    pub fn admits(&self, spec: &CaseSpec) -> Result<(), Outside> {
        self.admits_alone(spec)?;
        let Some(before) = spec.predecessor() else {
            return Ok(());
        };
        self.admits_alone(&before).map_err(|outside| Outside {
            is_warmup: true,
            ..outside
        })
    }

    /// Whether a problem is inside.
    ///
    /// # Errors
    /// [`Outside`] with the first field that is not fulfilled.
    pub fn admits_problem(&self, problem: &AnyProblem) -> Result<(), Outside> {
        let dims = problem.dims();
        let (ids, activation) = with_problem!(problem, problem => (problem.router_indices(), problem.activation()));
        self.admits_facts(&Facts {
            element: problem.element(),
            sizes: [
                dims.tokens,
                dims.hidden,
                dims.intermediate,
                dims.experts,
                dims.top_k,
                dims.capacity,
            ],
            ids,
            alpha: activation.alpha,
            limit: activation.limit,
            is_finite: self.takes_specials() || Inputs::new(problem).is_finite(),
            has_order: problem.has_explicit_order(),
        })
    }

    fn admits_alone(&self, spec: &CaseSpec) -> Result<(), Outside> {
        let unbuilt = |error: SpecError| outside("sizes", "a case that can be built", error);
        spec.check_sizes().map_err(unbuilt)?;
        let ids = spec.router_indices().map_err(unbuilt)?;
        let is_special = |value| matches!(value, SpecialValue::Nan | SpecialValue::Inf | SpecialValue::NegativeInf);
        self.admits_facts(&Facts {
            element: spec.element,
            sizes: [
                spec.tokens(),
                spec.hidden,
                spec.intermediate,
                spec.experts,
                spec.top_k,
                spec.capacity,
            ],
            ids: ids.view(),
            alpha: spec.alpha,
            limit: spec.limit,
            is_finite: !spec.special.is_some_and(|special| is_special(special.value)),
            has_order: spec.order.is_some(),
        })
    }

    fn admits_facts(&self, facts: &Facts<'_>) -> Result<(), Outside> {
        if self.precision_on(facts.element).is_none() {
            let claimed = self.precision.iter().flatten();
            let names: Vec<&str> = claimed.map(|precision| precision.name()).collect();
            return Err(outside("precision", names.join(" or "), facts.element));
        }
        for (&axis, size) in Axis::ALL.iter().zip(facts.sizes) {
            if !self.sizes(axis).admits(size) {
                return Err(outside(axis.name(), self.sizes(axis).condition(axis.letter()), size));
            }
        }
        let [_, hidden, intermediate, _, _, capacity] = facts.sizes;
        if self.intermediate.equals.is_some() && intermediate != hidden {
            return Err(outside("intermediate", format!("I = H = {hidden}"), intermediate));
        }
        if !self.takes_duplicates()
            && let Some(token) = facts
                .ids
                .rows()
                .into_iter()
                .position(|row| has_duplicates(&row.to_vec()))
        {
            let found = format!("token {token} with {}", facts.ids.row(token));
            return Err(outside("duplicates", "no expert twice in a token", found));
        }
        if !self.takes_drops() {
            let fullest = fullest_expert(facts.ids);
            if fullest > capacity {
                let found = format!("C = {capacity} and an expert with {fullest} assignments");
                return Err(outside("drops", "nothing dropped", found));
            }
        }
        for (field, numbers, number) in [("alpha", &self.alpha, facts.alpha), ("limit", &self.limit, facts.limit)] {
            if let Some(numbers) = numbers
                && !numbers.contains(&number)
            {
                let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
                return Err(outside(field, numbers.join(" or "), number));
            }
        }
        if !self.takes_specials() && !facts.is_finite {
            return Err(outside("finite", "finite inputs", "NaN or an infinity"));
        }
        if facts.has_order && !self.takes_order() {
            return Err(outside("tie_order", "no explicit order", "one"));
        }
        Ok(())
    }
}

fn outside(field: &'static str, expected: impl Into<String>, found: impl ToString) -> Outside {
    Outside {
        field,
        expected: expected.into(),
        found: found.to_string(),
        is_warmup: false,
    }
}

fn has_duplicates(row: &[i64]) -> bool {
    let mut row = row.to_vec();
    row.sort_unstable();
    row.windows(2).any(|pair| pair[0] == pair[1])
}

/// The largest number of assignments of an expert.
pub(crate) fn fullest_expert(ids: ArrayView2<'_, i64>) -> usize {
    let mut counts: Vec<usize> = Vec::new();
    for expert in ids.iter().filter_map(|id| usize::try_from(*id).ok()) {
        counts.resize(counts.len().max(expert + 1), 0);
        counts[expert] += 1;
    }
    counts.into_iter().max().unwrap_or(0)
}
