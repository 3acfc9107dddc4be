//! The text and the JSON that a run prints.

mod engine_line;
mod json;
mod merge;
mod sums;
mod told;

use std::fmt::{self, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};

pub use json::{case_json, totals_json};
pub use merge::{MergeError, Merged};
pub use sums::biased;
pub use told::{Told, ToldShrunk};

use crate::case::{Place, Profile, Special, SpecialValue};
use crate::check::{BeyondTotals, End, EngineTotals, Summary};
use crate::engine::text::clean;
use crate::judge::{Sampled, Verdict};

/// The most of a verdict's text, in characters.
const MAX_TEXT: usize = 8000;
/// The most of a reason for which cases were declined, in characters.
const MAX_REASON: usize = 160;

impl fmt::Display for Summary {
    /// The failures, then the totals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{}", Told::new(&self.engines[failure.engine].name, failure))?;
        }
        f.write_str(&totals(self))
    }
}

/// The totals: a table of verdicts, skips, coverage, times, and the conclusion.
pub fn totals(summary: &Summary) -> String {
    let mut out = format!("{}\n\n", verdicts(summary));
    for totals in &summary.engines {
        for (reason, count) in &totals.skips {
            let _ = writeln!(out, "{}: {count} cases skipped: {reason}", totals.name);
        }
    }
    out.push_str(&declined(summary));
    out.push_str(&kinds(summary));
    out.push_str(&within(summary));
    out.push_str(&sampled(summary));
    out.push_str(&measured(summary));
    out.push_str(&sums::told(summary));
    out.push_str(&domain(summary));
    out.push_str(&beyond(summary));
    let _ = writeln!(
        out,
        "{} cases, among them cases with\n{}",
        summary.cases,
        coverage(summary)
    );
    let _ = writeln!(out, "time: {}", times(summary));
    let _ = write!(out, "{}", conclusion(summary));
    out
}

/// The last line of a report.
pub fn conclusion(summary: &Summary) -> String {
    let failing: Vec<&str> = summary
        .engines
        .iter()
        .filter(|totals| summary.has_failed(totals))
        .map(|totals| totals.name.as_str())
        .collect();
    let of_engines = |told: fn(&Summary, &EngineTotals) -> Option<String>| -> Vec<String> {
        let engines = summary.engines.iter();
        engines.filter_map(|totals| told(summary, totals)).collect()
    };
    let biased = of_engines(biased).join("; ");
    let found = match (summary.is_conclusive(), failing.is_empty()) {
        (_, false) if !biased.is_empty() => format!("DISAGREE: {}; BIASED: {biased}", failing.join(", ")),
        (_, false) => format!("DISAGREE: {}", failing.join(", ")),
        _ if !biased.is_empty() => format!("BIASED: {biased}"),
        (false, true) => format!("INCONCLUSIVE: {}", of_engines(too_few).join(", ")),
        (true, true) if summary.agrees() => {
            let conditions = summary.domain.conditions();
            let inside = if conditions.is_empty() { "" } else { " where " };
            let inside = format!("{inside}{}", conditions.join(", "));
            format!("AGREE{inside}: every engine is within its bounds on every case")
        }
        (true, true) => "no failure".to_owned(),
    };
    let so_far = format!("after {} of {} cases", summary.cases, summary.planned);
    match &summary.end {
        End::Complete => found,
        End::Stopped => format!("{found} (ended {so_far})"),
        End::GivenUp => format!("{found} (given up {so_far}: no answer to ten cases in a row)"),
        End::Interrupted => format!("INTERRUPTED {so_far}: {found}"),
        End::Machine(error) => format!("ENDED {so_far} by an error of this machine, {error}: {found}"),
    }
}

/// Which engines were judged on too few cases.
/// On how many cases an engine was compared; none where it is enough.
pub fn too_few(summary: &Summary, totals: &EngineTotals) -> Option<String> {
    let (name, compared, least) = (&totals.name, totals.compared(), summary.least_judged(totals));
    match compared {
        enough if enough >= least => None,
        0 if summary.at_least.is_none() => Some(format!("{name} was compared on no case")),
        _ => Some(format!(
            "{name} was compared on {compared} cases, expected at least {least}"
        )),
    }
}

