//! Cases one step beyond a limit of a domain.

use std::fmt;

use super::{Axis, Domain, Sizes, TieOrder, fullest_expert};
use crate::case::{CaseSpec, OrderProfile, Place, Routing, RoutingProfile, Special, SpecialValue};

/// Something that a domain does not admit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// A size that breaks one condition of an axis.
    Size(Axis, Condition),
    /// An I that is not H.
    Square,
    /// A dropped assignment.
    Drops,
    /// An expert twice in a token.
    Duplicates,
    /// Another factor inside the sigmoid.
    Alpha,
    /// Another clamp.
    Clamp,
    /// A NaN.
    Finite,
    /// An explicit order.
    Order,
}

/// A condition on the sizes of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Condition {
    /// Below the least.
    Min,
    /// Above the greatest.
    Max,
    /// Not a multiple.
    MultipleOf,
    /// Not a power of two.
    PowerOfTwo,
    /// Not in the list.
    OneOf,
}

impl fmt::Display for Limit {
    /// The field of the domain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let field = match self {
            Limit::Size(axis, condition) => return write!(f, "{axis}.{condition}"),
            Limit::Square => "intermediate.equals",
            Limit::Drops => "drops",
            Limit::Duplicates => "duplicates",
            Limit::Alpha => "alpha",
            Limit::Clamp => "limit",
            Limit::Finite => "finite",
            Limit::Order => "tie_order",
        };
        f.write_str(field)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Condition::Min => "min",
            Condition::Max => "max",
            Condition::MultipleOf => "multiple_of",
            Condition::PowerOfTwo => "power_of_two",
            Condition::OneOf => "one_of",
        })
    }
}

impl Domain {
    /// The limits that it declares.
    pub fn limits(&self) -> Vec<Limit> {
        let mut limits = Vec::new();
        for &axis in Axis::ALL {
            let sizes = self.sizes(axis);
            let conditions = [
                (Condition::Min, sizes.min.is_some_and(|min| min > axis.least())),
                (Condition::Max, sizes.max.is_some()),
                (
                    Condition::MultipleOf,
                    sizes.multiple_of.is_some_and(|number| number > 1),
                ),
                (Condition::PowerOfTwo, sizes.power_of_two),
                (Condition::OneOf, sizes.one_of.is_some()),
            ];
            let declared = conditions.iter().filter(|(_, is_declared)| *is_declared);
            limits.extend(declared.map(|(condition, _)| Limit::Size(axis, *condition)));
        }
        let others = [
            (Limit::Square, self.intermediate.equals.is_some()),
            (Limit::Drops, !self.takes_drops()),
            (Limit::Duplicates, !self.takes_duplicates()),
            (Limit::Alpha, self.alpha.is_some()),
            (Limit::Clamp, self.limit.is_some()),
            (Limit::Finite, !self.takes_specials()),
            (Limit::Order, self.tie_order == Some(TieOrder::Stable)),
        ];
        limits.extend(
            others
                .iter()
                .filter(|(_, is_declared)| *is_declared)
                .map(|(limit, _)| *limit),
        );
        limits
    }

    /// A case inside, moved one step beyond a limit; none where that breaks another limit too, or gives no case.
    pub fn beyond(&self, limit: Limit, inside: &CaseSpec) -> Option<CaseSpec> {
        let mut spec = CaseSpec {
            warmup: None,
            larger: None,
            ..inside.clone()
        };
        match limit {
            Limit::Size(axis, condition) => self.resize(&mut spec, axis, condition)?,
            Limit::Square => {
                let other = |size: &usize| *size != spec.hidden && self.intermediate.admits(*size);
                spec.intermediate = (spec.hidden + 1..spec.hidden + 4096).find(other)?;
            }
            Limit::Drops => spec.capacity = fullest(&spec).checked_sub(1)?,
            Limit::Duplicates => {
                spec.top_k = self.top_k.at_least(2.max(spec.top_k))?;
                spec.distinct = false;
                spec.routing = Routing::Profile(RoutingProfile::TwoEqual);
            }
            Limit::Alpha => spec.alpha = another(self.alpha.as_deref()?),
            Limit::Clamp => spec.limit = another(self.limit.as_deref()?),
            Limit::Finite => {
                spec.special = Some(Special {
                    value: SpecialValue::Nan,
                    place: Place::Token,
                });
            }
            Limit::Order => spec.order = Some(OrderProfile::TiesReversed),
        }
        if limit != Limit::Drops && !self.takes_drops() {
            let needed = fullest(&spec).max(spec.capacity);
            spec.capacity = match limit {
                Limit::Size(Axis::Capacity, _) => spec.capacity,
                _ => self.capacity.at_least(needed)?,
            };
        }
        let outside = self.admits(&spec).err()?;
        let is_alone = limit.to_string().split('.').next() == Some(outside.field);
        (is_alone && spec.check_sizes().is_ok()).then_some(spec)
    }

