//! The kernels in bf16 on the emulator: the golden from PyTorch, and a few generated cases.

use std::path::{Path, PathBuf};

use binned_experts::zoo::KernelPath;
use binned_experts_check::{CheckPlan, ElementType, Selection};
use libtest_mimic::{Failed, Trial};

use crate::emulated::agree;
use crate::needs;
use crate::trials::trial;

/// A quarter of a second each.
const CASES: usize = 80;

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = needs::compiler();
    vec![
        trial(&[&compiler], the_golden_agrees),
        trial(&[&compiler], generated_cases_agree),
    ]
}

fn the_golden_agrees() -> Result<(), Failed> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/bfloat16.safetensors");
    let compared = agree("emulator-hopper", &plan(0, vec![golden.clone()]))?;
    // As it is, and in other orders.
    if compared < 2 {
        return Err(format!("expected the golden in several orders, found {compared}").into());
    }
    agree("emulator-portable", &plan(0, vec![golden]))?;
    Ok(())
}

fn generated_cases_agree() -> Result<(), Failed> {
    agree("emulator-hopper", &plan(CASES, Vec::new()))?;
    Ok(())
}

fn plan(cases: usize, golden: Vec<PathBuf>) -> CheckPlan {
    CheckPlan {
        cases,
        golden,
        selection: Selection {
            domain: KernelPath::HopperBf16.domain(),
            elements: vec![ElementType::Bf16],
            ..Selection::default()
        },
        ..CheckPlan::default()
    }
}
