//! A domain as one line of a report.

use std::fmt;

use super::{Axis, Domain, TieOrder};
use crate::oracle::Precision;

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(claimed) = &self.precision {
            let names: Vec<String> = claimed.iter().map(Precision::to_string).collect();
            parts.push(names.join(" or "));
        }
        parts.extend(self.conditions());
        match self.tie_order {
            Some(TieOrder::Given) => parts.push("in an explicit order too".to_owned()),
            Some(TieOrder::Returned) => parts.push("ties in the order returned".to_owned()),
            Some(TieOrder::Stable) | None => {}
        }
        if self.is_deterministic() {
            parts.push("deterministic".to_owned());
        }
        if self.is_batch_invariant() {
            parts.push("batch-invariant".to_owned());
        }
        if parts.is_empty() {
            return f.write_str("anything");
        }
        f.write_str(&parts.join(", "))
    }
}

impl Domain {
    /// What a case has to fulfil besides its element type and its order; none if that is nothing.
    pub fn conditions(&self) -> Vec<String> {
        let sizes = |&axis: &Axis| Some(self.sizes(axis).condition(axis.letter())).filter(|text| !text.is_empty());
        let mut parts: Vec<String> = Axis::ALL.iter().filter_map(sizes).collect();
        let flags = [
            (self.takes_drops(), "nothing dropped"),
            (self.takes_duplicates(), "no expert twice in a token"),
        ];
        parts.extend(
            flags
                .iter()
                .filter(|(takes, _)| !takes)
                .map(|(_, text)| (*text).to_owned()),
        );
        for (name, numbers) in [("alpha", &self.alpha), ("limit", &self.limit)] {
            match numbers.as_deref() {
                None => {}
                Some([number]) => parts.push(format!("{name} {number}")),
                Some(numbers) => parts.push(format!("{name} in {{{}}}", joined(numbers))),
            }
        }
        if !self.takes_specials() {
            parts.push("finite inputs".to_owned());
        }
        parts
    }
}

fn joined(numbers: &[f64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
    numbers.join(", ")
}