    /// Gives an axis a size that breaks a condition.
    fn resize(&self, spec: &mut CaseSpec, axis: Axis, condition: Condition) -> Option<()> {
        let sizes = self.sizes(axis);
        let size = broken(sizes, condition, size_of(spec, axis))?;
        match axis {
            Axis::Tokens => (spec.batch, spec.sequence) = (1, size),
            Axis::Hidden => spec.hidden = size,
            Axis::Intermediate => spec.intermediate = size,
            Axis::Experts => spec.experts = size,
            Axis::TopK => spec.top_k = size,
            Axis::Capacity => spec.capacity = size,
        }
        if self.intermediate.equals.is_some() {
            match axis {
                Axis::Hidden => spec.intermediate = size,
                Axis::Intermediate => spec.hidden = size,
                _ => {}
            }
        }
        // K beyond its limit needs so many experts, where they have to be different.
        if spec.distinct && spec.top_k > spec.experts {
            match axis {
                Axis::Experts => spec.top_k = self.top_k.at_most(spec.experts)?,
                _ => spec.experts = self.experts.at_least(spec.top_k)?,
            }
        }
        Some(())
    }
}

/// A size near `size` that breaks one condition.
fn broken(sizes: &Sizes, condition: Condition, size: usize) -> Option<usize> {
    let others = |condition: Condition| {
        let mut others = Sizes {
            equals: None,
            ..sizes.clone()
        };
        match condition {
            Condition::Min => others.min = None,
            Condition::Max => others.max = None,
            Condition::MultipleOf => others.multiple_of = None,
            Condition::PowerOfTwo => others.power_of_two = false,
            Condition::OneOf => others.one_of = None,
        }
        others
    };
    match condition {
        Condition::Min => others(condition).at_most(sizes.min?.checked_sub(1)?),
        Condition::Max => others(condition).at_least(sizes.max?.checked_add(1)?),
        Condition::MultipleOf | Condition::PowerOfTwo | Condition::OneOf => {
            let others = others(condition);
            let is_broken = |size: &usize| others.admits(*size) && !sizes.admits(*size);
            let above = (size..size.saturating_add(4096)).find(is_broken);
            above.or_else(|| (1..size).rev().find(is_broken))
        }
    }
}

fn size_of(spec: &CaseSpec, axis: Axis) -> usize {
    match axis {
        Axis::Tokens => spec.tokens(),
        Axis::Hidden => spec.hidden,
        Axis::Intermediate => spec.intermediate,
        Axis::Experts => spec.experts,
        Axis::TopK => spec.top_k,
        Axis::Capacity => spec.capacity,
    }
}

/// A number that is not listed.
fn another(listed: &[f64]) -> f64 {
    let others = [1.0, 7.0, 2.5, 0.5];
    let other = others.iter().find(|number| !listed.contains(number));
    other.copied().unwrap_or_else(|| listed.iter().sum::<f64>().abs() + 1.0)
}

fn fullest(spec: &CaseSpec) -> usize {
    let ids = spec.router_indices();
    let local = |id| Some(spec.local_expert(id)).filter(|expert| *expert < spec.experts);
    ids.map_or(0, |ids| fullest_expert(ids.into_iter().filter_map(local)))
}
