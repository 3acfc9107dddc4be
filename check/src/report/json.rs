//! Results as lines of JSON, by `docs/report.schema.json`.

use serde_json::{Map, Value, json};

use super::verdict_text;
use crate::case::CaseSpec;
use crate::case::stage::Location;
use crate::check::{CaseResult, End, EngineTotals, Measured, Summary};
use crate::judge::{Mismatch, Sampled, Shrunk, Verdict};
use crate::oracle::Precision;
use crate::oracle::sums::{Direction, Sums};

/// The version of the lines. It grows where a field changes its meaning or goes; new fields keep it.
const VERSION: u32 = 1;

/// One case and engine as a line of JSON.
pub fn case_json(engine: &str, result: &CaseResult) -> String {
    let (used, undecided) = match result.verdict {
        Verdict::Agree { used, undecided } => (Some(used), Some(undecided)),
        _ => (None, None),
    };
    let (stage, mismatch) = match &result.verdict {
        Verdict::Disagree(mismatch) => (Some(mismatch.stage().to_string()), Some(mismatch_json(mismatch))),
        _ => (None, None),
    };
    let golden = result.golden.as_ref();
    json!({
        "version": VERSION,
        "type": "case",
        "case": result.case,
        "engine": engine,
        "beyond": result.beyond.map(|limit| limit.to_string()),
        "verdict": result.verdict.kind(),
        "kind": result.verdict.is_failure().then(|| result.verdict.likeness()),
        "sampled": result.sampled.map(sampled_json),
        "used": used,
        "undecided": undecided,
        "stage": stage,
        "detail": detail(&result.verdict),
        "mismatch": mismatch,
        "spec": result.spec.as_ref().map(spec_json),
        "golden": golden.map(|golden| json!({ "path": golden.path.to_string_lossy(), "order": golden.order })),
        "repeats": result.repeats.map(|repeats| json!({ "runs": repeats.runs, "failures": repeats.failures })),
        "shrunk": result.shrunk.as_ref().map(shrunk_json),
    })
    .to_string()
}

/// The totals as a line of JSON.
pub fn totals_json(summary: &Summary) -> String {
    let coverage: Map<String, Value> = summary
        .coverage
        .iter()
        .map(|(name, count)| ((*name).to_owned(), json!(count)))
        .collect();
    let error = match &summary.end {
        End::Machine(error) => Some(error.to_string()),
        _ => None,
    };
    let kinds = summary.kinds.iter().map(|kind| {
        json!({
            "engine": summary.engines[kind.engine].name,
            "text": kind.text,
            "cases": kind.cases,
            "first": kind.first,
        })
    });
    let beyond = summary.beyond.iter().map(|beyond| {
        json!({
            "engine": summary.engines[beyond.engine].name,
            "limit": beyond.limit,
            "right": beyond.right,
            "declined": beyond.declined,
            "wrong": beyond.wrong,
            "unanswered": beyond.unanswered,
        })
    });
    json!({
        "version": VERSION,
        "type": "totals",
        "shard": summary.shard.to_string(),
        "cases": summary.cases,
        "planned": summary.planned,
        "domain": summary.domain,
        "ruled_out": summary.ruled_out.iter().map(|profile| profile.name()).collect::<Vec<_>>(),
        "at_least": summary.at_least,
        "strict": summary.is_strict,
        "end": end(&summary.end),
        "error": error,
        "totals": summary.engines.iter().map(engine_json).collect::<Vec<_>>(),
        "kinds": kinds.collect::<Vec<_>>(),
        "beyond": beyond.collect::<Vec<_>>(),
        "agrees": summary.agrees(),
        "coverage": coverage,
        "seconds": {
            "generate": summary.generating.as_secs_f64(),
            "oracle": summary.oracle.as_secs_f64(),
            "compare": summary.comparing.as_secs_f64(),
            "elapsed": summary.elapsed.as_secs_f64(),
        },
    })
    .to_string()
}

fn engine_json(totals: &EngineTotals) -> Value {
    let skips = totals
        .skips
        .iter()
        .map(|(reason, count)| json!({ "reason": reason, "cases": count }));
    let declines = totals
        .declined
        .iter()
        .map(|declined| json!({ "reason": declined.reason, "cases": declined.cases, "first": declined.first }));
    let within = totals
        .within
        .iter()
        .map(|(precision, cases)| json!({ "precision": precision, "cases": cases }));
    json!({
        "engine": totals.name,
        "precision": totals.precisions,
        "agree": totals.agree,
        "disagree": totals.disagree,
        "within": within.collect::<Vec<_>>(),
        "fault": totals.fault,
        "declined": totals.declines(),
        "declines": declines.collect::<Vec<_>>(),
        "declined_inside": totals.declined_inside(),
        "skipped": totals.skipped(),
        "skips": skips.collect::<Vec<_>>(),
        "used": totals.used,
        "used_by": totals.used_by,
        "undecided": totals.undecided,
        "elements": totals.elements,
        "sampled_cases": totals.sampled_cases,
        "sampled": sampled_json(totals.sampled),
        "measured": totals.measured.iter().map(measured_json).collect::<Vec<_>>(),
        "sums": totals.sums.iter().map(sums_json).collect::<Vec<_>>(),
        "biased": totals.is_biased(),
        "seconds": totals.time.as_secs_f64(),
    })
}

