//! Few shapes, for kernels that are compiled for each.

use crate::case::CaseSpec;
use crate::domain::{Domain, DomainError, Sizes};
use crate::generate::Selection;

/// The shapes that the generated cases of a check have.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Shapes {
    /// Any.
    #[default]
    Any,
    /// So many H, I, E and K, drawn as those of the first cases; T and C are any.
    Drawn(usize),
    /// These, in turn: domains that restrict the sizes.
    Given(Vec<Domain>),
}

impl Shapes {
    /// What the cases of a check are drawn from in turn.
    pub(super) fn selections(&self, selection: Selection, first_seed: u64) -> Result<Vec<Selection>, DomainError> {
        let shapes = match self {
            Shapes::Any | Shapes::Drawn(0) => return Ok(vec![selection]),
            Shapes::Drawn(number) => {
                let seeds = (first_seed..).take(*number);
                seeds
                    .map(|seed| shape_of(&CaseSpec::from_seed(seed, &selection)))
                    .collect()
            }
            Shapes::Given(shapes) if shapes.is_empty() => return Ok(vec![selection]),
            Shapes::Given(shapes) => shapes.clone(),
        };
        let of_shape = |shape: &Domain| {
            let domain = selection.domain.meet(shape);
            domain.check()?;
            Ok(Selection {
                domain,
                ..selection.clone()
            })
        };
        shapes.iter().map(of_shape).collect()
    }
}

fn shape_of(spec: &CaseSpec) -> Domain {
    Domain {
        hidden: Sizes::only(spec.hidden),
        intermediate: Sizes::only(spec.intermediate),
        experts: Sizes::only(spec.experts),
        top_k: Sizes::only(spec.top_k),
        ..Domain::default()
    }
}
