//! A case, as printable text, as tensors and as a file, and the stages of its results.

#[macro_use]
mod tensor;

mod by_name;
pub mod file;
mod layer;
mod limits;
mod model;
mod named;
mod profile;
mod sizes;
mod spec;
pub mod stage;
mod views;

pub use layer::LayerSpec;
pub(crate) use limits::MAX_SIZE;
pub use model::Model;
pub use named::Named;
pub(crate) use named::named_enum;
pub use profile::{
    Against, CapacityProfile, ForeignIds, OrderProfile, Place, Profile, RoutingProfile, SizeProfile, Special,
    SpecialValue, ValueProfile, Warmup, WeightProfile,
};
pub(crate) use sizes::{DEEP, LONG, MEDIUM, PANEL, TILES};
pub use spec::{CaseSpec, Foreign, Larger, Routing, SpecError};
pub(crate) use tensor::power_of_two;
pub use tensor::{AnyProblem, CaseElement, ElementType, Tensor};
pub use views::{CaseViews, ViewKind, Viewed};
