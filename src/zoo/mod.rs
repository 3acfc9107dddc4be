//! The zoo: bugs that kernels had, planted in this crate's own, each of which a check must catch.
//!
//! An [`Animal`] is a file: the story of a bug and a patch of one place in a kernel. [`visit`] builds the emulator with
//! each patch and runs the cases of a check until one fails. `docs/zoo.md` lists the fields of a file.

mod error;
#[cfg(feature = "cuda")]
mod gpu;
mod machine;
mod report;
mod visit;

use std::path::Path;

use binned_experts_check::domain::Sizes;
use binned_experts_check::{CaseSpec, Domain, ElementType, Engine};
use binned_experts_gpu::{Emulator, GpuError, HOPPER_BF16, HOPPER_FP32, PORTABLE_FP32, sources};
use include_dir::{Dir, include_dir};
use serde::Deserialize;

use crate::engines::PipelineEngine;

pub use error::{BuildError, ZooError};
pub use machine::Machine;
pub use report::{classes, slowest, summary, table};
pub use visit::{Budget, Catch, Visit, control, visit};

/// Kernels by file name, with their text.
pub type Kernels = Vec<(&'static str, String)>;

/// A bug that a kernel had.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Animal {
    /// The name of its file.
    #[serde(skip)]
    pub name: String,
    /// What is wrong, in a line.
    pub title: String,
    /// The public thread, `repository#number`, of the bug or of one like it.
    pub thread: Option<String>,
    /// Its class.
    pub class: BugClass,
    /// What happened, and how the patch plants it here.
    pub story: String,
    /// The kernels it lives in.
    pub path: KernelPath,
    /// What its cases are drawn inside of besides, such as the layers that show it.
    #[serde(default)]
    pub domain: Domain,
    /// The kernel file.
    pub file: String,
    /// Text that is in the file exactly once.
    pub old: String,
    /// Text in its place.
    pub new: String,
    /// Why no check can tell the patched kernels from right ones.
    pub equivalent: Option<String>,
    /// Why a GPU need not show what the emulator shows.
    pub unseen_on_gpu: Option<String>,
}

/// The kernels that a bug lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum KernelPath {
    /// The kernels of every GPU.
    Portable,
    /// The kernels for Hopper's tensor cores.
    Hopper,
    /// Those in bf16.
    HopperBf16,
}

impl KernelPath {
    /// All.
    pub const ALL: [KernelPath; 3] = [KernelPath::Portable, KernelPath::Hopper, KernelPath::HopperBf16];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            KernelPath::Portable => "portable",
            KernelPath::Hopper => "hopper",
            KernelPath::HopperBf16 => "hopper-bf16",
        }
    }

    /// The element type of its cases.
    fn element(self) -> ElementType {
        match self {
            KernelPath::Portable | KernelPath::Hopper => ElementType::F32,
            KernelPath::HopperBf16 => ElementType::Bf16,
        }
    }

    /// What its cases are drawn in. The kernels in bf16 take H and I in eights.
    pub fn domain(self) -> Domain {
        let in_eights = Sizes {
            multiple_of: Some(8),
            ..Sizes::default()
        };
        match self {
            KernelPath::Portable | KernelPath::Hopper => Domain::default(),
            KernelPath::HopperBf16 => Domain {
                hidden: in_eights.clone(),
                intermediate: in_eights,
                ..Domain::default()
            },
        }
    }

    /// Whether the kernels take a case. Otherwise others would serve.
    fn takes(self, spec: &CaseSpec) -> bool {
        let (hidden, intermediate, experts) = (spec.hidden, spec.intermediate, spec.experts);
        match self {
            KernelPath::Portable => PORTABLE_FP32.takes(hidden, intermediate, experts),
            KernelPath::Hopper => HOPPER_FP32.takes(hidden, intermediate, experts),
            KernelPath::HopperBf16 => HOPPER_BF16.takes(hidden, intermediate, experts),
        }
    }

    /// The kernels on an emulator.
    fn on_emulator(self, emulator: Emulator, mode: Mode) -> Result<Box<dyn Engine>, GpuError> {
        let engine = match self {
            KernelPath::Portable => PipelineEngine::on_emulator(emulator, &PORTABLE_FP32)?,
            KernelPath::Hopper => PipelineEngine::on_emulator(emulator, &HOPPER_FP32)?,
            KernelPath::HopperBf16 => PipelineEngine::on_emulator(emulator, &HOPPER_BF16)?,
        };
        Ok(Box::new(match mode {
            Mode::Usual => engine,
            Mode::BatchInvariant => engine.batch_invariant("emulator-batch-invariant"),
        }))
    }

    /// The engine of the kernels on a GPU.
    #[cfg(feature = "cuda")]
    fn cuda_engine(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (KernelPath::Portable, _) => "cuda-portable",
            (KernelPath::Hopper | KernelPath::HopperBf16, Mode::Usual) => "cuda-hopper",
            (KernelPath::Hopper | KernelPath::HopperBf16, Mode::BatchInvariant) => "cuda-hopper-batch-invariant",
        }
    }
}

