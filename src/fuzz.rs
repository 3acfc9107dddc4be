//! What the fuzz targets run, as ordinary functions: a target hands over its bytes, and a panic is a finding.

use std::path::Path;

use crate::case::{CaseSpec, parse_case};
use crate::engine::Reference;
use crate::generate::Selection;
use crate::judge::judge_spec;
use crate::report::verdict_text;

/// Bytes as a generated case: the reference must agree with the definition at every stage.
///
/// # Panics
/// If it does not; the message is the verdict and the case as text.
pub fn routing(bytes: &[u8]) {
    let spec = CaseSpec::from_bytes(bytes, &Selection::small());
    let verdict = judge_spec(&mut Reference, &spec).expect("the generator makes cases that can be built");
    assert!(!verdict.is_failure(), "{}\n\n{spec}", verdict_text(&verdict));
}

/// Bytes as a file: whatever they are, reading them gives a case or an error, and a case reads back the same.
///
/// # Panics
/// If a case that was read does not print, parse or build the same again.
pub fn case_file(bytes: &[u8]) {
    if let Ok(file) = parse_case(Path::new("fuzzed"), bytes) {
        assert_eq!(
            file.problem.dims().tokens,
            file.problem.output_shape()[..2].iter().product::<usize>()
        );
    }
    let spec = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<CaseSpec>().ok());
    if let Some(spec) = spec {
        let again = spec.to_string().parse::<CaseSpec>();
        // NaN parameters are not equal to themselves, so texts are compared.
        assert_eq!(again.map(|again| again.to_string()), Ok(spec.to_string()));
    }
}
