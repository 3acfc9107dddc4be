//! The right results of a case, and how far a right kernel may be from them.

mod bound;
mod claims;
mod coverage;
mod definition;
mod expected;
mod inputs;
mod precision;
mod roundings;

pub use bound::Bounds;
pub(crate) use claims::claims_on;
pub use coverage::Coverage;
pub use definition::Definition;
pub(crate) use definition::clamped_swiglu;
pub use expected::Expected;
pub(crate) use expected::RightRows;
pub use inputs::Inputs;
pub use precision::{Modifier, Precision, Preset};
pub use roundings::{Rounding, Roundings};
