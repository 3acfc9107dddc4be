//! The tensors of a case that are handed over as views.

use std::collections::BTreeMap;

use binned_experts_reference::{View, Views};

use super::{CaseSpec, Named, named_enum};

named_enum! {
    /// A tensor of a case that can be handed over as a view.
    pub enum Viewed {
        /// `[B,S,H]`.
        HiddenStates = "hidden_states",
        /// `[B·S,K]`.
        RouterIndices = "router_indices",
        /// `[B,S,E]`, or `[B·S,K]`.
        RoutingWeights = "routing_weights",
        /// The first projection.
        GateUpProj = "gate_up_proj",
        /// The codes of the first projection, where it is stored in blocks.
        GateUpProjBlocks = "gate_up_proj_blocks",
        /// The scales of the first projection.
        GateUpProjScales = "gate_up_proj_scales",
        /// The first bias.
        GateUpProjBias = "gate_up_proj_bias",
        /// The second projection.
        DownProj = "down_proj",
        /// The codes of the second projection, where it is stored in blocks.
        DownProjBlocks = "down_proj_blocks",
        /// The scales of the second projection.
        DownProjScales = "down_proj_scales",
        /// The second bias.
        DownProjBias = "down_proj_bias",
        /// The first projection of the shared experts.
        SharedGateUpProj = "shared_gate_up_proj",
        /// Their second projection.
        SharedDownProj = "shared_down_proj",
    }
}

named_enum! {
    /// A view of a larger tensor whose other elements are NaN, or −1 in an index.
    pub enum ViewKind {
        /// The first columns of one with three more of them: rows are further apart than they are long.
        Strided = "strided",
        /// Every other column of one with twice as many: the last stride is 2.
        Stepped = "stepped",
        /// All but the first and the last entry of the first axis of one with two more of them: there is an offset.
        Offset = "offset",
        /// One whose last two axes are the other way round, transposed.
        Transposed = "transposed",
    }
}

impl From<ViewKind> for View {
    fn from(kind: ViewKind) -> View {
        match kind {
            ViewKind::Strided => View::Strided,
            ViewKind::Stepped => View::Stepped,
            ViewKind::Offset => View::Offset,
            ViewKind::Transposed => View::Transposed,
        }
    }
}

impl ViewKind {
    /// The kind of a view; none of a contiguous tensor.
    pub(crate) fn of(view: View) -> Option<ViewKind> {
        match view {
            View::Contiguous => None,
            View::Strided => Some(ViewKind::Strided),
            View::Stepped => Some(ViewKind::Stepped),
            View::Offset => Some(ViewKind::Offset),
            View::Transposed => Some(ViewKind::Transposed),
        }
    }
}

impl CaseSpec {
    /// The tensors that it has and that can be views.
    pub(crate) fn viewable(&self) -> Vec<Viewed> {
        let (has_bias, has_blocks) = (self.layer.bias, self.layer.has_blocks());
        let has = |tensor: &Viewed| match tensor {
            Viewed::HiddenStates | Viewed::RouterIndices | Viewed::RoutingWeights => true,
            Viewed::GateUpProj | Viewed::DownProj => !has_blocks,
            Viewed::GateUpProjBlocks | Viewed::GateUpProjScales | Viewed::DownProjBlocks | Viewed::DownProjScales => {
                has_blocks
            }
            Viewed::GateUpProjBias | Viewed::DownProjBias => has_bias,
            Viewed::SharedGateUpProj | Viewed::SharedDownProj => self.layer.shared_experts > 0,
        };
        Viewed::ALL.iter().copied().filter(has).collect()
    }

    /// The views of its tensors by name.
    pub(crate) fn views_by_name(&self) -> Views {
        let named = |(tensor, kind): (&Viewed, &ViewKind)| (tensor.name().to_owned(), View::from(*kind));
        self.views.iter().map(named).collect()
    }
}

/// The views of some tensors.
pub type CaseViews = BTreeMap<Viewed, ViewKind>;
