//! Files and lines that strangers write.

use std::path::Path;
use std::sync::LazyLock;

use binned_experts_check::case::file::parse_case;
use binned_experts_check::engine::program::{Answer, parse_outcome};
use binned_experts_check::judge::{Trial, compare};
use binned_experts_check::report::Merged;
use binned_experts_check::{CaseSpec, Domain, Precision, Selection};

/// The case that results are read for: T=3, H=4, I=2, E=2, K=1, C=1.
const CASE: &str = r#"
element = "f32"
batch = 1
sequence = 3
hidden = 4
intermediate = 2
experts = 2
top_k = 1
capacity = 1
alpha = 1.702
limit = 7.0
seed = 1
routing = [[1], [0], [1]]
values = "gentle"
weights = "normalised"
"#;

static TRIAL: LazyLock<Trial> = LazyLock::new(|| {
    let spec: CaseSpec = CASE.parse().expect("a case");
    Trial::from_spec(&spec, &[Precision::FP32]).expect("a case that can be built")
});

/// Bytes as a case, a result, a spec, lines of results, a program's answer and a domain: whatever they are, reading them
/// gives a value or an error.
///
/// Returns what they were taken for.
///
/// # Panics
/// If a value that was read does not read back the same, or a case is drawn outside of a domain.
pub fn case_file(bytes: &[u8]) -> Vec<&'static str> {
    let kinds = [
        ("case", is_case(bytes)),
        ("result", is_result(bytes)),
        ("spec", is_spec(bytes)),
        ("lines", are_lines(bytes)),
        ("answer", is_answer(bytes)),
        ("domain", is_domain(bytes)),
    ];
    kinds
        .iter()
        .filter(|(_, is_taken)| *is_taken)
        .map(|(name, _)| *name)
        .collect()
}

fn is_case(bytes: &[u8]) -> bool {
    let Ok(file) = parse_case(Path::new("fuzzed"), bytes) else {
        return false;
    };
    let shape = file.problem.output_shape();
    assert_eq!(file.problem.dims().tokens, shape[..2].iter().product::<usize>());
    true
}

fn is_result(bytes: &[u8]) -> bool {
    let Ok(outcome) = parse_outcome(Path::new("fuzzed"), bytes, TRIAL.problem()) else {
        return false;
    };
    let bounds = TRIAL.bounds(Precision::FP32).expect("prepared for it");
    compare(TRIAL.expected(), bounds, &outcome);
    true
}

fn is_spec(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    let Some(spec) = text.and_then(|text| text.parse::<CaseSpec>().ok()) else {
        return false;
    };
    let again = spec.to_string().parse::<CaseSpec>();
    // NaN parameters are not equal to themselves, so texts are compared.
    assert_eq!(again.map(|again| again.to_string()), Ok(spec.to_string()));
    true
}

fn are_lines(bytes: &[u8]) -> bool {
    let mut merged = Merged::default();
    let added = std::str::from_utf8(bytes).is_ok_and(|text| merged.add(text).is_ok());
    if added {
        assert!(!merged.summary().to_string().is_empty());
    }
    added
}

fn is_answer(bytes: &[u8]) -> bool {
    let Some(answer) = Answer::parse(bytes) else {
        return false;
    };
    assert_eq!(Answer::parse(answer.to_string().as_bytes()), Some(answer));
    true
}

fn is_domain(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    let domain = text.and_then(|text| text.parse::<Domain>().ok());
    // Text without a field is one too.
    let Some(domain) = domain.filter(|domain| *domain != Domain::default()) else {
        return false;
    };
    let selection = Selection {
        domain,
        ..Selection::small()
    };
    for seed in 0..2 {
        let spec = CaseSpec::from_seed(seed, &selection);
        if let Err(outside) = selection.domain.admits(&spec) {
            panic!("{outside}: {}\n{spec}", selection.domain);
        }
    }
    true
}
