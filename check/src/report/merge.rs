//! Runs of several machines as one: their lines of JSON make one report.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::engine_line::{EngineLine, SampledLine, seconds};
use super::told::ToldShrunk;
use super::{MAX_TEXT, Told};
use crate::case::CaseSpec;
use crate::check::{End, EngineTotals, Repeats, Shard, Summary};
use crate::domain::Domain;
use crate::engine::MachineError;
use crate::engine::text::clean;
use crate::oracle::Coverage;

/// Several runs as one.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    summary: Summary,
    /// The failure of each engine and kind that is told in full.
    failures: BTreeMap<(String, String), Told>,
    /// The shares of the check that are there.
    shards: BTreeSet<usize>,
    shard_count: Option<usize>,
}

/// Why the lines of a file are not those of a run that can be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// A line is none that `check --format json` prints.
    #[error("line {line}: {message}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// The last line is not the totals: the run was killed.
    #[error("expected totals in the last line, found none; the run did not end by itself")]
    NoTotals,
    /// The run is a share of another check, or its share was added before.
    #[error("expected {expected}, found shard {found}")]
    Shard {
        /// What fits.
        expected: String,
        /// The shard of the file.
        found: String,
    },
}

impl Merged {
    /// Adds the lines that one run printed. Where that fails, nothing is added.
    ///
    /// # Errors
    /// [`MergeError`] if they are not the lines of a whole run, or not those of another share of the same check.
    pub fn add(&mut self, lines: &str) -> Result<(), MergeError> {
        let mut failures = Vec::new();
        let mut totals = None;
        for (index, text) in lines.lines().enumerate() {
            let refused = |message: String| MergeError::Line {
                line: index + 1,
                message,
            };
            if totals.is_some() {
                return Err(refused("expected nothing after the totals".to_owned()));
            }
            match serde_json::from_str(text).map_err(|error| refused(error.to_string()))? {
                Line::Case(case) if case.is_failure() => failures.push(case.told().map_err(refused)?),
                Line::Case(_) => {}
                Line::Totals(found) => totals = Some(found),
            }
        }
        let totals = totals.ok_or(MergeError::NoTotals)?;
        self.add_shard(&totals.shard)?;
        for told in failures {
            let kind = (told.engine.clone(), told.kind.clone());
            let before = self.failures.get(&kind);
            // The one that was made small says more.
            if before.is_none_or(|before| before.shrunk.is_none() && told.shrunk.is_some()) {
                self.failures.insert(kind, told);
            }
        }
        self.add_totals(*totals);
        Ok(())
    }

    fn add_shard(&mut self, text: &str) -> Result<(), MergeError> {
        let refused = |expected: String| MergeError::Shard {
            expected,
            found: text.to_owned(),
        };
        let shard: Shard = text.parse().map_err(|_| refused("I/N with I from 1 to N".to_owned()))?;
        let count = *self.shard_count.get_or_insert(shard.count());
        if shard.count() != count {
            return Err(refused(format!("a shard of {count}")));
        }
        // Whole checks of other seeds can be added in any number.
        if !self.shards.insert(shard.number()) && count > 1 {
            return Err(refused("each shard once".to_owned()));
        }
        Ok(())
    }

    fn add_totals(&mut self, totals: TotalsLine) {
        let summary = &mut self.summary;
        for found in totals.totals {
            let engine = position(&mut summary.engines, &found.engine);
            found.add_to(&mut summary.engines[engine]);
        }
        for found in totals.kinds {
            let engine = position(&mut summary.engines, &found.engine);
            summary.add_kind(engine, &clean(&found.text, MAX_TEXT), found.cases, &found.first);
        }
        for found in totals.beyond {
            let engine = position(&mut summary.engines, &found.engine);
            let beyond = summary.beyond_totals(engine, &clean(&found.limit, MAX_TEXT));
            beyond.right += found.right;
            beyond.declined += found.declined;
            beyond.wrong += found.wrong;
            beyond.unanswered += found.unanswered;
        }
        if summary.coverage.is_empty() {
            summary.coverage = Coverage::none();
        }
        for (name, count) in &mut summary.coverage {
            *count += totals.coverage.get(*name).unwrap_or(&0);
        }
        summary.domain = totals.domain;
        summary.ruled_out = totals.ruled_out.iter().filter_map(|name| name.parse().ok()).collect();
        summary.is_strict |= totals.strict;
        // Each run was asked for so many.
        if let Some(least) = totals.at_least {
            summary.at_least = Some(summary.at_least.unwrap_or(0).saturating_add(least));
        }
        summary.cases += totals.cases;
        summary.planned += totals.planned;
        summary.generating += seconds(totals.seconds.generate);
        summary.oracle += seconds(totals.seconds.oracle);
        summary.comparing += seconds(totals.seconds.compare);
        summary.elapsed = summary.elapsed.max(seconds(totals.seconds.elapsed));
        let end = match totals.end {
            EndLine::Complete => End::Complete,
            EndLine::Stopped => End::Stopped,
            EndLine::GivenUp => End::GivenUp,
            EndLine::Interrupted => End::Interrupted,
            EndLine::Machine => End::Machine(MachineError::Reported {
                message: totals.error.unwrap_or_default(),
            }),
        };
        if severity(&end) > severity(&summary.end) {
            summary.end = end;
        }
    }

