//! The kernels' machine code: prebuilt for the listed architectures, compiled for any other.

use std::path::PathBuf;

use sha2::{Digest, Sha256};

use super::compile::{OPTIONS, compile, compiler_version};
use super::unavailable;
use crate::{GpuError, sources};

/// The architectures that machine code is kept for.
pub const ARCHITECTURES: [&str; 4] = ["sm_75", "sm_80", "sm_90a", "sm_100a"];

/// The machine code kept for an architecture.
pub fn prebuilt(architecture: &str) -> Option<&'static [u8]> {
    Some(match architecture {
        "sm_75" => include_bytes!("../../kernels/prebuilt/sm_75.cubin"),
        "sm_80" => include_bytes!("../../kernels/prebuilt/sm_80.cubin"),
        "sm_90a" => include_bytes!("../../kernels/prebuilt/sm_90a.cubin"),
        "sm_100a" => include_bytes!("../../kernels/prebuilt/sm_100a.cubin"),
        _ => return None,
    })
}

/// The architecture to run on a device: a listed one whose code the device runs, or the device's own.
pub fn architecture_for((major, minor): (i32, i32)) -> Option<String> {
    match (major, minor) {
        (7, 5) => Some("sm_75".to_owned()),
        (8, _) => Some("sm_80".to_owned()),
        (9, 0) => Some("sm_90a".to_owned()),
        (10, 0) => Some("sm_100a".to_owned()),
        (major, minor) if major >= 8 => Some(format!("sm_{major}{minor}")),
        _ => None,
    }
}

/// The kernels as one source.
pub fn source() -> String {
    sources::joined(sources::KERNELS.iter().map(|(_, text)| *text))
}

/// The machine code for a device: prebuilt, from the cache, or compiled now.
///
/// The variable `BINNED_EXPERTS_KERNELS` decides otherwise: `prebuilt` never compiles, `nvrtc` always compiles.
pub(super) fn load(capability: (i32, i32)) -> Result<Vec<u8>, GpuError> {
    let architecture = architecture_for(capability).ok_or_else(|| too_old(capability))?;
    let wish = std::env::var("BINNED_EXPERTS_KERNELS").unwrap_or_default();
    match prebuilt(&architecture) {
        Some(image) if wish != "nvrtc" => Ok(image.to_vec()),
        None if wish == "prebuilt" => Err(unavailable(&format!(
            "BINNED_EXPERTS_KERNELS=prebuilt, and no machine code is kept for {architecture}"
        ))),
        _ => cached(&architecture),
    }
}

/// The error of a device that the kernels do not run on.
pub(super) fn too_old((major, minor): (i32, i32)) -> GpuError {
    unavailable(&format!(
        "expected a device of compute capability 7.5 or above, found {major}.{minor}"
    ))
}

/// Compiled code from the disk, or compiled and kept there.
fn cached(architecture: &str) -> Result<Vec<u8>, GpuError> {
    let path = cache_path(architecture)?;
    if let Some(image) = path.as_ref().and_then(|path| std::fs::read(path).ok()) {
        return Ok(image);
    }
    let image = compile(&source(), architecture)?.image;
    if let Some(path) = path {
        keep(&path, &image);
    }
    Ok(image)
}

/// Where the code for the present sources, architecture, options and compiler is kept.
fn cache_path(architecture: &str) -> Result<Option<PathBuf>, GpuError> {
    let (major, minor) = compiler_version()?;
    let mut hash = Sha256::new();
    for part in [source().as_str(), architecture].iter().chain(&OPTIONS) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(format!("{major}.{minor}"));
    let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let root = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    Ok(root.map(|root| root.join("binned-experts").join(format!("{name}.cubin"))))
}

/// Written beside and renamed, so that no other process reads half a file. A cache that cannot be written is none.
fn keep(path: &std::path::Path, image: &[u8]) {
    let beside = path.with_extension(format!("{}", std::process::id()));
    let written = path
        .parent()
        .is_some_and(|parent| std::fs::create_dir_all(parent).is_ok())
        && std::fs::write(&beside, image).is_ok();
    if written && std::fs::rename(&beside, path).is_err() {
        // Another process may have been first; what is left over is not read by anyone.
        let _ = std::fs::remove_file(&beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_that_is_too_old_is_named() {
        for capability in [(3, 5), (6, 1), (7, 0), (7, 2)] {
            let error = load(capability).unwrap_err().to_string();
            let found = format!("found {}.{}", capability.0, capability.1);
            assert!(error.contains("7.5 or above") && error.contains(&found), "{error}");
        }
    }

    #[test]
    fn every_listed_architecture_has_code() {
        for (capability, architecture) in [
            ((7, 5), "sm_75"),
            ((8, 6), "sm_80"),
            ((9, 0), "sm_90a"),
            ((10, 0), "sm_100a"),
        ] {
            assert_eq!(architecture_for(capability).as_deref(), Some(architecture));
            assert!(prebuilt(architecture).is_some());
        }
        assert_eq!(architecture_for((12, 0)).as_deref(), Some("sm_120"));
    }
}
