//! What an error may be made of.

use crate::case::named_enum;

named_enum! {
    /// A systematic fault that a kernel may have, and the number that says how much of it.
    pub enum Direction {
        /// alpha in another place than it should be, relative to it.
        Alpha = "alpha",
        /// The limit, relative to it.
        Limit = "limit",
        /// A factor on the sigmoid, less 1.
        Sigmoid = "sigmoid",
        /// A factor on both biases, less 1.
        Biases = "biases",
        /// The activations cut instead of rounded: 0 for rounded, 1 for cut.
        ActivationCut = "activation-cut",
        /// The activations rounded to two bits less than the element type has: 0 for all bits, 1 for two less.
        ActivationShort = "activation-short",
        /// The operands of both products cut instead of rounded: 0 for rounded, 1 for cut.
        OperandsCut = "operands-cut",
        /// A factor on the routing weights, less 1.
        Weights = "routing-weights",
        /// The output cut instead of rounded: 0 for rounded, 1 for cut.
        OutputCut = "output-cut",
        /// Biases that are wide rounded to the element type: 0 for as they are, 1 for rounded.
        BiasesNarrowed = "biases-narrowed",
        /// Routing weights that are wide rounded to the element type: 0 for as they are, 1 for rounded.
        WeightsNarrowed = "routing-weights-narrowed",
    }
}

impl Direction {
    /// Whether it is a factor on a number of the function, less 1; others count from 0, as it is to be, to 1.
    pub fn is_factor(self) -> bool {
        match self {
            Direction::Alpha | Direction::Limit | Direction::Sigmoid | Direction::Biases | Direction::Weights => true,
            Direction::ActivationCut
            | Direction::ActivationShort
            | Direction::OperandsCut
            | Direction::OutputCut
            | Direction::BiasesNarrowed
            | Direction::WeightsNarrowed => false,
        }
    }
}
