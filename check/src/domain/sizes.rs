//! The sizes that an axis may have.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::DomainError;
use crate::case::{MAX_SIZE, named_enum};

named_enum! {
    /// An axis of a case.
    pub enum Axis {
        /// T.
        Tokens = "tokens",
        /// H.
        Hidden = "hidden",
        /// I.
        Intermediate = "intermediate",
        /// E.
        Experts = "experts",
        /// K.
        TopK = "top_k",
        /// C.
        Capacity = "capacity",
    }
}

impl Axis {
    /// Its letter.
    pub(super) fn letter(self) -> &'static str {
        match self {
            Axis::Tokens => "T",
            Axis::Hidden => "H",
            Axis::Intermediate => "I",
            Axis::Experts => "E",
            Axis::TopK => "K",
            Axis::Capacity => "C",
        }
    }

    /// The least size that cases are drawn with.
    pub(super) fn least(self) -> usize {
        match self {
            Axis::Tokens | Axis::Capacity => 0,
            Axis::Hidden | Axis::Intermediate | Axis::Experts | Axis::TopK => 1,
        }
    }
}

/// The sizes that an axis may have: those that fulfil every condition given. 0 is a multiple of every number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sizes {
    /// At least this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<usize>,
    /// At most this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
    /// A multiple of this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<usize>,
    /// Whether it has to be a power of two.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub power_of_two: bool,
    /// One of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<usize>>,
    /// The same as another axis. Only the intermediate size may be tied in this way, and only to the hidden one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<Axis>,
}

impl Sizes {
    /// Exactly one size.
    pub fn only(size: usize) -> Sizes {
        Sizes {
            one_of: Some(vec![size]),
            ..Sizes::default()
        }
    }

    /// Multiples of a number.
    pub fn multiples_of(number: usize) -> Sizes {
        Sizes {
            multiple_of: Some(number),
            ..Sizes::default()
        }
    }

    /// Sizes from one to another, both included.
    pub fn within(min: usize, max: usize) -> Sizes {
        Sizes {
            min: Some(min),
            max: Some(max),
            ..Sizes::default()
        }
    }

    /// Whether every size is admitted.
    pub fn is_any(&self) -> bool {
        *self == Sizes::default()
    }

    /// Whether a size fulfils every condition but [`equals`](Sizes::equals).
    pub fn admits(&self, size: usize) -> bool {
        self.min.is_none_or(|min| size >= min)
            && self.max.is_none_or(|max| size <= max)
            && self.multiple_of.is_none_or(|number| size.is_multiple_of(number))
            && (!self.power_of_two || size.is_power_of_two())
            && self.one_of.as_ref().is_none_or(|sizes| sizes.contains(&size))
    }

    /// The least admitted size that is not below `size`.
    pub(crate) fn at_least(&self, size: usize) -> Option<usize> {
        let from = size.max(self.min.unwrap_or(0));
        if let Some(sizes) = &self.one_of {
            let enough = sizes.iter().copied().filter(|&size| size >= from && self.admits(size));
            return enough.min();
        }
        let step = self.multiple_of.unwrap_or(1);
        let found = if self.power_of_two {
            from.max(step).checked_next_power_of_two()
        } else {
            from.checked_next_multiple_of(step)
        };
        found.filter(|&size| self.admits(size))
    }

    /// The greatest admitted size that is not above `size`.
    pub(crate) fn at_most(&self, size: usize) -> Option<usize> {
        let to = size.min(self.max.unwrap_or(usize::MAX));
        if let Some(sizes) = &self.one_of {
            let low = sizes.iter().copied().filter(|&size| size <= to && self.admits(size));
            return low.max();
        }
        let step = self.multiple_of.unwrap_or(1);
        let found = if self.power_of_two {
            1 << to.checked_ilog2()?
        } else {
            to - to % step
        };
        Some(found).filter(|&size| self.admits(size))
    }

    /// Those that are at least `min` besides.
    pub(crate) fn from(&self, min: usize) -> Sizes {
        Sizes {
            min: Some(min.max(self.min.unwrap_or(0))),
            ..self.clone()
        }
    }

    /// Those that are at most `max` besides.
    pub(crate) fn to(&self, max: usize) -> Sizes {
        Sizes {
            max: Some(max.min(self.max.unwrap_or(usize::MAX))),
            ..self.clone()
        }
    }

    /// Those inside a range; none where it has none.
    pub(crate) fn inside(&self, range: &RangeInclusive<usize>) -> Option<Sizes> {
        let sizes = self.from(*range.start()).to(*range.end());
        sizes.at_least(0).is_some().then_some(sizes)
    }

