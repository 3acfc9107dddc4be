//! What the errors of an engine add up to, as text.

use std::fmt::Write;

use crate::check::{EngineTotals, Summary};
use crate::domain::Domain;
use crate::oracle::sums::{Direction, Estimate, LEAST_CASES, Sums};

/// The alpha and the limit that an estimate is told for where the cases have several: those of gpt-oss.
const USUAL_ALPHA: f64 = 1.702;
const USUAL_LIMIT: f64 = 7.0;

/// A block for each engine and precision with enough cases: a line for each estimate, the most deviating first.
pub(super) fn told(summary: &Summary) -> String {
    let mut out = String::new();
    for totals in &summary.engines {
        for sums in totals.sums.iter().filter(|sums| sums.cases >= LEAST_CASES) {
            let (name, precision, cases) = (&totals.name, sums.precision, sums.cases);
            let _ = writeln!(out, "{name}, {precision}: the errors of {cases} cases add up to");
            for estimate in sums.estimates() {
                let _ = writeln!(out, "  {}", line(&estimate, &summary.domain));
            }
            let _ = writeln!(out, "  {}", share(sums));
        }
    }
    out
}

/// What an engine is biased by most, in each precision; none where it is not.
pub fn biased(summary: &Summary, totals: &EngineTotals) -> Option<String> {
    let worst = |sums: &Sums| {
        let worst = sums.estimates().into_iter().find(|estimate| estimate.is_biased);
        worst.map_or_else(|| share(sums), |estimate| line(&estimate, &summary.domain))
    };
    let biased = totals.sums.iter().filter(|sums| sums.is_biased());
    let biased = biased.map(|sums| format!("{}, {}: {}", totals.name, sums.precision, worst(sums)));
    let biased: Vec<String> = biased.collect();
    (!biased.is_empty()).then(|| biased.join("; "))
}

fn line(estimate: &Estimate, domain: &Domain) -> String {
    let Estimate {
        direction,
        found,
        error,
        ..
    } = *estimate;
    let (right, unit, note) = match direction {
        Direction::Alpha => (1.0, only(domain.alpha.as_deref()).unwrap_or(USUAL_ALPHA), ""),
        Direction::Limit => (1.0, only(domain.limit.as_deref()).unwrap_or(USUAL_LIMIT), ""),
        _ if direction.is_factor() => (1.0, 1.0, ""),
        Direction::ActivationShort => (0.0, 1.0, " (1 if rounded to too few bits)"),
        Direction::BiasesNarrowed | Direction::WeightsNarrowed => (0.0, 1.0, " (1 if rounded to the element type)"),
        _ => (0.0, 1.0, " (1 if cut)"),
    };
    let error = error * unit.abs();
    // One digit of the standard error.
    let digits = (-error.log10()).ceil().clamp(0.0, 17.0) as usize;
    let found = (right + found) * unit;
    let right = right * unit;
    let verdict = if estimate.is_biased {
        format!(", BIASED by {:.0} standard errors", estimate.deviations)
    } else {
        String::new()
    };
    format!("{direction} {found:.digits$} ± {error:.digits$} where {right} is right{note}{verdict}")
}

/// The one value that all cases have.
fn only(values: Option<&[f64]>) -> Option<f64> {
    match values {
        Some([only]) => Some(*only),
        _ => None,
    }
}

fn share(sums: &Sums) -> String {
    let (share, honest) = (sums.share(), sums.honest_share());
    let verdict = if share > honest { ", BIASED" } else { "" };
    format!("root mean square {share:.4} of the bound, of honest engines below {honest}{verdict}")
}
