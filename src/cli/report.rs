//! `report`: the runs of several machines as one.

use binned_experts_check::report::{self, Merged};

use super::check::conclusion;
use super::files::read_text;
use super::{Conclusion, Failure, Report, print};

pub(super) fn report(arguments: &Report) -> Result<Conclusion, Failure> {
    let mut merged = Merged::default();
    let mut unread = Vec::new();
    for path in &arguments.results {
        let text = read_text(path)?;
        if let Err(error) = merged.add(&text) {
            unread.push(format!("{}: {error}", path.display()));
        }
    }
    for failure in merged.failures() {
        print(failure)?;
    }
    print(report::totals(merged.summary()))?;
    let missing = merged.missing();
    if !missing.is_empty() {
        print(format!("INCOMPLETE: shards {} are missing", missing.join(", ")))?;
    }
    if !unread.is_empty() {
        return Err(unread.join("\nerror: ").into());
    }
    // A share that nobody ran may hold a failure, and none that is there goes away.
    Ok(match conclusion(merged.summary(), Conclusion::NothingCompared)? {
        Conclusion::Agree if !missing.is_empty() => Conclusion::NothingCompared,
        found => found,
    })
}