    /// Those that both admit.
    pub(crate) fn meet(&self, other: &Sizes) -> Sizes {
        let both = |mine: Option<usize>, theirs: Option<usize>, choose: fn(usize, usize) -> usize| match (mine, theirs)
        {
            (Some(mine), Some(theirs)) => Some(choose(mine, theirs)),
            (one, None) | (None, one) => one,
        };
        let listed = match (&self.one_of, &other.one_of) {
            (Some(mine), Some(theirs)) => Some(mine.iter().copied().filter(|size| theirs.contains(size)).collect()),
            (one, None) | (None, one) => one.clone(),
        };
        Sizes {
            min: both(self.min, other.min, usize::max),
            max: both(self.max, other.max, usize::min),
            multiple_of: both(self.multiple_of, other.multiple_of, least_common_multiple),
            power_of_two: self.power_of_two || other.power_of_two,
            one_of: listed,
            equals: self.equals.or(other.equals),
        }
    }

    /// Refuses conditions that make no sense or that no size of the axis fulfils.
    pub(super) fn check(&self, axis: Axis) -> Result<(), DomainError> {
        let wrong = |field: &str, expected: &str, found: String| {
            let field = format!("{axis}{field}");
            Err(DomainError::new(field, expected, found))
        };
        if self.multiple_of == Some(0) {
            return wrong(".multiple_of", "at least 1", "0".to_owned());
        }
        if self.one_of.as_ref().is_some_and(Vec::is_empty) {
            return wrong(".one_of", "at least one size", "none".to_owned());
        }
        match self.equals {
            Some(other) if (axis, other) != (Axis::Intermediate, Axis::Hidden) => {
                return wrong(".equals", "only intermediate to equal hidden", other.to_string());
            }
            _ => {}
        }
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return wrong("", "min to be at most max", format!("min = {min} and max = {max}"));
        }
        match self.at_least(axis.least()) {
            None => {
                let expected = format!("conditions that some size of at least {} fulfils", axis.least());
                wrong("", &expected, self.condition(axis.letter()))
            }
            Some(least) if least > MAX_SIZE && axis != Axis::Capacity => wrong(
                "",
                &format!("some size of at most {MAX_SIZE}"),
                self.condition(axis.letter()),
            ),
            Some(_) => Ok(()),
        }
    }

    /// The conditions on a letter, such as `H % 64 = 0`; empty where there are none.
    pub(super) fn condition(&self, letter: &str) -> String {
        let mut parts = Vec::new();
        if let Some(other) = self.equals {
            parts.push(format!("{letter} = {}", other.letter()));
        }
        match self.one_of.as_deref() {
            Some([size]) => parts.push(format!("{letter} = {size}")),
            Some(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
                parts.push(format!("{letter} in {{{}}}", sizes.join(", ")));
            }
            None => {}
        }
        match (self.min, self.max) {
            (Some(min), Some(max)) => parts.push(format!("{min} ≤ {letter} ≤ {max}")),
            (Some(min), None) => parts.push(format!("{letter} ≥ {min}")),
            (None, Some(max)) => parts.push(format!("{letter} ≤ {max}")),
            (None, None) => {}
        }
        if let Some(number) = self.multiple_of {
            parts.push(format!("{letter} % {number} = 0"));
        }
        if self.power_of_two {
            parts.push(format!("{letter} a power of two"));
        }
        parts.join(", ")
    }
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    (a / divisor.max(1)).saturating_mul(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conditions of every kind, alone and together.
    fn examples() -> Vec<Sizes> {
        let powers = Sizes {
            power_of_two: true,
            ..Sizes::default()
        };
        vec![
            Sizes::default(),
            Sizes::within(3, 40),
            Sizes::multiples_of(24),
            powers.clone(),
            powers.meet(&Sizes::multiples_of(8)),
            powers.meet(&Sizes::within(5, 70)),
            powers.meet(&Sizes::multiples_of(6)),
            Sizes::multiples_of(16).meet(&Sizes::within(40, 100)),
            Sizes::multiples_of(16).meet(&Sizes::multiples_of(12)),
            Sizes::only(17),
            Sizes {
                one_of: Some(vec![12, 1, 48, 7]),
                ..Sizes::multiples_of(3)
            },
        ]
    }

    #[test]
    fn the_nearest_sizes_are_those_that_a_search_finds() {
        for sizes in examples() {
            for size in 0..150 {
                assert_eq!(
                    sizes.at_least(size),
                    (size..400).find(|&size| sizes.admits(size)),
                    "{sizes:?} {size}"
                );
                assert_eq!(
                    sizes.at_most(size),
                    (0..=size).rev().find(|&size| sizes.admits(size)),
                    "{sizes:?} {size}"
                );
            }
        }
    }

    #[test]
    fn a_meet_admits_what_both_admit() {
        for (a, b) in examples()
            .iter()
            .flat_map(|a| examples().into_iter().map(move |b| (a.clone(), b)))
        {
            let meet = a.meet(&b);
            for size in 0..150 {
                assert_eq!(
                    meet.admits(size),
                    a.admits(size) && b.admits(size),
                    "{a:?} {b:?} {size}"
                );
            }
        }
    }
}
