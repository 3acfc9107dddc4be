//! What a kernel takes.
//!
//! A [`Domain`] says which cases a kernel claims to compute, and what it claims of its results. Cases are drawn inside
//! it; inside, an error is a failure.

mod admit;
mod axes;
mod beyond;
mod check;
mod error;
mod line;
mod names;
mod numbers;
mod rule;
mod sizes;
mod taken;

use binned_experts_reference::{ActivationKind, TensorType, WeightOn};
use serde::{Deserialize, Serialize};

pub use admit::Outside;
pub(crate) use admit::fullest_expert;
pub(crate) use axes::Axes;
pub use beyond::{Condition, Limit};
pub use error::DomainError;
pub(crate) use rule::Rules;
pub use sizes::{Axis, Sizes};
pub use taken::Taken;

use crate::case::{ElementType, ForeignIds, LayerSpec, Model, ViewKind, named_enum};
use crate::oracle::Precision;

named_enum! {
    /// In which order a kernel takes the assignments of one expert. The first ones fill its capacity.
    pub enum TieOrder {
        /// By ascending flat index.
        Stable = "stable",
        /// In that of an explicit order, where the case has one.
        Given = "given",
        /// In any; the kernel shows the order that it took as the stage `sorted_indices`, and is judged by it.
        Returned = "returned",
    }
}

/// The cases that a kernel takes, and what it claims of its results. What is left out is not restricted, and not
/// claimed.
///
/// `Display` prints a line for a report, `FromStr` reads TOML, and serde reads and writes both TOML and JSON.
///
/// ```
/// use binned_experts_check::Domain;
///
/// let domain: Domain = r#"
/// precision    = ["fp32", "bf16"]
/// tokens       = { min = 1, max = 16384 }
/// hidden       = { multiple_of = 64 }
/// intermediate = { equals = "hidden" }
/// top_k        = { one_of = [1, 2, 4, 8] }
/// drops        = false
/// duplicates   = false
/// "#
/// .parse()?;
/// assert_eq!(
///     domain.to_string(),
///     "fp32 or bf16, 1 ≤ T ≤ 16384, H % 64 = 0, I = H, K in {1, 2, 4, 8}, nothing dropped, no expert twice in a token"
/// );
/// # Ok::<(), binned_experts_check::domain::DomainError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Domain {
    /// The precisions claimed, each on cases of its element type; none stands for that of the element type, on each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<Vec<Precision>>,
    /// T.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub tokens: Sizes,
    /// H.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub hidden: Sizes,
    /// I.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub intermediate: Sizes,
    /// E.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub experts: Sizes,
    /// K.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub top_k: Sizes,
    /// C.
    #[serde(skip_serializing_if = "Sizes::is_any")]
    pub capacity: Sizes,
    /// `false`: no expert has more assignments than the capacity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drops: Option<bool>,
    /// `false`: no token names an expert twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<bool>,
    /// The factors inside the sigmoid.
    #[serde(skip_serializing_if = "Option::is_none", with = "numbers")]
    pub alpha: Option<Vec<f64>>,
    /// The clamps.
    #[serde(skip_serializing_if = "Option::is_none", with = "numbers")]
    pub limit: Option<Vec<f64>>,
    /// The kinds of layers. Where it says nothing, that of gpt-oss alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Taken<LayerSpec>>,
    /// The activations that its layers may have.
    #[serde(skip_serializing_if = "Option::is_none", with = "names")]
    pub activation: Option<Vec<ActivationKind>>,
    /// What the routing weight of its layers may be multiplied with.
    #[serde(skip_serializing_if = "Option::is_none", with = "names")]
    pub weight_on: Option<Vec<WeightOn>>,
    /// The types that the biases of its layers may have.
    #[serde(skip_serializing_if = "Option::is_none", with = "names")]
    pub bias_type: Option<Vec<TensorType>>,
    /// The types that the routing weights of its layers may have.
    #[serde(skip_serializing_if = "Option::is_none", with = "names")]
    pub routing_weight_type: Option<Vec<TensorType>>,
    /// The types that the output of its layers may have.
    #[serde(skip_serializing_if = "Option::is_none", with = "names")]
    pub output_type: Option<Vec<TensorType>>,
    /// `false`: its layers have no shared experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_experts: Option<bool>,
    /// What may stand in slots whose expert is not local. Where it says nothing, every id is that of one of the E experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub foreign: Option<Taken<ForeignIds>>,
    /// The views that tensors may be handed over as. Where it says nothing, every tensor is contiguous.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub views: Option<Taken<ViewKind>>,
    /// `true`: no input is NaN or infinite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finite: Option<bool>,
    /// The order of the assignments of one expert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tie_order: Option<TieOrder>,
    /// Whether it claims to give the same bits for the same case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deterministic: Option<bool>,
    /// Whether it claims that a token's row has the same bits in any batch in which nothing of the token is dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_invariant: Option<bool>,
}

impl Domain {
    /// Any case of the element type of a precision, in the stable order.
    pub fn of(precision: Precision) -> Domain {
        Domain {
            precision: Some(vec![precision]),
            ..Domain::in_stable_order()
        }
    }

    /// The layer of a published model, at a number of tokens.
    pub fn of_model(model: &Model, tokens: usize) -> Domain {
        Domain {
            tokens: Sizes::only(tokens),
            hidden: Sizes::only(model.hidden),
            intermediate: Sizes::only(model.intermediate),
            experts: Sizes::only(model.experts),
            top_k: Sizes::only(model.top_k),
            layers: Some(Taken::Listed(vec![model.layer])),
            ..Domain::default()
        }
    }

