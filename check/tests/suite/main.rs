//! The tests of the crate, in one program, so that it is linked once.

mod again;
mod against;
mod arithmetic;
mod batches;
mod bounds;
mod common;
mod comparer;
mod domain;
mod errors;
mod exact;
mod find;
mod generator;
mod goldens;
mod habits;
mod invariants;
mod kept;
mod kernels;
mod kinds;
mod layers;
mod metamorphic;
mod mxfp4;
mod orders;
mod sampled;
mod several;
mod shared;
mod sizes;
mod snapshots;
mod sums;
mod types;
mod values;
mod views;

use std::path::{Path, PathBuf};

/// A path in the repository.
fn in_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
