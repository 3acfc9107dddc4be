//! A domain as one line of a report.

use std::fmt;

use binned_experts_reference::ActivationKind;

use super::{Axis, Domain, Taken, TieOrder};
use crate::case::LayerSpec;
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
        let parameters = [
            ("alpha", self.has(ActivationKind::has_alpha), &self.alpha),
            ("limit", self.has(ActivationKind::has_limit), &self.limit),
        ];
        for (name, counts, numbers) in parameters {
            match numbers.as_deref().filter(|_| counts) {
                None => {}
                Some([number]) => parts.push(format!("{name} {number}")),
                Some(numbers) => parts.push(format!("{name} in {{{}}}", listed(numbers, ", "))),
            }
        }
        // What is taken besides the plain choice restricts nothing.
        if let Some(Taken::Listed(_)) = &self.layers {
            parts.push(self.layers_text());
        }
        if let Some(Taken::Listed(_)) = &self.foreign {
            parts.push(self.foreign_text());
        }
        if let Some(Taken::Listed(_)) = &self.views {
            parts.push(self.views_text());
        }
        if !self.takes_specials() {
            parts.push("finite inputs".to_owned());
        }
        parts
    }
}

impl Domain {
    /// Whether an activation of its layers has a parameter.
    fn has(&self, parameter: fn(ActivationKind) -> bool) -> bool {
        match &self.layers {
            Some(Taken::Listed(_)) => self.drawn_layers().iter().any(|layer| parameter(layer.activation)),
            Some(Taken::Any) | None => true,
        }
    }

    /// The layers that it takes.
    pub(super) fn layers_text(&self) -> String {
        match &self.layers {
            None => format!("layer {}", LayerSpec::default()),
            Some(Taken::Any) => "any layer".to_owned(),
            Some(Taken::Listed(_)) => match &self.drawn_layers()[..] {
                [layer] => format!("layer {layer}"),
                layers => format!("layer in {{{}}}", listed(layers, ", ")),
            },
        }
    }

    /// What it takes in slots whose expert is not local.
    pub(super) fn foreign_text(&self) -> String {
        match &self.foreign {
            None => "ids of local experts alone".to_owned(),
            Some(Taken::Any) => "any ids".to_owned(),
            Some(Taken::Listed(ids)) => format!("foreign ids {}", listed(ids, " or ")),
        }
    }

    /// The views that it takes tensors as.
    pub(super) fn views_text(&self) -> String {
        match &self.views {
            None => "contiguous tensors alone".to_owned(),
            Some(Taken::Any) => "any views".to_owned(),
            Some(Taken::Listed(kinds)) => format!("views {}", listed(kinds, " or ")),
        }
    }
}

fn listed(choices: &[impl ToString], between: &str) -> String {
    let choices: Vec<String> = choices.iter().map(ToString::to_string).collect();
    choices.join(between)
}