/// The cases that were declined, by reason, the most frequent first.
fn declined(summary: &Summary) -> String {
    let mut out = String::new();
    for totals in &summary.engines {
        let mut reasons: Vec<_> = totals.declined.iter().collect();
        reasons.sort_by_key(|declined| std::cmp::Reverse(declined.cases));
        let inside = if totals.has_domain { " inside its domain" } else { "" };
        for declined in reasons {
            let cases = if declined.cases == 1 { "case" } else { "cases" };
            let reason = clean(&declined.reason, MAX_REASON);
            let _ = writeln!(
                out,
                "{}: {} {cases} declined{inside}, first {}: {reason}",
                totals.name, declined.cases, declined.first
            );
        }
    }
    out
}

/// The domain that the cases were drawn inside of, and the profiles that it rules out; nothing where it admits anything.
fn domain(summary: &Summary) -> String {
    let conditions = summary.domain.conditions();
    if conditions.is_empty() {
        return String::new();
    }
    let mut out = format!("drawn where {}\n", conditions.join(", "));
    let names = names_of(&summary.ruled_out);
    if !names.is_empty() {
        let _ = writeln!(out, "ruled out: {}", names.join(" "));
    }
    out
}

/// What engines did beyond each limit of the domain.
fn beyond(summary: &Summary) -> String {
    let mut out = String::new();
    for beyond in &summary.beyond {
        let BeyondTotals {
            limit,
            right,
            declined,
            wrong,
            unanswered,
            ..
        } = beyond;
        let name = &summary.engines[beyond.engine].name;
        let _ = writeln!(
            out,
            "{name} beyond {limit}: {right} right, {declined} declined, {wrong} silently wrong, {unanswered} unanswered"
        );
        if let Some((spec, verdict)) = beyond.first.as_deref() {
            let _ = writeln!(out, "{}", indented(&verdict_text(verdict)));
            let _ = writeln!(out, "{}", indented(&spec.to_string()));
        }
    }
    out
}

