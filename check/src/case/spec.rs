//! A case as a few lines of text.

use serde::{Deserialize, Serialize};

use super::{
    Against, CaseViews, ElementType, ForeignIds, LayerSpec, OrderProfile, RoutingProfile, Special, ValueProfile,
    Warmup, WeightProfile,
};

/// A whole case, printable, from which the same problem is built on every machine.
///
/// `Display` prints it as TOML and `FromStr` parses it back.
///
/// ```
/// use binned_experts_check::CaseSpec;
///
/// let text = r#"
/// element = "f32"
/// batch = 1
/// sequence = 3
/// hidden = 4
/// intermediate = 2
/// experts = 2
/// top_k = 1
/// capacity = 1
/// alpha = 1.702
/// limit = 7.0
/// seed = 1
/// routing = [[1], [0], [1]]
/// values = "gentle"
/// weights = "normalised"
/// "#;
/// let spec: CaseSpec = text.parse()?;
/// assert_eq!(spec.to_string().parse::<CaseSpec>()?, spec);
/// assert_eq!(spec.build()?.dims().tokens, 3);
/// # Ok::<(), binned_experts_check::SpecError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseSpec {
    /// Element type of all tensors but the indices.
    pub element: ElementType,
    /// B.
    pub batch: usize,
    /// S; T = B·S.
    pub sequence: usize,
    /// H.
    pub hidden: usize,
    /// I.
    pub intermediate: usize,
    /// E.
    pub experts: usize,
    /// K.
    pub top_k: usize,
    /// C.
    pub capacity: usize,
    /// Factor inside the sigmoid.
    pub alpha: f64,
    /// The clamp.
    pub limit: f64,
    /// The seed of all values.
    pub seed: u32,
    /// The experts chosen.
    pub routing: Routing,
    /// Whether no token names an expert twice, whatever the profile of the routing. E must then be K or more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distinct: bool,
    /// Hidden states, projections and biases.
    pub values: ValueProfile,
    /// The dense routing weights.
    pub weights: WeightProfile,
    /// A special value in one place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub special: Option<Special>,
    /// What the special value meets; ignored where it [cannot meet](Against) that in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<Against>,
    /// Calls that the engine gets just before the case, to leave state behind.
    #[serde(default, alias = "after", skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
    /// An explicit order of the assignments, which decides what is dropped; none for the stable sort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderProfile>,
    /// The sizes of the [larger](Warmup::Larger) case of the warm-up call, where they are not the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub larger: Option<Larger>,
    /// The kind of layer.
    #[serde(default, skip_serializing_if = "LayerSpec::is_default")]
    pub layer: LayerSpec,
    /// Slots with ids of experts that are not local; none where every id is that of one of the E experts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Foreign>,
    /// The tensors that are handed over as views of larger ones.
    #[serde(default, skip_serializing_if = "CaseViews::is_empty")]
    pub views: CaseViews,
    /// Whether only some tokens are judged by the definition. The tensors may then have up to 2^36 elements, not 2^28, and
    /// there is no special value, no view and no call before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sampled: bool,
}

/// Ids that are not all of local experts: half of them are foreign, and all of some tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Foreign {
    /// What stands in the slots.
    pub ids: ForeignIds,
    /// The id of the first of the E local experts. At most 2^20, and 0 with [`ForeignIds::MinusOne`].
    #[serde(default)]
    pub first_expert: usize,
}

/// The sizes of a larger case before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Larger {
    /// T, in one batch.
    pub tokens: usize,
    /// C.
    pub capacity: usize,
}

/// The experts chosen: a profile, or a row of ids for each token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Routing {
    /// Drawn by a profile.
    Profile(RoutingProfile),
    /// `router_indices`, `[T][K]`, as the kernel has them.
    Table(Vec<Vec<i64>>),
}

