//! Results as JUnit XML, which CI systems show.

use std::path::Path;

use binned_experts_check::check::{CaseResult, EngineTotals, Summary};
use binned_experts_check::{Verdict, report};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::Failure;

/// What is to be said of an engine, if it is.
type Told = fn(&Summary, &EngineTotals) -> Option<String>;

/// The results so far: a suite for each engine, a test for each case.
pub(super) struct Junit {
    suites: Vec<TestSuite>,
}

impl Junit {
    pub(super) fn new(engines: &[String]) -> Junit {
        Junit {
            suites: engines.iter().map(|name| TestSuite::new(name.as_str())).collect(),
        }
    }

    pub(super) fn add(&mut self, result: &CaseResult) {
        let non_success = |kind| {
            let mut status = TestCaseStatus::non_success(kind);
            status.set_type(result.verdict.kind());
            status
        };
        let mut status = match &result.verdict {
            Verdict::Agree { .. } => TestCaseStatus::success(),
            Verdict::Disagree(_) => non_success(NonSuccessKind::Failure),
            Verdict::Fault(_) | Verdict::NotJudged(_) => non_success(NonSuccessKind::Error),
            Verdict::Declined(_) | Verdict::Skip(_) => TestCaseStatus::skipped(),
        };
        if !matches!(result.verdict, Verdict::Agree { .. }) {
            let text = report::verdict_text(&result.verdict);
            status.set_message(text.lines().next().unwrap_or_default());
            let smallest = result.shrunk.as_ref().map(|shrunk| format!("\n\n{}", shrunk.spec));
            let spec = result.spec.as_ref().map(|spec| format!("\n\n{spec}"));
            status.set_description(text + &smallest.or(spec).unwrap_or_default());
        }
        self.suites[result.engine].add_test_case(TestCase::new(result.case.as_str(), status));
    }

    /// What shows in no case alone: a test more for each engine that is biased, or was compared on too few cases.
    pub(super) fn conclude(&mut self, summary: &Summary) {
        let unlike = [
            (NonSuccessKind::Failure, "biased", report::biased as Told),
            (NonSuccessKind::Error, "inconclusive", report::too_few),
        ];
        for (suite, totals) in self.suites.iter_mut().zip(&summary.engines) {
            for (kind, name, told) in unlike {
                if let Some(text) = told(summary, totals) {
                    let mut status = TestCaseStatus::non_success(kind);
                    status.set_type(name).set_message(text);
                    suite.add_test_case(TestCase::new("all cases", status));
                }
            }
        }
    }

    pub(super) fn write(self, path: &Path) -> Result<(), Failure> {
        let mut report = Report::new("binned-experts");
        report.add_test_suites(self.suites);
        let text = report.to_string()?;
        std::fs::write(path, text)
            .map_err(|error| format!("--junit: could not write {}: {error}", path.display()).into())
    }
}
