//! A case as printable text.

mod profile;
mod spec;

pub use profile::{
    CapacityProfile, OrderProfile, Place, Profile, RoutingProfile, SizeProfile, Special, SpecialValue, ValueProfile,
    Warmup, WeightProfile,
};
pub use spec::{CaseSpec, Routing, SpecError};
