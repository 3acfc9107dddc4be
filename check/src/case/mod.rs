//! A case: as printable text, as tensors, as a file, and the stages of its results.

use std::ops::RangeInclusive;

#[macro_use]
mod tensor;

mod by_name;
pub mod file;
mod layer;
mod limits;
mod model;
mod named;
mod profile;
mod spec;
pub mod stage;
mod views;

/// The least H and I that kernels for tensor cores take.
pub(crate) const DEEP: usize = 32;
/// The rows that kernels for tensor cores take together.
pub(crate) const PANEL: usize = 128;
/// The long one of H and I in long cases.
pub(crate) const LONG: RangeInclusive<usize> = 639..=8193;
/// H and I in medium cases.
pub(crate) const MEDIUM: RangeInclusive<usize> = 258..=1024;

pub use layer::LayerSpec;
pub(crate) use limits::MAX_SIZE;
pub use model::Model;
pub use named::Named;
pub(crate) use named::named_enum;
pub use profile::{
    Against, CapacityProfile, ForeignIds, OrderProfile, Place, Profile, RoutingProfile, SizeProfile, Special,
    SpecialValue, ValueProfile, Warmup, WeightProfile,
};
pub use spec::{CaseSpec, Foreign, Larger, Routing, SpecError};
pub(crate) use tensor::power_of_two;
pub use tensor::{AnyProblem, CaseElement, ElementType, Tensor};
pub use views::{CaseViews, ViewKind, Viewed};
