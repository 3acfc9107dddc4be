//! The file that a program writes: what it may be, how large, and what is read of it.

use std::collections::BTreeMap;
use std::fs::{File, FileType, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;

use ndarray::{Array2, Array3};

use crate::case::file::{FileError, Known, parse_known, positions};
use crate::case::stage::{Layout, Stage, StageValues, Stages, from_stored, kept_rows};
use crate::case::{AnyProblem, Named, Tensor};
use crate::engine::text::clean;
use crate::engine::{Fault, MachineError, Outcome};

/// Room for a header, and for tensors that nobody asked for.
const SPARE_BYTES: u64 = 64 << 20;
/// The most that is read, whatever the shapes.
const MAX_BYTES: u64 = 8 << 30;
/// The most of a message about the file, in characters.
const MAX_MESSAGE: usize = 1000;

/// The output and the stages of a result file, which must be a plain one of a size that fits the problem.
///
/// # Errors
/// [`Fault::MissingOutput`] or [`Fault::Unreadable`] for what the program left there, [`Fault::Machine`] where it is
/// this machine that cannot read it.
pub fn read_outcome(path: &Path, problem: &AnyProblem) -> Result<Outcome, Fault> {
    parse_outcome(path, &read_bounded(path, most_bytes(problem))?, problem)
}

/// The output and the stages of the bytes of a result file; `path` is for messages.
///
/// # Errors
/// [`Fault::MissingOutput`] or [`Fault::Unreadable`].
pub fn parse_outcome(path: &Path, bytes: &[u8], problem: &AnyProblem) -> Result<Outcome, Fault> {
    let names: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
    let Known { known, others } = parse_known(path, bytes, &names).map_err(|error| unreadable(&error))?;
    outcome(known, &others, problem)
}

/// The output and the stages of tensors by name, in the shapes of a result file; `others` are names of tensors that are
/// there besides.
///
/// # Errors
/// [`Fault::MissingOutput`] or [`Fault::Unreadable`].
pub fn outcome(
    mut tensors: BTreeMap<String, Tensor>,
    others: &[String],
    problem: &AnyProblem,
) -> Result<Outcome, Fault> {
    let output = tensors.remove("output").ok_or_else(|| Fault::MissingOutput {
        found: clean(&names_of(&tensors, others), MAX_MESSAGE),
    })?;
    let mut stages = Stages::default();
    for &stage in Stage::ALL {
        if let Some(tensor) = tensors.get(stage.name()) {
            stages = stages.with(stage, stage_values(stage, tensor, problem)?);
        }
    }
    Ok(Outcome { output, stages })
}

/// The bytes of a plain file of at most `most` bytes.
fn read_bounded(path: &Path, most: u64) -> Result<Vec<u8>, Fault> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Err(Fault::MissingOutput {
                found: "no result file".to_owned(),
            });
        }
        Err(error) => return Err(MachineError::file(path, &error).into()),
    };
    plain(found.file_type())?;
    let refused = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => unreadable(&error),
        _ => MachineError::file(path, &error).into(),
    };
    let file = open(path).map_err(refused)?;
    // What is open now is what counts.
    let metadata = file.metadata().map_err(refused)?;
    plain(metadata.file_type())?;
    let too_large = || unreadable(&format!("expected at most {most} bytes, found more"));
    if metadata.len() > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(metadata.len() as usize)
        .map_err(|error| MachineError::file(path, &error))?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > most {
        return Err(too_large());
    }
    Ok(bytes)
}

/// Follows no link and waits for nobody.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits() as i32);
    }
    options.open(path)
}

fn plain(found: FileType) -> Result<(), Fault> {
    if found.is_file() {
        return Ok(());
    }
    let found = match () {
        () if found.is_dir() => "a directory",
        () if found.is_symlink() => "a symbolic link",
        () => "a device, a pipe or a socket",
    };
    Err(unreadable(&format!("expected a plain file, found {found}")))
}

/// The most that a result of these shapes can take: the output and all stages in f64, in PyTorch's shapes.
fn most_bytes(problem: &AnyProblem) -> u64 {
    let dims = problem.dims();
    let product = |sizes: &[usize]| {
        sizes
            .iter()
            .fold(1u64, |product, size| product.saturating_mul(*size as u64))
    };
    let assignments = dims.tokens.saturating_mul(dims.top_k);
    let padded_rows = product(&[dims.experts, dims.capacity.min(assignments)]);
    let row = product(&[2, dims.hidden]).saturating_add(product(&[3, dims.intermediate]));
    let elements = [
        product(&[dims.tokens, dims.hidden]),
        product(&[2, assignments]),
        dims.experts as u64,
        padded_rows.saturating_mul(row),
    ];
    let elements = elements.iter().fold(0u64, |sum, part| sum.saturating_add(*part));
    SPARE_BYTES.saturating_add(elements.saturating_mul(8)).min(MAX_BYTES)
}

fn names_of(known: &BTreeMap<String, Tensor>, others: &[String]) -> String {
    let names: Vec<&str> = known.keys().chain(others).map(String::as_str).collect();
    if names.is_empty() {
        "no tensor".to_owned()
    } else {
        names.join(", ")
    }
}

fn stage_values(stage: Stage, tensor: &Tensor, problem: &AnyProblem) -> Result<StageValues, Fault> {
    Ok(match stage.layout() {
        Layout::Indices => positions(stage.name(), tensor)
            .map_err(|error| unreadable(&error))?
            .into(),
        Layout::KeptRows => row_stage(stage, tensor, problem)?.into(),
        Layout::Assignments | Layout::Tokens => tensor.to_f64().into(),
    })
}

/// The kept rows of a stage in PyTorch's shape `[E,C,width]`, with the layer's order of columns.
fn row_stage(stage: Stage, tensor: &Tensor, problem: &AnyProblem) -> Result<Array2<f64>, Fault> {
    let (bins, capacity) = (problem.bins(), problem.dims().capacity);
    let misfit = || {
        unreadable(&FileError::Rank {
            tensor: stage.to_string(),
            expected: "[E,C,width] with a row for each kept assignment",
            found: tensor.shape().to_vec(),
        })
    };
    let &[experts, rows, width] = tensor.shape() else {
        return Err(misfit());
    };
    let fullest = bins.tokens_per_expert().into_iter().max().unwrap_or(0).min(capacity);
    if experts != bins.experts() || rows < fullest {
        return Err(misfit());
    }
    let padded = Array3::from_shape_vec((experts, rows, width), tensor.to_f64()).map_err(|_| misfit())?;
    Ok(from_stored(stage, kept_rows(&padded, bins, capacity), problem))
}

fn unreadable(error: &dyn std::fmt::Display) -> Fault {
    Fault::Unreadable {
        message: clean(&error.to_string(), MAX_MESSAGE),
    }
}