/// The names of profiles, with one name for a special value in every place and for a place with every value.
fn names_of(profiles: &[Profile]) -> Vec<String> {
    let specials: Vec<Special> = profiles
        .iter()
        .filter_map(|profile| match profile {
            Profile::Special(special) => Some(*special),
            _ => None,
        })
        .collect();
    let everywhere = |value| specials.iter().filter(|special| special.value == value).count() == Place::ALL.len();
    let every_value =
        |place| specials.iter().filter(|special| special.place == place).count() == SpecialValue::ALL.len();
    let mut names: Vec<String> = Vec::new();
    for profile in profiles {
        let name = match profile {
            Profile::Special(special) if everywhere(special.value) => format!("{}-in-*", special.value),
            Profile::Special(special) if every_value(special.place) => format!("*-in-{}", special.place),
            profile => profile.name(),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The failures by what they have in common, each with its number of cases, the most frequent first.
fn kinds(summary: &Summary) -> String {
    let mut kinds: Vec<_> = summary.kinds.iter().collect();
    kinds.sort_by_key(|kind| (kind.engine, std::cmp::Reverse(kind.cases)));
    let mut out = String::new();
    for kind in kinds {
        let name = &summary.engines[kind.engine].name;
        let cases = if kind.cases == 1 { "case" } else { "cases" };
        let _ = writeln!(
            out,
            "{name}: {} {cases}, first {}: {}",
            kind.cases, kind.first, kind.text
        );
    }
    out
}

/// How many wrong results each weaker claim would have admitted.
fn within(summary: &Summary) -> String {
    let mut out = String::new();
    for totals in summary.engines.iter().filter(|totals| !totals.within.is_empty()) {
        let admitted = totals
            .within
            .iter()
            .map(|(precision, cases)| format!("{cases} within {precision}"));
        let admitted: Vec<String> = admitted.collect();
        let (name, disagree) = (&totals.name, totals.disagree);
        let _ = writeln!(out, "{name}: of {disagree} wrong results {}", admitted.join(", "));
    }
    out
}

/// How many tokens of the large cases were judged by the definition.
fn sampled(summary: &Summary) -> String {
    let mut out = String::new();
    for totals in summary.engines.iter().filter(|totals| totals.sampled_cases > 0) {
        let (name, number, of) = (&totals.name, totals.sampled_cases, totals.sampled);
        let cases = if number == 1 { "case" } else { "cases" };
        let _ = writeln!(out, "{name}: {number} {cases} sampled: {}", sampled_text(of));
    }
    out
}

/// How many tokens a verdict is about, where only some were judged by the definition.
pub fn sampled_text(Sampled { judged, tokens }: Sampled) -> String {
    format!("{judged} of {tokens} tokens judged by the definition, all screened")
}

/// The sharpest claims that each engine meets.
fn measured(summary: &Summary) -> String {
    let mut out = String::new();
    for totals in &summary.engines {
        for measured in &totals.measured {
            let sharpest = measured.sharpest();
            let claims = sharpest
                .iter()
                .map(|(precision, used)| format!("{precision} (at most {used:.3} of its bounds)"));
            let claims: Vec<String> = claims.collect();
            let claims = if claims.is_empty() {
                "no claim".to_owned()
            } else {
                claims.join(", ")
            };
            let (name, cases, element) = (&totals.name, measured.cases, measured.element);
            let _ = writeln!(out, "{name}: the {cases} results in {element} all lie within {claims}");
        }
    }
    out
}

/// The median and the longest time of a case, for each engine.
pub fn case_times(summary: &Summary) -> String {
    let line = |totals: &EngineTotals| {
        let (median, worst) = totals.median_and_worst()?;
        let milliseconds = |seconds: f32| f64::from(seconds) * 1e3;
        Some(format!(
            "{}: {:.3} ms a case in the median, {:.3} ms at worst\n",
            totals.name,
            milliseconds(median),
            milliseconds(worst)
        ))
    };
    summary.engines.iter().filter_map(line).collect()
}

/// A table with a row for each engine.
fn verdicts(summary: &Summary) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([
        "engine",
        "agree",
        "disagree",
        "fault",
        "declined",
        "skipped",
        "bound used",
        "by",
        "undecided",
    ]);
    for totals in &summary.engines {
        table.add_row([
            totals.name.clone(),
            totals.agree.to_string(),
            totals.disagree.to_string(),
            totals.fault.to_string(),
            totals.declines().to_string(),
            totals.skipped().to_string(),
            format!("{:.3}", totals.used),
            totals.used_by.clone(),
            undecided(totals),
        ]);
    }
    for column in [1, 2, 3, 4, 5, 6, 8] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A verdict in full, without control characters whatever an engine said.
pub fn verdict_text(verdict: &Verdict) -> String {
    let text = match verdict {
        Verdict::Agree { used, undecided: 0 } => format!("agree, {used:.3} of the bound used"),
        Verdict::Agree { used, undecided } => {
            format!("agree, {used:.3} of the bound used, {undecided} elements undecided near overflow")
        }
        Verdict::Disagree(mismatch) => mismatch.to_string(),
        Verdict::Fault(fault) => fault.to_string(),
        Verdict::Declined(reason) => format!("declined: {reason}"),
        Verdict::Skip(reason) => format!("skipped: {reason}"),
        Verdict::NotJudged(error) => format!("not judged: {error}"),
    };
    clean(&text, MAX_TEXT)
}

/// In how many cases each situation occurred, three to a line.
fn coverage(summary: &Summary) -> String {
    let cell = |(name, count): &(&str, usize)| format!("  {name:<26}{count:>6}");
    let line = |cells: &[(&'static str, usize)]| cells.iter().map(cell).collect::<String>();
    summary.coverage.chunks(3).map(line).collect::<Vec<_>>().join("\n")
}

fn undecided(totals: &EngineTotals) -> String {
    format!("{} of {}", totals.undecided, totals.elements)
}

fn times(summary: &Summary) -> String {
    let engines: Duration = summary.engines.iter().map(|totals| totals.time).sum();
    let all = [summary.generating, summary.oracle, engines, summary.comparing];
    let total: Duration = all.iter().sum();
    let share = |part: Duration| 100.0 * part.as_secs_f64() / total.as_secs_f64().max(f64::MIN_POSITIVE);
    let [generating, oracle, engines, comparing] = all.map(share);
    format!(
        "{:.1} s; generate {generating:.0} %, oracle {oracle:.0} %, engines {engines:.0} %, compare {comparing:.0} %",
        summary.elapsed.as_secs_f64()
    )
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}
