//! A case: printable text, the problem it builds, and the files it is kept in.

mod build;
mod cell;
mod draw;
mod file;
mod order;
mod profile;
mod routing;
mod scale;
mod spec;
mod spread;

pub(crate) use draw::mix;
pub use file::{CaseFile, FileError, positions, read_case, read_tensors, write_case, write_tensors};
pub(crate) use file::{indices, parse_case};
pub use profile::{
    After, CapacityProfile, OrderProfile, Place, Profile, RoutingProfile, SizeProfile, Special, SpecialValue,
    ValueProfile, WeightProfile,
};
pub(crate) use routing::TILES;
pub use spec::{CaseSpec, Routing, SpecError};
