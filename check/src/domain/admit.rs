//! Whether a case is inside a domain.

use binned_experts_reference::Problem;
use ndarray::Array2;

use super::{Axis, Domain, is_in};
use crate::case::{AnyProblem, CaseElement, CaseSpec, ForeignIds, LayerSpec, Named, SpecError, SpecialValue, ViewKind};
use crate::oracle::Precision;

/// Why a case is not inside a domain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}{}", if *.is_warmup { " in a warm-up call" } else { "" })]
pub struct Outside {
    /// The field of the domain.
    pub field: &'static str,
    /// What it asks for.
    pub expected: String,
    /// What the case has.
    pub found: String,
    /// Whether it is a warm-up call that is outside.
    pub is_warmup: bool,
}

/// What a domain asks of a case.
struct Facts {
    /// In the order of [`Axis::ALL`].
    sizes: [usize; 6],
    /// The local experts of each token, where drops or duplicates count.
    ids: Option<Vec<Vec<usize>>>,
    layer: LayerSpec,
    /// What stands in slots whose expert is not local, where there can be such.
    foreign: Option<ForeignIds>,
    views: Vec<ViewKind>,
    alpha: f64,
    limit: f64,
    is_finite: bool,
    has_order: bool,
}

impl Domain {
    /// Whether a case and its warm-up calls are inside.
    ///
    /// # Errors
    /// [`Outside`] with the first field that is not fulfilled. A case that cannot be built is outside too.
    pub fn admits(&self, spec: &CaseSpec) -> Result<(), Outside> {
        self.admits_alone(spec)?;
        spec.predecessors().iter().try_for_each(|before| {
            self.admits_alone(before).map_err(|outside| Outside {
                is_warmup: true,
                ..outside
            })
        })
    }

    /// Whether a problem is inside, but for its element type.
    ///
    /// # Errors
    /// [`Outside`] with the first field that is not fulfilled.
    pub fn admits_problem(&self, problem: &AnyProblem) -> Result<(), Outside> {
        let (dims, activation) = (problem.dims(), problem.activation());
        let local = |row: &[Option<usize>]| row.iter().flatten().copied().collect();
        let ids = || problem.expert_of().chunks(dims.top_k).map(local).collect();
        self.admits_facts(&Facts {
            sizes: [
                dims.tokens,
                dims.hidden,
                dims.intermediate,
                dims.experts,
                dims.top_k,
                dims.capacity,
            ],
            ids: self.asks_for_ids().then(ids),
            layer: (*problem.layer()).into(),
            foreign: with_problem!(problem, problem => foreign_ids(problem)),
            views: problem.views().values().copied().filter_map(ViewKind::of).collect(),
            alpha: activation.alpha,
            limit: activation.limit,
            is_finite: self.takes_specials() || problem.is_finite(),
            has_order: problem.has_explicit_order(),
        })
    }

    /// Whether a layer has parts that it takes: an activation, a place of the routing weight, types of tensors, shared
    /// experts.
    pub(super) fn admits_parts(&self, layer: &LayerSpec) -> Result<(), Outside> {
        listed("activation", &self.activation, layer.activation)?;
        listed("weight_on", &self.weight_on, layer.weight_on)?;
        listed("bias_type", &self.bias_type, layer.bias_type)?;
        listed(
            "routing_weight_type",
            &self.routing_weight_type,
            layer.routing_weight_type,
        )?;
        listed("output_type", &self.output_type, layer.output_type)?;
        if self.shared_experts == Some(false) && layer.shared_experts > 0 {
            return Err(outside("shared_experts", "none", layer.shared_experts));
        }
        Ok(())
    }

    fn admits_alone(&self, spec: &CaseSpec) -> Result<(), Outside> {
        let unbuilt = |error: SpecError| outside("sizes", "a case that can be built", error);
        spec.check_sizes().map_err(unbuilt)?;
        if self.precision_on(spec.element).is_none() {
            let claimed = self.precision.iter().flatten();
            let names: Vec<String> = claimed.map(Precision::to_string).collect();
            return Err(outside("precision", names.join(" or "), spec.element));
        }
        let ids = if self.asks_for_ids() {
            let ids = spec.router_indices().map_err(unbuilt)?;
            Some(local_rows(&ids.mapv(|id| spec.local_expert(id)), spec.experts))
        } else {
            None
        };
        let is_special = |value| matches!(value, SpecialValue::Nan | SpecialValue::Inf | SpecialValue::NegativeInf);
        self.admits_facts(&Facts {
            sizes: [
                spec.tokens(),
                spec.hidden,
                spec.intermediate,
                spec.experts,
                spec.top_k,
                spec.capacity,
            ],
            ids,
            layer: spec.layer,
            foreign: spec.foreign.map(|foreign| foreign.ids),
            views: spec.views.values().copied().collect(),
            alpha: spec.alpha,
            limit: spec.limit,
            is_finite: !spec.special.is_some_and(|special| is_special(special.value)),
            has_order: spec.order.is_some(),
        })
    }