    /// Any case in the stable order.
    pub fn in_stable_order() -> Domain {
        Domain {
            tie_order: Some(TieOrder::Stable),
            ..Domain::default()
        }
    }

    /// What both admit, with what either claims.
    #[must_use]
    pub fn meet(&self, other: &Domain) -> Domain {
        let flag = |mine: Option<bool>, theirs: Option<bool>, narrow: bool| match (mine, theirs) {
            (Some(mine), _) if mine == narrow => Some(narrow),
            (mine, theirs) => theirs.or(mine),
        };
        let tie_order = match (self.tie_order, other.tie_order) {
            (Some(mine), Some(TieOrder::Given)) => Some(mine),
            (mine, theirs) => theirs.or(mine),
        };
        Domain {
            precision: common(&self.precision, &other.precision),
            tokens: self.tokens.meet(&other.tokens),
            hidden: self.hidden.meet(&other.hidden),
            intermediate: self.intermediate.meet(&other.intermediate),
            experts: self.experts.meet(&other.experts),
            top_k: self.top_k.meet(&other.top_k),
            capacity: self.capacity.meet(&other.capacity),
            drops: flag(self.drops, other.drops, false),
            duplicates: flag(self.duplicates, other.duplicates, false),
            alpha: common(&self.alpha, &other.alpha),
            limit: common(&self.limit, &other.limit),
            layers: Taken::meet(&self.layers, &other.layers),
            activation: common(&self.activation, &other.activation),
            weight_on: common(&self.weight_on, &other.weight_on),
            bias_type: common(&self.bias_type, &other.bias_type),
            routing_weight_type: common(&self.routing_weight_type, &other.routing_weight_type),
            output_type: common(&self.output_type, &other.output_type),
            shared_experts: flag(self.shared_experts, other.shared_experts, false),
            foreign: Taken::meet(&self.foreign, &other.foreign),
            views: Taken::meet(&self.views, &other.views),
            finite: flag(self.finite, other.finite, true),
            tie_order,
            deterministic: flag(self.deterministic, other.deterministic, true),
            batch_invariant: flag(self.batch_invariant, other.batch_invariant, true),
        }
    }

    /// The precision claimed on cases of an element type; none if it takes none of them.
    pub fn precision_on(&self, element: ElementType) -> Option<Precision> {
        match &self.precision {
            None => Some(Precision::of(element)),
            Some(claimed) => claimed.iter().copied().find(|precision| precision.element() == element),
        }
    }

    /// The sizes of an axis.
    pub fn sizes(&self, axis: Axis) -> &Sizes {
        match axis {
            Axis::Tokens => &self.tokens,
            Axis::Hidden => &self.hidden,
            Axis::Intermediate => &self.intermediate,
            Axis::Experts => &self.experts,
            Axis::TopK => &self.top_k,
            Axis::Capacity => &self.capacity,
        }
    }

    /// Whether it takes an explicit order of the assignments.
    pub fn takes_order(&self) -> bool {
        matches!(self.tie_order, None | Some(TieOrder::Given))
    }

    /// Whether some assignment may be dropped.
    pub fn takes_drops(&self) -> bool {
        self.drops != Some(false)
    }

    /// Whether a token may name an expert twice.
    pub fn takes_duplicates(&self) -> bool {
        self.duplicates != Some(false)
    }

    /// Whether an input may be NaN or infinite.
    pub fn takes_specials(&self) -> bool {
        self.finite != Some(true)
    }

    /// The kinds of layers that cases are drawn with.
    pub(crate) fn drawn_layers(&self) -> Vec<LayerSpec> {
        let usual = [LayerSpec::default()];
        let layers = Taken::listed(&self.layers).unwrap_or(&usual).iter().copied();
        layers.filter(|layer| self.admits_parts(layer).is_ok()).collect()
    }

    /// What cases are drawn with in slots whose expert is not local; nothing where there are none.
    pub(crate) fn drawn_foreign(&self) -> &[ForeignIds] {
        Taken::listed(&self.foreign).unwrap_or_default()
    }

    /// The views that cases are drawn with; none where every tensor is contiguous.
    pub(crate) fn drawn_views(&self) -> &[ViewKind] {
        Taken::listed(&self.views).unwrap_or_default()
    }

    /// Whether it claims to give the same bits for the same case.
    pub fn is_deterministic(&self) -> bool {
        self.deterministic == Some(true)
    }

    /// Whether it claims that a token's row has the same bits in any batch.
    pub fn is_batch_invariant(&self) -> bool {
        self.batch_invariant == Some(true)
    }
}

/// Whether a list holds something; one that is not given holds everything.
fn is_in<T: PartialEq>(list: &Option<Vec<T>>, entry: &T) -> bool {
    list.as_ref().is_none_or(|list| list.contains(entry))
}

/// What is in both lists; a list that is not given holds everything.
fn common<T: Clone + PartialEq>(mine: &Option<Vec<T>>, theirs: &Option<Vec<T>>) -> Option<Vec<T>> {
    match (mine, theirs) {
        (Some(mine), Some(theirs)) => Some(mine.iter().filter(|entry| theirs.contains(entry)).cloned().collect()),
        (one, None) | (None, one) => one.clone(),
    }
}