fn sampled_json(Sampled { judged, tokens }: Sampled) -> Value {
    json!({ "judged": judged, "tokens": tokens })
}

fn measured_json(measured: &Measured) -> Value {
    let claims = |claims: &[(Precision, f64)]| -> Vec<Value> {
        let claim = |(precision, used): &(Precision, f64)| json!({ "precision": precision, "used": used });
        claims.iter().map(claim).collect()
    };
    json!({
        "element": measured.element,
        "cases": measured.cases,
        "sharpest": claims(&measured.sharpest()),
        "claims": claims(measured.claims()),
    })
}

fn sums_json(sums: &Sums) -> Value {
    let along = Direction::ALL.iter().zip(&sums.along).map(|(direction, sum)| {
        json!({
            "direction": direction,
            "cases": sum.cases,
            "numerator": sum.numerator,
            "denominator": sum.denominator,
            "squares": sum.squares,
            "middle": sum.middle,
            "shift": sum.shift,
        })
    });
    let estimates = sums.estimates().into_iter().map(|estimate| {
        json!({
            "direction": estimate.direction,
            "found": estimate.found,
            "error": estimate.error,
            "deviations": estimate.deviations,
            "biased": estimate.is_biased,
        })
    });
    json!({
        "precision": sums.precision,
        "cases": sums.cases,
        "elements": sums.elements,
        "mean_squares": sums.mean_squares,
        "share": sums.share(),
        "honest_share": sums.honest_share(),
        "along": along.collect::<Vec<_>>(),
        "estimates": estimates.collect::<Vec<_>>(),
        "biased": sums.is_biased(),
    })
}

fn end(end: &End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::GivenUp => "given-up",
        End::Stopped => "stopped",
        End::Interrupted => "interrupted",
        End::Machine(_) => "machine",
    }
}

/// What there is to say of a verdict other than agreement.
fn detail(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Agree { .. } => None,
        Verdict::Declined(reason) => Some(reason.clone()),
        Verdict::Skip(reason) => Some(reason.to_string()),
        Verdict::NotJudged(error) => Some(error.to_string()),
        Verdict::Disagree(_) | Verdict::Fault(_) => Some(verdict_text(verdict)),
    }
}

fn mismatch_json(mismatch: &Mismatch) -> Value {
    match mismatch {
        Mismatch::InWarmup { call, mismatch } => {
            let mut value = mismatch_json(mismatch);
            value["warmup_call"] = json!({ "number": call.number, "of": call.of });
            value
        }
        Mismatch::Kept { kept, call, mismatch } => {
            let mut value = mismatch_json(mismatch);
            value["kept"] = json!({ "what": kept, "number": call.number, "of": call.of });
            value
        }
        Mismatch::Shape { expected, found, .. } => json!({ "expected_shape": expected, "found_shape": found }),
        Mismatch::Type { expected, found, .. } => json!({ "expected_type": expected, "found_type": found }),
        Mismatch::Values {
            at,
            found,
            expected,
            bound,
            wrong,
            rows,
            total,
            worst,
            within,
            ..
        } => json!({
            "at": location_json(at),
            "found": number(*found),
            "expected": number(*expected),
            "bound": number(*bound),
            "wrong": wrong,
            "rows": rows,
            "total": total,
            "worst": number(*worst),
            "within": within,
        }),
        Mismatch::NotDeterministic {
            at,
            first,
            second,
            wrong,
            ..
        } => json!({
            "at": location_json(at),
            "first": number(*first),
            "second": number(*second),
            "wrong": wrong,
        }),
        Mismatch::NotBatchInvariant {
            at,
            here,
            place,
            there,
            wrong,
        } => json!({
            "at": location_json(at),
            "here": number(*here),
            "there": number(*there),
            "there_at": { "position": place.position, "tokens": place.tokens },
            "wrong": wrong,
        }),
    }
}

fn location_json(at: &Location) -> Map<String, Value> {
    at.parts()
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .collect()
}

fn shrunk_json(shrunk: &Shrunk) -> Value {
    json!({
        "spec": spec_json(&shrunk.spec),
        "verdict": shrunk.verdict.kind(),
        "detail": detail(&shrunk.verdict),
        "tries": shrunk.tries,
        "is_smallest": shrunk.is_smallest,
    })
}

fn spec_json(spec: &CaseSpec) -> Value {
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    for (name, parameter) in [("alpha", spec.alpha), ("limit", spec.limit)] {
        value[name] = number(parameter);
    }
    value
}

/// A number; as text where JSON has none.
fn number(value: f64) -> Value {
    match value {
        _ if value.is_finite() => json!(value),
        _ if value.is_nan() => json!("NaN"),
        _ if value > 0.0 => json!("inf"),
        _ => json!("-inf"),
    }
}
