//! A check of an engine of the kernels on the emulator, on each core.

use std::ops::ControlFlow;

use binned_experts::engines::built_in;
use binned_experts_check::CheckPlan;
use binned_experts_check::check::{CaseResult, Contender, check};
use libtest_mimic::Failed;

/// The number of cases that were compared and agree.
pub(crate) fn agree(engine: &str, plan: &CheckPlan) -> Result<usize, Failed> {
    let open = built_in(engine).ok_or("no such engine")?.open;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let contender = Contender::several(open()?, Box::new(open), cores);
    let summary = check(&mut [contender], plan, &mut |_: &CaseResult| ControlFlow::Continue(()))?;
    if summary.agrees() {
        Ok(summary.engines[0].compared())
    } else {
        Err(summary.to_string().into())
    }
}
