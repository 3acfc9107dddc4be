//! What a visit prints.

use std::fmt::Write;

use comfy_table::{CellAlignment, Table, presets};

use super::{BugClass, Visit};

/// How many are named as slow to be caught.
const SLOWEST: usize = 10;

/// A row for each animal.
pub fn table(visits: &[Visit]) -> String {
    rows(visits.iter()).to_string()
}

/// The animals that took the most cases, at most ten.
pub fn slowest(visits: &[Visit]) -> String {
    let mut caught: Vec<&Visit> = visits.iter().filter(|visit| visit.catch.is_some()).collect();
    caught.sort_by_key(|visit| std::cmp::Reverse(cases(visit)));
    rows(caught.into_iter().take(SLOWEST)).to_string()
}

/// A row for each class: its animals, how many were caught, are equivalent, need not show, and are missed.
pub fn classes(visits: &[Visit]) -> String {
    let mut table = with_header([
        "class",
        "",
        "animals",
        "caught",
        "equivalent",
        "not shown",
        "survived",
        "median cases",
    ]);
    let mut classes: Vec<BugClass> = visits.iter().map(|visit| visit.animal.class).collect();
    classes.sort();
    classes.dedup();
    let row = |of: &[&Visit]| {
        let with = |verdict| of.iter().filter(|visit| visit.verdict() == verdict).count();
        let (equivalent, not_shown) = (with("equivalent"), with("not shown"));
        let caught = of.iter().filter(|visit| visit.catch.is_some()).count();
        [
            of.len().to_string(),
            caught.to_string(),
            equivalent.to_string(),
            not_shown.to_string(),
            (of.len() - caught - equivalent - not_shown).to_string(),
            median(of).map_or_else(String::new, |cases| cases.to_string()),
        ]
    };
    for class in classes {
        let of: Vec<&Visit> = visits.iter().filter(|visit| visit.animal.class == class).collect();
        table.add_row([class.to_string(), class.name().to_owned()].into_iter().chain(row(&of)));
    }
    let all: Vec<&Visit> = visits.iter().collect();
    table.add_row(["all".to_owned(), String::new()].into_iter().chain(row(&all)));
    align(&mut table, 2..=7);
    table.to_string()
}

/// The last lines: how many were caught, the median, those that need not show and why, and those that are not as their
/// files say.
pub fn summary(visits: &[Visit]) -> String {
    let all: Vec<&Visit> = visits.iter().collect();
    let caught = visits.iter().filter(|visit| visit.catch.is_some()).count();
    let mut out = format!("{caught} of {} caught", visits.len());
    if let Some(median) = median(&all) {
        let _ = write!(out, ", half of them within {median} cases");
    }
    for visit in visits.iter().filter(|visit| visit.verdict() == "not shown") {
        let reason = visit.animal.unseen_on_gpu.as_deref().unwrap_or_default();
        let _ = write!(out, "\n{}: not shown: {}", visit.animal.name, reason.trim());
    }
    for visit in visits.iter().filter(|visit| !visit.is_expected()) {
        let _ = write!(out, "\n{}: {}", visit.animal.name, visit.verdict());
    }
    out
}

fn rows<'a>(visits: impl Iterator<Item = &'a Visit>) -> Table {
    let mut table = with_header(["animal", "class", "path", "verdict", "by", "cases", "seconds"]);
    for visit in visits {
        let catch = visit.catch.as_ref();
        table.add_row([
            visit.animal.name.clone(),
            visit.animal.class.to_string(),
            visit.animal.path.name().to_owned(),
            visit.verdict().to_owned(),
            catch.map_or_else(String::new, |catch| catch.by.clone()),
            catch.map_or_else(String::new, |catch| catch.case.to_string()),
            format!("{:.1}", visit.time.as_secs_f64()),
        ]);
    }
    align(&mut table, 5..=6);
    table
}

fn with_header<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table
}

fn align(table: &mut Table, columns: std::ops::RangeInclusive<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

fn cases(visit: &Visit) -> usize {
    visit.catch.as_ref().map_or(0, |catch| catch.case)
}

/// The lower median of the cases of those that were caught.
fn median(visits: &[&Visit]) -> Option<usize> {
    let mut caught: Vec<usize> = visits
        .iter()
        .filter_map(|visit| Some(visit.catch.as_ref()?.case))
        .collect();
    caught.sort_unstable();
    caught.get(caught.len().checked_sub(1)? / 2).copied()
}
