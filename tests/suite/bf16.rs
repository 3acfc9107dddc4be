//! The kernels in bf16 on the emulator: the golden from PyTorch, and a few generated cases.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use binned_experts::engines::built_in;
use binned_experts::zoo::KernelPath;
use binned_experts_check::check::{CaseResult, Contender, check};
use binned_experts_check::{CheckPlan, ElementType, Selection};
use libtest_mimic::{Failed, Trial};

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
    let compared = agree("emulator-hopper", 0, vec![golden.clone()])?;
    // As it is, and in other orders.
    if compared < 2 {
        return Err(format!("expected the golden in several orders, found {compared}").into());
    }
    agree("emulator-portable", 0, vec![golden])?;
    Ok(())
}

fn generated_cases_agree() -> Result<(), Failed> {
    agree("emulator-hopper", CASES, Vec::new())?;
    Ok(())
}

/// Checks an engine on each core, and returns the number of cases that were compared.
fn agree(engine: &str, cases: usize, golden: Vec<PathBuf>) -> Result<usize, Failed> {
    let open = built_in(engine).ok_or("no such engine")?.open;
    let plan = CheckPlan {
        cases,
        golden,
        selection: Selection {
            domain: KernelPath::HopperBf16.domain(),
            elements: vec![ElementType::Bf16],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let contender = Contender::several(open()?, Box::new(open), cores);
    let summary = check(&mut [contender], &plan, &mut |_: &CaseResult| ControlFlow::Continue(()))?;
    if summary.agrees() {
        Ok(summary.engines[0].compared())
    } else {
        Err(summary.to_string().into())
    }
}
