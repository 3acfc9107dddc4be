//! Which cases can be built: the limits of their sizes, and which parts go together.

use binned_experts_reference::Error;

use super::{CaseSpec, Foreign, ForeignIds, Named, SpecError};

/// The largest size of an axis.
pub(crate) const MAX_SIZE: usize = 1 << 20;
/// The most shared experts.
const MOST_SHARED: usize = 16;
/// The largest number of elements of a tensor.
const MAX_ELEMENTS: usize = 1 << 28;
/// The same in a sampled case.
const MAX_SAMPLED_ELEMENTS: usize = 1 << 36;

impl CaseSpec {
    /// Refuses a case that cannot be built.
    pub(crate) fn check_sizes(&self) -> Result<(), SpecError> {
        let axes = [
            ("batch", self.batch),
            ("sequence", self.sequence),
            ("hidden", self.hidden),
            ("intermediate", self.intermediate),
            ("experts", self.experts),
            ("top_k", self.top_k),
        ];
        for (what, found) in axes {
            at_most(what, MAX_SIZE, found)?;
        }
        at_most("tokens", MAX_SIZE, self.batch.saturating_mul(self.sequence))?;
        let shared = self.shared_intermediate().unwrap_or(0);
        at_most("shared_experts", MOST_SHARED, self.layer.shared_experts)?;
        at_most("intermediate of the shared experts", MAX_SIZE, shared)?;
        let tensors: [(&str, &[usize]); 6] = [
            ("hidden_states", &[self.tokens(), self.hidden]),
            ("router_indices", &[self.tokens(), self.top_k]),
            ("routing_weights", &[self.tokens(), self.experts]),
            (
                "gate_up_proj",
                &[self.experts, self.hidden.max(1), 2 * self.intermediate],
            ),
            ("down_proj", &[self.experts, self.intermediate, self.hidden]),
            ("shared_gate_up_proj", &[self.hidden.max(1), 2 * shared]),
        ];
        let most = if self.sampled {
            MAX_SAMPLED_ELEMENTS
        } else {
            MAX_ELEMENTS
        };
        for (what, sizes) in tensors {
            at_most(
                what,
                most,
                sizes
                    .iter()
                    .fold(1, |product: usize, size| product.saturating_mul(*size)),
            )?;
        }
        if self.experts == 0 && self.tokens() > 0 {
            return Err(Error::NoExperts.into());
        }
        if let Some(Foreign { ids, first_expert }) = self.foreign {
            let wrong = |expected| SpecError::FirstExpert {
                expected,
                found: first_expert,
            };
            at_most("first_expert", MAX_SIZE, first_expert)?;
            if ids == ForeignIds::MinusOne && first_expert > 0 {
                return Err(wrong("0 where foreign ids are -1"));
            }
        }
        let block = self.layer.projections.block();
        for (what, found) in [("hidden", self.hidden), ("intermediate", self.intermediate)] {
            if !found.is_multiple_of(block) {
                return Err(Error::BlockSize { what, block, found }.into());
            }
        }
        if self.layer.has_blocks() && self.layer.shared_experts > 0 {
            let found = self.layer.shared_experts;
            return Err(Error::SharedInBlocks { found }.into());
        }
        let viewable = self.viewable();
        if let Some(other) = self.views.keys().find(|tensor| !viewable.contains(tensor)) {
            return Err(SpecError::View {
                expected: viewable.iter().map(|tensor| tensor.name()).collect(),
                found: other.name(),
            });
        }
        if self.sampled {
            self.expect_plain()?;
        }
        if self.distinct && self.top_k > self.experts {
            return Err(SpecError::TooFewExperts {
                top_k: self.top_k,
                experts: self.experts,
            });
        }
        Ok(())
    }

    /// Refuses what a sampled case cannot have.
    fn expect_plain(&self) -> Result<(), SpecError> {
        let special = self.special.map(|special| ("special", String::from(special)));
        let warmup = self.warmup.map(|warmup| ("warmup", warmup.to_string()));
        let view = self.views.keys().next().map(|tensor| ("views", tensor.to_string()));
        match special.or(warmup).or(view) {
            None => Ok(()),
            Some((what, found)) => Err(SpecError::Sampled { what, found }),
        }
    }
}

fn at_most(what: &'static str, limit: usize, found: usize) -> Result<(), SpecError> {
    if found <= limit {
        Ok(())
    } else {
        Err(SpecError::TooLarge { what, limit, found })
    }
}
