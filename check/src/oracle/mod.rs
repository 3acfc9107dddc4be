//! The right results of a case, and how far a right kernel may be from them: at one element, and over a run.

mod activation;
mod bound;
mod claims;
mod coverage;
mod definition;
mod expected;
mod inputs;
mod precision;
mod roundings;
mod sample;
mod screen;
pub mod sums;

pub(crate) use activation::{ActivationFunction, pairs};
pub use bound::Bounds;
pub(crate) use claims::claims_on;
pub use coverage::Coverage;
pub use definition::Definition;
pub use expected::Expected;
pub(crate) use expected::RightRows;
pub use inputs::Inputs;
pub use precision::{Modifier, Precision, Preset};
pub use roundings::{Rounding, Roundings};
pub(crate) use sample::Sample;
pub(crate) use screen::Screen;
