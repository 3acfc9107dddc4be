//! A case as printable text.

mod profile;
mod spec;

/// The least H and I that kernels for tensor cores take.
pub(crate) const DEEP: usize = 32;

pub use profile::{
    CapacityProfile, OrderProfile, Place, Profile, RoutingProfile, SizeProfile, Special, SpecialValue, ValueProfile,
    Warmup, WeightProfile,
};
pub use spec::{CaseSpec, Larger, Routing, SpecError};
