//! The errors of inputs.

/// Why an input was refused. Every variant says what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor's shape does not fit the tensors before it.
    #[error("{tensor}: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// The parameter's name.
        tensor: &'static str,
        /// The shape that fits.
        expected: Vec<usize>,
        /// The shape that was passed.
        found: Vec<usize>,
    },
    /// The last axis of `gate_up_proj` holds gate and up columns in turn and must be even.
    #[error("gate_up_proj: expected an even last axis (2·intermediate), found {found}")]
    OddGateUp {
        /// Length of the last axis.
        found: usize,
    },
    /// `router_indices` names an expert that does not exist.
    #[error("router_indices[{token}, {slot}]: expected an expert in 0..{experts}, found {expert}")]
    ExpertOutOfRange {
        /// Row of `router_indices`.
        token: usize,
        /// Column of `router_indices`.
        slot: usize,
        /// The id that was found.
        expert: i64,
        /// Number of experts.
        experts: usize,
    },
    /// `router_indices` has no columns.
    #[error("router_indices: expected top_k of at least 1, found 0 columns")]
    ZeroTopK,
    /// A capacity was asked for without any expert.
    #[error("expert capacity: expected at least 1 expert, found 0")]
    NoExperts,
    /// A size of which no tensor holds an element is larger than any that is used.
    #[error("{what}: expected at most {limit} where no tensor holds an element of it, found {found}")]
    TooLarge {
        /// The size.
        what: &'static str,
        /// The largest.
        limit: usize,
        /// What was found.
        found: usize,
    },
    /// The product of sizes does not fit the address space.
    #[error("{what}: the product of sizes {sizes:?} overflows")]
    SizeOverflow {
        /// The thing that was sized.
        what: &'static str,
        /// The factors.
        sizes: Vec<usize>,
    },
    /// The memory for a result could not be allocated.
    #[error("{what}: could not allocate {elements} elements")]
    OutOfMemory {
        /// The result that was to be allocated.
        what: &'static str,
        /// Its number of elements.
        elements: usize,
    },
    /// A name is none of those that are known.
    #[error("{what}: expected one of {}, found {found}", expected.join(", "))]
    UnknownName {
        /// What is named.
        what: &'static str,
        /// The names that are known.
        expected: &'static [&'static str],
        /// The name found.
        found: String,
    },
    /// The factor on the sum over the slots is no finite number.
    #[error("scale: expected a finite number, found {found}")]
    Scale {
        /// The factor, as text.
        found: String,
    },
    /// A layer has another number of shared experts than its weights are of.
    #[error("shared_experts: expected weights of {expected}, found those of {found}")]
    SharedExperts {
        /// The number of the layer.
        expected: usize,
        /// That of the weights.
        found: usize,
    },
    /// A layer that stores projections in blocks has shared experts.
    #[error("shared_experts: expected 0 where projections are stored in blocks, found {found}")]
    SharedInBlocks {
        /// Their number.
        found: usize,
    },
    /// A layer without biases has one that is not 0.
    #[error("{tensor}: expected 0 in a layer without biases, found another value for expert {expert}")]
    Bias {
        /// The parameter's name.
        tensor: &'static str,
        /// The expert.
        expert: usize,
    },
    /// A tensor of the element type has a value that is none of it.
    #[error("{tensor}: expected values of the element type, found {found}")]
    NotOfElement {
        /// The parameter's name.
        tensor: &'static str,
        /// The value, as text.
        found: String,
    },
    /// An axis is not made of whole blocks.
    #[error("{what}: expected a multiple of {block}, found {found}")]
    BlockSize {
        /// The size, or the parameter whose last axis it is.
        what: &'static str,
        /// Values of a block.
        block: usize,
        /// The size found.
        found: usize,
    },
    /// The values of a block are not codes times one scale.
    #[error("{tensor}[{expert}, {row}]: expected 32 values that are codes times one scale in block {block}")]
    NoBlock {
        /// The parameter's name.
        tensor: &'static str,
        /// The expert.
        expert: usize,
        /// What comes out.
        row: usize,
        /// The block of the row.
        block: usize,
    },
    /// A scale that stands for no number.
    #[error("{tensor}[{expert}, {row}]: expected a scale of at most 254, found 255 in block {block}")]
    BlockScale {
        /// The parameter's name.
        tensor: &'static str,
        /// The expert.
        expert: usize,
        /// What comes out.
        row: usize,
        /// The block of the row.
        block: usize,
    },
    /// A code times its scale is no value of the element type.
    #[error("{tensor}[{expert}, {row}]: expected values that the element type holds, found others in block {block}")]
    Inexact {
        /// The parameter's name.
        tensor: &'static str,
        /// The expert.
        expert: usize,
        /// What comes out.
        row: usize,
        /// The block of the row.
        block: usize,
    },
    /// Two slots of a token name the same expert and have different weights.
    #[error("routing_weights[{token}, {slot}]: expected the weight of slot {first}, which has the same expert")]
    SlotWeights {
        /// Row of `routing_weights`.
        token: usize,
        /// Column of `routing_weights`.
        slot: usize,
        /// An earlier slot of the same token and expert.
        first: usize,
    },
    /// An explicit order has the wrong number of entries.
    #[error("order: expected {expected} assignments, found {found}")]
    OrderLength {
        /// Number of assignments to experts that are there.
        expected: usize,
        /// Number of entries found.
        found: usize,
    },
    /// An explicit order names an assignment that does not exist.
    #[error("order[{position}]: expected an assignment in 0..{assignments}, found {found}")]
    OrderOutOfRange {
        /// Position in the order.
        position: usize,
        /// The entry found there.
        found: usize,
        /// tokens · top_k.
        assignments: usize,
    },
    /// An explicit order names an assignment twice.
    #[error("order[{position}]: assignment {assignment} stands at an earlier position too")]
    OrderRepeats {
        /// Position of the second mention.
        position: usize,
        /// The assignment.
        assignment: usize,
    },
    /// An explicit order names an assignment whose expert is not there.
    #[error("order[{position}]: expected an assignment to a local expert, found assignment {assignment}")]
    OrderForeign {
        /// Position in the order.
        position: usize,
        /// The assignment.
        assignment: usize,
    },
    /// An explicit order is not sorted by expert.
    #[error("order[{position}]: expected an expert of at least {previous}, found {expert}")]
    OrderNotSorted {
        /// Position in the order.
        position: usize,
        /// Expert of the assignment there.
        expert: usize,
        /// Expert of the assignment before it.
        previous: usize,
    },
}
