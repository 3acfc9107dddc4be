//! Layers of other models and ids that are not local, on the kernels: goldens from PyTorch, and a few generated cases.

use std::path::{Path, PathBuf};

use binned_experts::zoo::KernelPath;
use binned_experts_check::{CheckPlan, Domain, ElementType, Selection};
use libtest_mimic::{Failed, Trial};

use crate::emulated::agree;
use crate::needs;
use crate::trials::trial;

/// What the kernels take.
const LAYERS: &str = include_str!("../layers.toml");
/// A few seconds for an engine.
const CASES: usize = 60;
/// Goldens of `tests/layers` in f32 and bf16 whose activation and place of the routing weight the kernels have.
const GOLDENS: usize = 17;

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = needs::compiler();
    vec![
        trial(&[&compiler], goldens_agree_on_the_kernels_of_every_gpu),
        trial(&[&compiler], goldens_agree_on_the_kernels_for_hopper),
        trial(&[&compiler], generated_cases_agree_on_the_kernels_of_every_gpu),
        trial(&[&compiler], generated_cases_agree_on_the_kernels_for_hopper),
        trial(&[&compiler], generated_cases_agree_in_bf16),
    ]
}

fn goldens_agree_on_the_kernels_of_every_gpu() -> Result<(), Failed> {
    goldens_agree("emulator-portable")
}

fn goldens_agree_on_the_kernels_for_hopper() -> Result<(), Failed> {
    goldens_agree("emulator-hopper")
}

/// Those that the engine does not take are skipped.
fn goldens_agree(engine: &str) -> Result<(), Failed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/layers");
    let files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path()));
    let golden = files.collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    let plan = CheckPlan {
        cases: 0,
        golden,
        ..CheckPlan::default()
    };
    match agree(engine, &plan)? {
        compared if compared >= GOLDENS => Ok(()),
        compared => Err(format!("expected {GOLDENS} goldens or more, found {compared}").into()),
    }
}

fn generated_cases_agree_on_the_kernels_of_every_gpu() -> Result<(), Failed> {
    generated("emulator-portable", Domain::default(), ElementType::F32)
}

fn generated_cases_agree_on_the_kernels_for_hopper() -> Result<(), Failed> {
    generated("emulator-hopper", Domain::default(), ElementType::F32)
}

fn generated_cases_agree_in_bf16() -> Result<(), Failed> {
    generated("emulator-hopper", KernelPath::HopperBf16.domain(), ElementType::Bf16)
}

fn generated(engine: &str, domain: Domain, element: ElementType) -> Result<(), Failed> {
    let plan = CheckPlan {
        cases: CASES,
        selection: Selection {
            domain: domain.meet(&LAYERS.parse()?),
            elements: vec![element],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    match agree(engine, &plan)? {
        CASES => Ok(()),
        compared => Err(format!("expected {CASES} cases, found {compared}").into()),
    }
}