    /// Whether it depends on the experts of the tokens what it takes.
    fn asks_for_ids(&self) -> bool {
        !self.takes_drops() || !self.takes_duplicates()
    }

    fn admits_facts(&self, facts: &Facts) -> Result<(), Outside> {
        for (&axis, size) in Axis::ALL.iter().zip(facts.sizes) {
            if !self.sizes(axis).admits(size) {
                return Err(outside(axis.name(), self.sizes(axis).condition(axis.letter()), size));
            }
        }
        let [_, hidden, intermediate, _, _, capacity] = facts.sizes;
        if self.intermediate.equals.is_some() && intermediate != hidden {
            return Err(outside("intermediate", format!("I = H = {hidden}"), intermediate));
        }
        if let Some(ids) = &facts.ids
            && !self.takes_duplicates()
            && let Some(token) = ids.iter().position(|row| has_duplicates(row.clone()))
        {
            let found = format!("token {token} with {:?}", ids[token]);
            return Err(outside("duplicates", "no expert twice in a token", found));
        }
        if let Some(ids) = &facts.ids
            && !self.takes_drops()
        {
            let fullest = fullest_expert(ids.iter().flatten().copied());
            if fullest > capacity {
                let found = format!("C = {capacity} and an expert with {fullest} assignments");
                return Err(outside("drops", "nothing dropped", found));
            }
        }
        let takes_layer = match &self.layers {
            None => facts.layer.is_default(),
            Some(layers) => layers.admits(&facts.layer),
        };
        if !takes_layer {
            return Err(outside("layers", self.layers_text(), facts.layer));
        }
        self.admits_parts(&facts.layer)?;
        if let Some(ids) = facts.foreign
            && !self.foreign.as_ref().is_some_and(|foreign| foreign.admits(&ids))
        {
            return Err(outside("foreign", self.foreign_text(), ids));
        }
        let takes_view = |kind: &ViewKind| self.views.as_ref().is_some_and(|views| views.admits(kind));
        if let Some(kind) = facts.views.iter().find(|kind| !takes_view(kind)) {
            return Err(outside("views", self.views_text(), kind));
        }
        let kind = facts.layer.activation;
        let parameters = [
            ("alpha", kind.has_alpha(), &self.alpha, facts.alpha),
            ("limit", kind.has_limit(), &self.limit, facts.limit),
        ];
        for (field, counts, numbers, number) in parameters {
            if let Some(numbers) = numbers
                && counts
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

/// Refuses what is not in the list of a field, if there is one.
fn listed<T: ToString + PartialEq>(field: &'static str, list: &Option<Vec<T>>, found: T) -> Result<(), Outside> {
    if is_in(list, &found) {
        return Ok(());
    }
    let names: Vec<String> = list.iter().flatten().map(T::to_string).collect();
    Err(outside(field, names.join(" or "), found))
}

fn outside(field: &'static str, expected: impl Into<String>, found: impl ToString) -> Outside {
    Outside {
        field,
        expected: expected.into(),
        found: found.to_string(),
        is_warmup: false,
    }
}

/// What tells ids of other ranks from padding: the first local id, and ids beyond the last.
fn foreign_ids<T: CaseElement>(problem: &Problem<T>) -> Option<ForeignIds> {
    let (ids, experts) = (problem.router_indices(), problem.dims().experts as i64);
    if problem.first_expert()? > 0 || ids.iter().any(|id| *id >= experts) {
        return Some(ForeignIds::OtherRanks);
    }
    ids.iter().any(|id| *id < 0).then_some(ForeignIds::MinusOne)
}

/// Of each row what is below `experts`.
fn local_rows(ids: &Array2<usize>, experts: usize) -> Vec<Vec<usize>> {
    let local = |id: &usize| *id < experts;
    let rows = ids.rows().into_iter();
    rows.map(|row| row.iter().copied().filter(local).collect()).collect()
}

fn has_duplicates(mut row: Vec<usize>) -> bool {
    row.sort_unstable();
    row.windows(2).any(|pair| pair[0] == pair[1])
}

/// The largest number of assignments of an expert.
pub(crate) fn fullest_expert(ids: impl IntoIterator<Item = usize>) -> usize {
    let mut ids = Vec::from_iter(ids);
    ids.sort_unstable();
    ids.chunk_by(|a, b| a == b).map(<[usize]>::len).max().unwrap_or(0)
}
