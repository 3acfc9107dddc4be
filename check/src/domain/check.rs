//! Reading a domain, and refusing one that makes no sense.

use super::{Axis, Domain, DomainError};
use crate::case::{CaseSpec, LayerSpec, Named};
use crate::oracle::Precision;

impl Domain {
    /// Reads JSON.
    ///
    /// # Errors
    /// [`DomainError`] if the text is not a domain, or the domain makes no sense.
    pub fn from_json(text: &str) -> Result<Domain, DomainError> {
        let syntax = |error: serde_json::Error| DomainError::Syntax {
            message: error.to_string(),
        };
        let domain: Domain = serde_json::from_str(text).map_err(syntax)?;
        domain.check()?;
        Ok(domain)
    }

    /// Whether cases can be drawn inside.
    ///
    /// # Errors
    /// [`DomainError`] with the field that has no sense, contradicts another, or leaves no case.
    pub fn check(&self) -> Result<(), DomainError> {
        for &axis in Axis::ALL {
            self.sizes(axis).check(axis)?;
        }
        self.check_precision()?;
        listed("alpha", self.alpha.as_deref(), f64::is_finite, "finite numbers")?;
        listed("limit", self.limit.as_deref(), |limit| !limit.is_nan(), "numbers")?;
        if self.drawn_layers().is_empty() {
            return Err(DomainError::new("layers", "at least one layer that all take", "none"));
        }
        self.drawn_layers().into_iter().try_for_each(|layer| {
            self.check_layer(layer)?;
            self.with_layer(layer).check_pairs(layer)
        })
    }

    /// Sizes that a layer has none of.
    fn check_layer(&self, layer: LayerSpec) -> Result<(), DomainError> {
        let of_layer = self.with_layer(layer);
        for axis in [Axis::Hidden, Axis::Intermediate] {
            if of_layer.in_blocks(self.sizes(axis)).at_least(1).is_none() {
                let expected = format!("multiples of {}, for layer {layer}", layer.projections.block());
                let found = self.sizes(axis).condition(axis.letter());
                return Err(DomainError::new(axis.name(), expected, found));
            }
        }
        let most = of_layer.most_intermediate();
        if self.intermediate.to(most).at_least(1).is_none() {
            let expected = format!("at most {most}, for layer {layer}");
            let found = self.intermediate.condition(Axis::Intermediate.letter());
            return Err(DomainError::new(Axis::Intermediate.name(), expected, found));
        }
        Ok(())
    }

    fn check_precision(&self) -> Result<(), DomainError> {
        let Some(claimed) = &self.precision else { return Ok(()) };
        if claimed.is_empty() {
            return Err(DomainError::new("precision", "at least one", "none"));
        }
        let clash = |(at, precision): (usize, &Precision)| {
            let same = |other: &&Precision| other.element() == precision.element();
            claimed[..at].iter().find(same).map(|other| (*other, *precision))
        };
        match claimed.iter().enumerate().find_map(clash) {
            None => Ok(()),
            Some((first, second)) => {
                let element = first.element();
                let found = format!("{first} and {second} for {element}");
                Err(DomainError::new("precision", "one for an element type", found))
            }
        }
    }

    /// Conditions that leave no case together.
    fn check_pairs(&self, layer: LayerSpec) -> Result<(), DomainError> {
        let axes = self.axes();
        let clash = |axis: Axis, expected: String| {
            let found = self.sizes(axis).condition(axis.letter());
            Err(DomainError::new(axis.name(), expected, found))
        };
        let Some(_) = axes.hidden.at_least(1) else {
            let hidden = self.hidden.condition("H");
            return clash(
                Axis::Intermediate,
                format!("a size that is one of H too, where {hidden}"),
            );
        };
        if axes.top_k.at_least(1).is_none() || axes.experts.at_least(1).is_none() {
            let experts = self.experts.condition("E");
            let expected = format!("at most E experts in a token, where {experts}, since duplicates = false");
            return clash(Axis::TopK, expected);
        }
        let least = axes.least();
        if !axes.drops {
            let rows = least.tokens * if axes.distinct { 1 } else { least.top_k };
            if axes.capacity.at_least(rows).is_none() {
                let expected = format!("room for {rows} assignments of one expert, since drops = false");
                return clash(Axis::Capacity, expected);
            }
        }
        // One that is too large to be judged whole is sampled.
        let least = CaseSpec {
            sampled: true,
            ..axes.least_case(layer)
        };
        match least.check_sizes() {
            Ok(()) => Ok(()),
            Err(error) => Err(DomainError::new(
                "sizes",
                "a least case that can be built",
                error.to_string(),
            )),
        }
    }
}

/// Refuses a list without entries, and entries that are no use.
fn listed(
    field: &str,
    numbers: Option<&[f64]>,
    is_usable: impl Fn(f64) -> bool,
    usable: &str,
) -> Result<(), DomainError> {
    let Some(numbers) = numbers else { return Ok(()) };
    if numbers.is_empty() {
        return Err(DomainError::new(field, "at least one number", "none"));
    }
    match numbers.iter().find(|number| !is_usable(**number)) {
        None => Ok(()),
        Some(number) => Err(DomainError::new(field, usable, number.to_string())),
    }
}

impl std::str::FromStr for Domain {
    type Err = DomainError;

    /// Reads TOML.
    fn from_str(text: &str) -> Result<Domain, DomainError> {
        let syntax = |error: toml::de::Error| DomainError::Syntax {
            message: error.to_string().trim_end().to_owned(),
        };
        let domain: Domain = toml::from_str(text).map_err(syntax)?;
        domain.check()?;
        Ok(domain)
    }
}
