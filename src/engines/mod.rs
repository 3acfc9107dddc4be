//! The engines that are built in, by name.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "emulator")]
mod emulator;
#[cfg(any(feature = "cuda", feature = "emulator"))]
mod pipeline;

use binned_experts_check::check::{AnyEngine, OpenError};
use binned_experts_check::engine::{DefinitionEngine, Reference};

#[cfg(feature = "cuda")]
pub use cuda::with_image;
#[cfg(any(feature = "cuda", feature = "emulator"))]
pub use pipeline::{EngineElement, PipelineEngine};

/// An engine, or why it cannot be had here.
pub type Opened = Result<AnyEngine, OpenError>;

/// An engine that is built in.
#[derive(Debug, Clone, Copy)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Opens one.
    pub open: fn() -> Opened,
    /// Whether several compute side by side, one for each core.
    pub is_per_core: bool,
    /// When a check takes it.
    pub checked: Checked,
}

/// When a check takes an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Where no other is named, and it is available.
    Always,
    /// Where it is named.
    Named,
    /// Never: the definition is what engines are compared with.
    Never,
}

/// The engines that are built in.
pub const BUILT_IN: [BuiltIn; 8] = [
    BuiltIn {
        name: "reference",
        about: "binned-experts-reference: plain ndarray, every stage shown",
        open: || Ok(Box::new(Reference)),
        is_per_core: true,
        checked: Checked::Always,
    },
    BuiltIn {
        name: "emulator-portable",
        about: "binned-experts-gpu on the CPU, in a strict emulator of a GPU: the kernels of every GPU",
        open: open::emulator_portable,
        is_per_core: true,
        checked: Checked::Always,
    },
    BuiltIn {
        name: "emulator-hopper",
        about: "binned-experts-gpu on the CPU, in a strict emulator of a GPU: the kernels for Hopper's tensor cores",
        open: open::emulator_hopper,
        is_per_core: true,
        checked: Checked::Always,
    },
    BuiltIn {
        name: "emulator-hopper-batch-invariant",
        about: "emulator-hopper where a token's row has the same bits in any batch",
        open: open::emulator_hopper_batch_invariant,
        is_per_core: true,
        checked: Checked::Named,
    },
    BuiltIn {
        name: "cuda-portable",
        about: "binned-experts-gpu on the first GPU: the kernels of every GPU",
        open: open::cuda_portable,
        is_per_core: false,
        checked: Checked::Always,
    },
    BuiltIn {
        name: "cuda-hopper",
        about: "binned-experts-gpu on the first GPU: the kernels for Hopper's tensor cores",
        open: open::cuda_hopper,
        is_per_core: false,
        checked: Checked::Always,
    },
    BuiltIn {
        name: "cuda-hopper-batch-invariant",
        about: "cuda-hopper where a token's row has the same bits in any batch",
        open: open::cuda_hopper_batch_invariant,
        is_per_core: false,
        checked: Checked::Named,
    },
    BuiltIn {
        name: "definition",
        about: "the definition in f64, rounded at the end; the oracle, so check does not take it",
        open: || Ok(Box::new(DefinitionEngine)),
        is_per_core: true,
        checked: Checked::Never,
    },
];

/// Names of an earlier release, and the engines that they stand for.
const FORMER_NAMES: [(&str, &str); 3] = [
    ("host", "emulator-portable"),
    ("host-tensor-cores", "emulator-hopper"),
    ("cuda", "cuda-hopper"),
];

/// A built-in engine by its name, or by the name that it had in an earlier release.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    let former = FORMER_NAMES.iter().find(|(former, _)| *former == name);
    let name = former.map_or(name, |(_, name)| name);
    BUILT_IN.iter().find(|engine| engine.name == name)
}

/// Every engine that a check takes where none is named, and that is available here.
pub fn available() -> Vec<AnyEngine> {
    let checked = BUILT_IN.iter().filter(|engine| engine.checked == Checked::Always);
    checked.filter_map(|engine| (engine.open)().ok()).collect()
}

/// Opens the engines of the kernels, or says which feature the crate was built without.
mod open {
    use super::Opened;

    #[cfg(feature = "emulator")]
    pub(super) fn emulator_portable() -> Opened {
        Ok(Box::new(super::PipelineEngine::emulator_portable()?))
    }

    #[cfg(feature = "emulator")]
    pub(super) fn emulator_hopper() -> Opened {
        Ok(Box::new(super::PipelineEngine::emulator_hopper()?))
    }

    #[cfg(feature = "emulator")]
    pub(super) fn emulator_hopper_batch_invariant() -> Opened {
        Ok(Box::new(super::PipelineEngine::emulator_hopper_batch_invariant()?))
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda_portable() -> Opened {
        Ok(Box::new(super::PipelineEngine::cuda_portable()?))
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda_hopper() -> Opened {
        Ok(Box::new(super::PipelineEngine::cuda_hopper()?))
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda_hopper_batch_invariant() -> Opened {
        Ok(Box::new(super::PipelineEngine::cuda_hopper_batch_invariant()?))
    }

    #[cfg(not(feature = "emulator"))]
    pub(super) fn emulator_portable() -> Opened {
        Err("built without the feature emulator".into())
    }

    #[cfg(not(feature = "emulator"))]
    pub(super) use {emulator_portable as emulator_hopper, emulator_portable as emulator_hopper_batch_invariant};

    #[cfg(not(feature = "cuda"))]
    pub(super) fn cuda_portable() -> Opened {
        Err("built without the feature cuda".into())
    }

    #[cfg(not(feature = "cuda"))]
    pub(super) use {cuda_portable as cuda_hopper, cuda_portable as cuda_hopper_batch_invariant};
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_stand_for_engines() {
        for (former, name) in FORMER_NAMES {
            assert_eq!(built_in(former).map(|engine| engine.name), Some(name));
            assert!(BUILT_IN.iter().all(|engine| engine.name != former));
        }
        assert!(built_in("nothing").is_none());
    }
}
