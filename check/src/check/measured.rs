//! The sharpest claims that an engine meets.

use crate::case::ElementType;
use crate::oracle::{Precision, claims_on};

/// The claims that admit every result of an engine on cases of an element type.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The element type.
    pub element: ElementType,
    /// Cases with a result.
    pub cases: usize,
    /// The claims, each after those that it admits, and what it used at most of a bound.
    claims: Vec<(Precision, f64)>,
}

impl Measured {
    /// Before any case, when every claim holds.
    pub(super) fn new(element: ElementType) -> Measured {
        Measured {
            element,
            cases: 0,
            claims: claims_on(element).into_iter().map(|claim| (claim, 0.0)).collect(),
        }
    }

    /// Some claims on so many cases.
    pub(crate) fn of(element: ElementType, cases: usize, claims: Vec<(Precision, f64)>) -> Measured {
        Measured { element, cases, claims }
    }

    /// Adds a case, of which the sharpest claims that admit it are known, and what each used of a bound.
    pub(super) fn add(&mut self, sharpest: &[(Precision, f64)]) {
        self.cases += 1;
        // What a looser claim uses is less than what the sharper one does, and is not computed.
        self.keep(|claim| {
            let sharper = sharpest.iter().filter(|(sharper, _)| claim.admits(*sharper));
            sharper.map(|(_, used)| *used).reduce(f64::min)
        });
    }

    /// Adds other cases.
    pub(super) fn merge(&mut self, other: &Measured) {
        self.cases += other.cases;
        self.keep(|claim| {
            let same = other.claims.iter().find(|(known, _)| *known == claim);
            same.map(|(_, used)| *used)
        });
    }

    /// Keeps the claims that are used on more cases too, and the most that each is.
    fn keep(&mut self, used: impl Fn(Precision) -> Option<f64>) {
        self.claims.retain_mut(|(claim, most)| {
            let used = used(*claim);
            *most = most.max(used.unwrap_or_default());
            used.is_some()
        });
    }

    /// All claims that hold, each after those that it admits, and the share of a bound that it uses at most.
    pub fn claims(&self) -> &[(Precision, f64)] {
        &self.claims
    }

    /// Those that admit no other that holds; none if no claim holds.
    pub fn sharpest(&self) -> Vec<(Precision, f64)> {
        let is_sharpest = |(claim, _): &&(Precision, f64)| {
            let others = self.claims.iter().filter(|(other, _)| other != claim);
            others.map(|(other, _)| *other).all(|other| !claim.admits(other))
        };
        self.claims.iter().filter(is_sharpest).copied().collect()
    }
}
