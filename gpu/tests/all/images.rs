//! The machine code kept in `kernels/prebuilt/` is what the sources give, and what the compiler says of it is good. The
//! compiler takes the kernels of `benches/bf16` too.
//!
//! Needs NVRTC 13.0 (libnvrtc), for instance the wheel nvidia-cuda-nvrtc with its lib folder on LD_LIBRARY_PATH. Where
//! it is missing the tests are ignored. `UPDATE_IMAGES=1` writes the code anew.

use std::path::Path;

use binned_experts_gpu::cuda::{ARCHITECTURES, compile, compiler_version, prebuilt, source};
use binned_experts_gpu::sources::{KERNELS, heads, joined};
use libtest_mimic::{Failed, Trial};

use crate::trials::{Need, named};

/// The most registers that a kernel of this size may take, so that four blocks of 128 threads fit a multiprocessor.
const MOST_REGISTERS: u32 = 128;
/// What a block of 384 threads can have of a multiprocessor of its own.
const MOST_REGISTERS_ALONE: u32 = 168;

/// The kernels of `benches/bf16`, each file after those it includes.
const BF16: [&str; 8] = [
    include_str!("../../../benches/bf16/ptx_bf16.cuh"),
    include_str!("../../../benches/bf16/tiles_bf16.cuh"),
    include_str!("../../../benches/bf16/finish_bf16.cuh"),
    include_str!("../../../benches/bf16/pack_bf16.cu"),
    include_str!("../../../benches/bf16/gather_bf16.cu"),
    include_str!("../../../benches/bf16/experts_bf16.cu"),
    include_str!("../../../benches/bf16/combine_bf16.cu"),
    include_str!("../../../benches/bf16/reference.cuh"),
];

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
    let mut trials = Vec::from(ARCHITECTURES.map(image));
    trials.push(named("images::bf16".to_owned(), &[&nvrtc], check_bf16));
    trials
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
    if compiled.log.contains("C75") {
        return Err(format!("a performance note:\n{}", compiled.log).into());
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

fn check_bf16() -> Result<(), Failed> {
    let shared = KERNELS.iter().filter(|(name, _)| name.ends_with(".cuh"));
    let texts = shared.map(|&(_, text)| text).chain(BF16);
    let log = compile(&joined(texts), "sm_90a")?.log;
    for kernel in ["pack_weights", "gather", "route_gather", "experts", "combine"] {
        if !log.contains(&format!("entry function '{kernel}_bf16'")) {
            return Err(format!("{kernel}_bf16: expected machine code, found\n{log}").into());
        }
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