/// How the kernels are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// As they are where nobody asks for more.
    Usual,
    /// So that a token's row has the same bits in any batch.
    BatchInvariant,
}

impl Mode {
    /// All.
    const ALL: [Mode; 2] = [Mode::Usual, Mode::BatchInvariant];
}

/// A class of bugs, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct BugClass(usize);

impl BugClass {
    /// The classes of bugs of MoE kernels, from 1.
    pub const NAMES: [&str; 20] = [
        "integer overflow and narrowing",
        "launch geometry, thread count, hard-coded sizes",
        "empty expert, empty batch, tiny batch",
        "uninitialised memory, padding rows, NaN times zero",
        "races, missing barriers, stores into a neighbour",
        "steps that do not wait for one another",
        "sentinel and out-of-range indices",
        "duplicate experts in a token",
        "capacity and dropping",
        "routing weights",
        "bias",
        "activation parameters",
        "gate/up layout, weight orientation, padding",
        "strides and offsets",
        "tails, tile scheduler, swizzle",
        "chunking, reuse of memory",
        "accumulation precision, determinism",
        "ties, unstable sort",
        "backward",
        "dispatch between paths",
    ];

    /// What the class is.
    pub fn name(self) -> &'static str {
        BugClass::NAMES[self.0 - 1]
    }
}

impl std::fmt::Display for BugClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("C{}", self.0))
    }
}

impl TryFrom<String> for BugClass {
    type Error = String;

    fn try_from(text: String) -> Result<BugClass, String> {
        let number = text.strip_prefix('C').and_then(|number| number.parse().ok());
        number
            .filter(|number| (1..=BugClass::NAMES.len()).contains(number))
            .map(BugClass)
            .ok_or_else(|| format!("expected a class from C1 to C{}, found {text}", BugClass::NAMES.len()))
    }
}

impl Animal {
    /// Reads an animal from the text of its file.
    ///
    /// # Errors
    /// [`ZooError::Syntax`].
    pub fn parse(name: &str, text: &str) -> Result<Animal, ZooError> {
        let refused = |error: &dyn std::fmt::Display| ZooError::Syntax {
            name: name.to_owned(),
            message: error.to_string(),
        };
        let animal: Animal = toml::from_str(text).map_err(|error| refused(&error))?;
        animal.domain.check().map_err(|error| refused(&error))?;
        Ok(Animal {
            name: name.to_owned(),
            ..animal
        })
    }

    /// How its kernels are run: as its domain claims.
    pub fn mode(&self) -> Mode {
        if self.domain.is_batch_invariant() {
            Mode::BatchInvariant
        } else {
            Mode::Usual
        }
    }

    /// The kernels with the bug.
    ///
    /// # Errors
    /// [`ZooError::File`] or [`ZooError::Patch`].
    pub fn kernels(&self) -> Result<Kernels, ZooError> {
        let mut kernels = own_kernels();
        let (_, text) = kernels
            .iter_mut()
            .find(|(file, _)| *file == self.file)
            .ok_or_else(|| ZooError::File {
                name: self.name.clone(),
                file: self.file.clone(),
            })?;
        let found = text.matches(&self.old).count();
        if found != 1 {
            return Err(ZooError::Patch {
                name: self.name.clone(),
                file: self.file.clone(),
                found,
            });
        }
        *text = text.replace(&self.old, &self.new);
        Ok(kernels)
    }
}

/// The kernels as they are.
pub fn own_kernels() -> Kernels {
    let own = sources::KERNELS.iter();
    own.map(|(name, text)| (*name, (*text).to_owned())).collect()
}

/// The files of this crate's own animals.
static OWN: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/tests/zoo");

/// This crate's own animals, by name.
///
/// # Errors
/// [`ZooError::Syntax`].
pub fn own() -> Result<Vec<Animal>, ZooError> {
    let files = OWN.files().filter_map(|file| {
        let path = file.path();
        let is_animal = path.extension().is_some_and(|extension| extension == "toml");
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        is_animal.then(|| Animal::parse(&name, file.contents_utf8().unwrap_or_default()))
    });
    let mut animals: Vec<Animal> = files.collect::<Result<_, _>>()?;
    animals.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(animals)
}

/// The animals of a directory, by name.
///
/// # Errors
/// [`ZooError::Read`] or [`ZooError::Syntax`].
pub fn read(directory: &Path) -> Result<Vec<Animal>, ZooError> {
    let refused = |path: &Path, error| ZooError::Read {
        path: path.to_owned(),
        error,
    };
    let mut animals = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|error| refused(directory, error))? {
        let path = entry.map_err(|error| refused(directory, error))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).map_err(|error| refused(&path, error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        animals.push(Animal::parse(&name, &text)?);
    }
    animals.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(animals)
}
