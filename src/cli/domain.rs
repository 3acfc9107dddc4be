//! `domain`: what a kernel takes, found by asking.

use binned_experts_check::domain::Axis;
use binned_experts_check::find::find;
use binned_experts_check::{Domain, report};

use super::interrupt::Interrupts;
use super::{Conclusion, Failure, FindDomain, print};

pub(super) fn domain(arguments: &FindDomain, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    let mut engines = arguments.engines.open(&interrupts.stop)?.engines;
    let [opened] = &mut engines[..] else {
        return Err(format!("expected one engine, found {}", engines.len()).into());
    };
    let start = arguments.shape.as_ref().map(sizes).transpose()?;
    let found = find(&mut *opened.engine, start)?;
    print(format!(
        "# {} by {} cases: right, declined, wrong, crashed",
        opened.engine.name(),
        found.asked
    ))?;
    print(found.to_string().trim_end())?;
    if found.wrong.is_empty() && found.inside.wrong + found.inside.crashed == 0 {
        return Ok(Conclusion::Done);
    }
    for (spec, verdict) in &found.wrong {
        let text = report::verdict_text(verdict);
        print(format!(
            "# WRONG: {}: {}",
            spec.summary(),
            text.lines().next().unwrap_or_default()
        ))?;
    }
    Ok(Conclusion::Finding)
}

/// T, H, I, E and K of a shape.
fn sizes(shape: &Domain) -> Result<[usize; 5], Failure> {
    let axes = [
        Axis::Tokens,
        Axis::Hidden,
        Axis::Intermediate,
        Axis::Experts,
        Axis::TopK,
    ];
    let mut sizes = [0; 5];
    for (size, axis) in sizes.iter_mut().zip(axes) {
        let only = shape.sizes(axis).one_of.as_deref();
        let [found] = only.unwrap_or_default() else {
            return Err(format!("--shape: expected T, H, I, E and K, found none for {axis}").into());
        };
        *size = *found;
    }
    Ok(sizes)
}
