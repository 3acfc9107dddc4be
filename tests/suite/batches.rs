//! Which engines of the kernels claim that a token's row has the same bits in any batch, and that they hold it.

use binned_experts::engines::built_in;
use binned_experts_check::{CheckPlan, ElementType, Selection};
use libtest_mimic::{Failed, Trial};

use crate::emulated::agree;
use crate::needs;
use crate::trials::trial;

const BATCH_INVARIANT: &str = "emulator-hopper-batch-invariant";
/// Sizes at which tiles of the second product are cut, where that is allowed.
const CUT: &str = "
    tokens = { min = 1, max = 200 }
    hidden = { min = 193, max = 420 }
    intermediate = { min = 129, max = 330 }
    experts = { max = 4 }
";
/// A quarter of a second each.
const CASES: usize = 40;

pub(crate) fn trials() -> Vec<Trial> {
    let compiler = needs::compiler();
    vec![
        trial(&[&compiler], engines_claim_what_their_paths_hold),
        trial(&[&compiler], the_claim_holds_where_tiles_would_be_cut),
    ]
}

fn engines_claim_what_their_paths_hold() -> Result<(), Failed> {
    for (name, claims) in [
        ("emulator-portable", true),
        ("emulator-hopper", false),
        (BATCH_INVARIANT, true),
    ] {
        let engine = (built_in(name).ok_or("no such engine")?.open)()?;
        if engine.domain().is_batch_invariant() != claims {
            return Err(format!("{name}: expected a claim: {claims}, found the other").into());
        }
    }
    Ok(())
}

fn the_claim_holds_where_tiles_would_be_cut() -> Result<(), Failed> {
    let plan = CheckPlan {
        cases: CASES,
        selection: Selection {
            domain: CUT.parse()?,
            elements: vec![ElementType::F32],
            ..Selection::default()
        },
        ..CheckPlan::default()
    };
    match agree(BATCH_INVARIANT, &plan)? {
        CASES => Ok(()),
        compared => Err(format!("expected {CASES} cases, found {compared}").into()),
    }
}