    /// The totals of all runs.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The shares of the check that are not there, as `I/N`.
    pub fn missing(&self) -> Vec<String> {
        let count = self.shard_count.unwrap_or(1);
        (1..=count)
            .filter(|number| !self.shards.contains(number))
            .map(|number| format!("{number}/{count}"))
            .collect()
    }

    /// A failure of each engine and kind in full, one that was made small where there is one.
    pub fn failures(&self) -> impl Iterator<Item = &Told> {
        self.failures.values()
    }
}

/// The position of an engine, which is added where it is new.
fn position(engines: &mut Vec<EngineTotals>, name: &str) -> usize {
    let found = engines.iter().position(|engine| engine.name == name);
    found.unwrap_or_else(|| {
        engines.push(EngineTotals {
            name: name.to_owned(),
            ..EngineTotals::default()
        });
        engines.len() - 1
    })
}

/// Which end of several is that of all.
fn severity(end: &End) -> u8 {
    match end {
        End::Complete => 0,
        End::Stopped => 1,
        End::GivenUp => 2,
        End::Interrupted => 3,
        End::Machine(_) => 4,
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Line {
    Case(Box<CaseLine>),
    Totals(Box<TotalsLine>),
}

#[derive(Deserialize)]
struct CaseLine {
    case: String,
    engine: String,
    beyond: Option<String>,
    verdict: String,
    kind: Option<String>,
    sampled: Option<SampledLine>,
    detail: Option<String>,
    spec: Option<Value>,
    repeats: Option<RepeatsLine>,
    shrunk: Option<ShrunkLine>,
}

impl CaseLine {
    fn is_failure(&self) -> bool {
        self.beyond.is_none() && !matches!(self.verdict.as_str(), "agree" | "declined" | "skip" | "not-judged")
    }

    fn told(self) -> Result<Told, String> {
        let shrunk = |shrunk: ShrunkLine| {
            Ok::<_, String>(ToldShrunk {
                spec: spec(shrunk.spec)?,
                text: text(shrunk.detail),
                tries: shrunk.tries,
                is_smallest: shrunk.is_smallest,
            })
        };
        Ok(Told {
            engine: self.engine,
            case: self.case,
            spec: self.spec.map(spec).transpose()?,
            text: text(self.detail),
            sampled: self.sampled.map(SampledLine::sampled),
            kind: self.kind.unwrap_or(self.verdict),
            repeats: self
                .repeats
                .map(|RepeatsLine { runs, failures }| Repeats { runs, failures }),
            shrunk: self.shrunk.map(shrunk).transpose()?,
        })
    }
}

fn text(detail: Option<String>) -> String {
    clean(&detail.unwrap_or_default(), MAX_TEXT)
}

/// A case of a line; numbers that JSON does not have are text there.
fn spec(mut value: Value) -> Result<CaseSpec, String> {
    let mut parameters = [None, None];
    for (name, parameter) in ["alpha", "limit"].into_iter().zip(&mut parameters) {
        if let Some(text) = value.get(name).and_then(Value::as_str) {
            let number: f64 = text
                .parse()
                .map_err(|_| format!("{name}: expected a number, found {text:?}"))?;
            *parameter = Some(number);
            value[name] = 0.into();
        }
    }
    let spec: CaseSpec = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let [alpha, limit] = parameters;
    Ok(CaseSpec {
        alpha: alpha.unwrap_or(spec.alpha),
        limit: limit.unwrap_or(spec.limit),
        ..spec
    })
}

#[derive(Deserialize)]
struct RepeatsLine {
    runs: usize,
    failures: usize,
}

#[derive(Deserialize)]
struct ShrunkLine {
    spec: Value,
    detail: Option<String>,
    tries: usize,
    is_smallest: bool,
}

#[derive(Deserialize)]
struct TotalsLine {
    shard: String,
    cases: usize,
    planned: usize,
    #[serde(default)]
    domain: Domain,
    #[serde(default)]
    ruled_out: Vec<String>,
    at_least: Option<usize>,
    #[serde(default)]
    strict: bool,
    end: EndLine,
    error: Option<String>,
    totals: Vec<EngineLine>,
    kinds: Vec<KindLine>,
    #[serde(default)]
    beyond: Vec<BeyondLine>,
    coverage: BTreeMap<String, usize>,
    seconds: SecondsLine,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum EndLine {
    Complete,
    Stopped,
    GivenUp,
    Interrupted,
    Machine,
}

#[derive(Deserialize)]
struct KindLine {
    engine: String,
    text: String,
    cases: usize,
    first: String,
}

#[derive(Deserialize)]
struct BeyondLine {
    engine: String,
    limit: String,
    right: usize,
    declined: usize,
    wrong: usize,
    unanswered: usize,
}

#[derive(Deserialize)]
struct SecondsLine {
    generate: f64,
    oracle: f64,
    compare: f64,
    elapsed: f64,
}
