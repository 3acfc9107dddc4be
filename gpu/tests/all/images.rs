//! The machine code kept in `kernels/prebuilt/` is what the sources give, and what the compiler says of it is good.
//!
//! Needs NVRTC 13.0 (libnvrtc), for instance the wheel nvidia-cuda-nvrtc with its lib folder on LD_LIBRARY_PATH. Where
//! it is missing the tests are ignored. `UPDATE_IMAGES=1` writes the code anew.

use std::path::Path;

use binned_experts_gpu::cuda::{ARCHITECTURES, compile, compiler_version, prebuilt, source};
use binned_experts_gpu::sources::heads;
use libtest_mimic::{Failed, Trial};

use crate::trials::{Need, named};

/// The most registers that a kernel of this size may take, so that four blocks of 128 threads fit a multiprocessor.
const MOST_REGISTERS: u32 = 128;
/// What a block of 384 threads can have of a multiprocessor of its own; one of 512 threads can have no more than
/// `MOST_REGISTERS`.
const MOST_REGISTERS_ALONE: u32 = 168;

pub(crate) fn trials() -> Vec<Trial> {
    let nvrtc = Need::new("NVRTC 13.0", Some("CI"), || match compiler_version() {
        Ok((13, 0)) => None,
        Ok((major, minor)) => Some(format!("expected NVRTC 13.0, found {major}.{minor}")),
        Err(error) => Some(error.to_string()),
    });
    let image = |architecture| {
        named(format!("images::{architecture}"), &[&nvrtc], move || {
            check(architecture)
        })
    };
    Vec::from(ARCHITECTURES.map(image))
}

fn check(architecture: &str) -> Result<(), Failed> {
    let compiled = compile(&source(), architecture)?;
    for head in heads() {
        let kernel = head.kernel;
        if head.needs_hopper && architecture != "sm_90a" {
            if compiled.log.contains(&format!("'{kernel}'")) {
                return Err(format!("{kernel} is for sm_90a").into());
            }
            continue;
        }
        let most = match kernel {
            "experts" => MOST_REGISTERS_ALONE,
            _ => MOST_REGISTERS,
        };
        check_log(kernel, most, &compiled.log)?;
    }
    // Of experts_bf16 it says that it adds a wgmma.fence before products whose registers other code has used.
    let is_expected = |line: &str| line.contains("C7519") && line.ends_with("in function 'experts_bf16'");
    let mut notes = compiled.log.lines().filter(|line| line.contains("C75"));
    if let Some(note) = notes.find(|line| !is_expected(line)) {
        return Err(format!("a performance note: {note}").into());
    }
    if std::env::var_os("UPDATE_IMAGES").is_some() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/prebuilt");
        std::fs::write(folder.join(format!("{architecture}.cubin")), &compiled.image)?;
        return Ok(());
    }
    if prebuilt(architecture) != Some(&compiled.image[..]) {
        return Err("the kept code is not what the sources give; UPDATE_IMAGES=1 writes it anew".into());
    }
    Ok(())
}

/// No spill, no stack, and no more registers than allowed.
fn check_log(kernel: &str, most: u32, log: &str) -> Result<(), Failed> {
    let mut lines = log
        .lines()
        .skip_while(|line| !line.contains(&format!("entry function '{kernel}'")));
    let about: Vec<&str> = lines.by_ref().take(4).collect();
    let spills = about
        .iter()
        .any(|line| line.contains("0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"));
    let registers = about.iter().find_map(|line| {
        let (_, rest) = line.split_once("Used ")?;
        rest.split(' ').next()?.parse::<u32>().ok()
    });
    match registers {
        Some(registers) if registers <= most && spills => Ok(()),
        _ => Err(format!("{kernel}: expected no spills and at most {most} registers, found\n{log}").into()),
    }
}