/// Why a text is not a case, or a case cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Not TOML, or not with these fields.
    #[error("case: {message}")]
    Syntax {
        /// The parser's message, with line and column.
        message: String,
    },
    /// A size is beyond what a case may have.
    #[error("{what}: expected at most {limit}, found {found}")]
    TooLarge {
        /// The size.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// The value found; `usize::MAX` where it overflows.
        found: usize,
    },
    /// The routing table does not have a row for each token and an id for each slot.
    #[error("routing: expected {tokens} rows of {top_k} ids, found {found}")]
    RoutingShape {
        /// T.
        tokens: usize,
        /// K.
        top_k: usize,
        /// The table's number of rows, or the first row that does not fit.
        found: String,
    },
    /// A token of different experts needs K of them.
    #[error("distinct: expected {top_k} experts or more, found {experts}")]
    TooFewExperts {
        /// K.
        top_k: usize,
        /// E.
        experts: usize,
    },
    /// An id of the first local expert that goes with no other.
    #[error("first_expert: expected {expected}, found {found}")]
    FirstExpert {
        /// What fits.
        expected: &'static str,
        /// The id.
        found: usize,
    },
    /// A view of a tensor that the case does not have.
    #[error("views: expected one of {}, found {found}", expected.join(", "))]
    View {
        /// The names of those that it has.
        expected: Vec<&'static str>,
        /// The name found.
        found: &'static str,
    },
    /// A sampled case has something that only a whole one can have.
    #[error("{what}: expected none in a sampled case, found {found}")]
    Sampled {
        /// The field.
        what: &'static str,
        /// What it has.
        found: String,
    },
    /// The sizes or ids do not make a problem.
    #[error(transparent)]
    Problem(#[from] binned_experts_reference::Error),
}

impl CaseSpec {
    /// T = B·S.
    ///
    /// # Panics
    /// If B·S overflows; [`build`](CaseSpec::build) refuses such a case.
    pub fn tokens(&self) -> usize {
        self.batch * self.sequence
    }

    /// The intermediate size of the shared experts, as one; none where there are none.
    pub(crate) fn shared_intermediate(&self) -> Option<usize> {
        let number = self.layer.shared_experts;
        (number > 0).then(|| number.saturating_mul(self.intermediate))
    }

    /// The id of the first local expert.
    pub(crate) fn first_expert(&self) -> usize {
        self.foreign.map_or(0, |foreign| foreign.first_expert)
    }

    /// The local expert of an id; E where it is of none.
    pub(crate) fn local_expert(&self, id: i64) -> usize {
        let local = usize::try_from(id)
            .ok()
            .and_then(|id| id.checked_sub(self.first_expert()));
        local.filter(|local| *local < self.experts).unwrap_or(self.experts)
    }

    /// Sizes in the order T, H, I, E, K, C, on one line.
    pub fn summary(&self) -> String {
        let CaseSpec {
            batch,
            sequence,
            hidden,
            intermediate,
            experts,
            top_k,
            capacity,
            element,
            ..
        } = self;
        format!("{element} T={batch}·{sequence} H={hidden} I={intermediate} E={experts} K={top_k} C={capacity}")
    }

    /// The cases of the warm-up calls, the first first.
    pub fn predecessors(&self) -> Vec<CaseSpec> {
        let alone = CaseSpec {
            warmup: None,
            larger: None,
            ..self.clone()
        };
        let with_other_values = |call: u32| CaseSpec {
            seed: self.seed ^ (call * 0x5eed),
            ..alone.clone()
        };
        match self.warmup {
            None => Vec::new(),
            Some(Warmup::Same) => vec![alone],
            Some(Warmup::OtherValues) => vec![with_other_values(1)],
            Some(Warmup::ThreeOthers) => (1..=3).map(with_other_values).collect(),
            Some(Warmup::Larger) => {
                let (batch, sequence, capacity) = match self.larger {
                    Some(Larger { tokens, capacity }) => (1, tokens, capacity),
                    None => {
                        let sequence = self.sequence.saturating_mul(2).saturating_add(3);
                        (self.batch, sequence, self.capacity.saturating_add(5))
                    }
                };
                vec![CaseSpec {
                    batch,
                    sequence,
                    routing: Routing::Profile(RoutingProfile::Uniform),
                    capacity,
                    special: None,
                    against: None,
                    ..alone
                }]
            }
        }
    }
}

impl std::fmt::Display for CaseSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match toml::to_string(self) {
            Ok(text) => f.write_str(&text),
            Err(error) => write!(f, "# not printable as TOML: {error}"),
        }
    }
}

impl std::str::FromStr for CaseSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<CaseSpec, SpecError> {
        toml::from_str(text).map_err(|error| SpecError::Syntax {
            message: error.to_string().trim_end().to_owned(),
        })
    }
}
