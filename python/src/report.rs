//! What a check found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use binned_experts_check::check::{CaseResult, End};
use binned_experts_check::{CaseSpec, Precision, Summary, report};
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use crate::case::Case;
use crate::domain::Domain;
use crate::notebook::{escaped, folded, table};
use crate::verdict::Verdict;
use crate::watched::Watched;

/// What a check found.
#[pyclass(frozen, module = "binned_experts._native")]
pub(crate) struct Report {
    summary: Summary,
    domain: Domain,
    verdicts: HashMap<String, &'static str>,
    failures: Vec<Failure>,
}

impl Report {
    /// Of a run inside a domain, with what was seen while it went on.
    pub(crate) fn new(summary: Summary, watched: &Watched, domain: &Domain, cases: &Cases) -> Report {
        let failure = |result: &CaseResult| {
            // A run tells of each failure before it is in the summary.
            let seconds = watched.seen.get(&result.case).copied().unwrap_or_default();
            Failure::new(&summary.engines[result.engine].name, result, seconds, cases)
        };
        Report {
            failures: summary.failures.iter().map(failure).collect(),
            verdicts: watched.verdicts.clone(),
            domain: domain.clone(),
            summary,
        }
    }
}

#[pymethods]
impl Report {
    /// Whether the run is complete, and the function was compared on enough cases, failed on none and is not biased.
    #[getter]
    fn agrees(&self) -> bool {
        self.summary.agrees()
    }

    /// Whether Ctrl-C ended the run.
    #[getter]
    fn interrupted(&self) -> bool {
        self.summary.end == End::Interrupted
    }

    /// Which cases were drawn, and what the function claims.
    #[getter]
    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    /// Number of cases that were run.
    #[getter]
    fn cases(&self) -> usize {
        self.summary.cases
    }

    /// Number of cases by verdict: `agree`, `disagree`, `fault`, `declined`, `skipped`.
    #[getter]
    fn counts(&self) -> BTreeMap<&'static str, usize> {
        let Some(totals) = self.summary.engines.first() else {
            return BTreeMap::new();
        };
        BTreeMap::from([
            ("agree", totals.agree),
            ("disagree", totals.disagree),
            ("fault", totals.fault),
            ("declined", totals.declines()),
            ("skipped", totals.skipped()),
        ])
    }

    /// The verdict on each case by the name of the case: `agree`, `disagree`, `declined` and others.
    #[getter]
    fn verdicts(&self) -> HashMap<&str, &'static str> {
        let verdicts = self.verdicts.iter();
        verdicts.map(|(name, kind)| (name.as_str(), *kind)).collect()
    }

    /// In how many cases each situation occurred.
    #[getter]
    fn coverage(&self) -> BTreeMap<&'static str, usize> {
        self.summary.coverage.iter().copied().collect()
    }

    /// Number of failing cases by what they have in common.
    #[getter]
    fn kinds(&self) -> BTreeMap<String, usize> {
        let kinds = self.summary.kinds.iter();
        kinds.map(|kind| (kind.text.clone(), kind.cases)).collect()
    }

    /// Number of declined cases by reason, with `#` for each number.
    #[getter]
    fn declined(&self) -> BTreeMap<String, usize> {
        let declined = self.summary.engines.iter().flat_map(|totals| &totals.declined);
        declined
            .map(|declined| (declined.reason.clone(), declined.cases))
            .collect()
    }

    /// The first failure of each kind.
    #[getter]
    fn failures(&self) -> Vec<Failure> {
        self.failures.clone()
    }

    /// Seconds of the median case and of the longest inside the function; `None` where no case was compared.
    #[getter]
    fn case_seconds(&self) -> Option<(f32, f32)> {
        self.summary.engines.first()?.median_and_worst()
    }

    fn __str__(&self) -> String {
        let failures: String = self.failures.iter().map(|failure| format!("{failure}\n")).collect();
        format!("{failures}{}", report::totals(&self.summary))
    }

    fn __repr__(&self) -> String {
        format!("<Report {}>", report::conclusion(&self.summary))
    }

    /// The counts as a table, the conclusion, and each failure under its kind.
    fn _repr_html_(&self) -> String {
        let counts = self.counts().into_iter().map(|(name, cases)| (name, cases.to_string()));
        let cells: Vec<_> = [("cases", self.cases().to_string())]
            .into_iter()
            .chain(counts)
            .collect();
        let failures: String = (self.failures.iter())
            .map(|failure| folded(&format!("{}: {}", failure.name, failure.kind), &failure.text))
            .collect();
        let conclusion = escaped(&report::conclusion(&self.summary));
        let totals = folded("all that was counted", &report::totals(&self.summary));
        format!("{}<p>{conclusion}</p>{failures}{totals}", table(&cells))
    }

    /// Raises `AssertionError` with the report unless it agrees.
    fn assert_agrees(&self) -> PyResult<()> {
        if self.agrees() {
            Ok(())
        } else {
            Err(PyAssertionError::new_err(self.__str__()))
        }
    }
}

/// How the cases of a check become values.
#[derive(Clone)]
pub(crate) struct Cases {
    /// What results are judged by.
    pub(crate) precision: Precision,
    /// The arguments of `case` that name the arrays.
    pub(crate) arrays: String,
    /// Makes the Python value of a case.
    pub(crate) wrap: Arc<Py<PyAny>>,
}

/// A failing case, the first of its kind.
#[pyclass(frozen, module = "binned_experts._native")]
#[derive(Clone)]
pub(crate) struct Failure {
    text: String,
    name: String,
    kind: &'static str,
    seconds: f64,
    case: Option<Case>,
    verdict: Verdict,
    shrunk: Option<Case>,
    wrap: Arc<Py<PyAny>>,
}

impl Failure {
    fn new(engine: &str, result: &CaseResult, seconds: f64, cases: &Cases) -> Failure {
        let (name, arrays) = (&result.case, &cases.arrays);
        let case = |spec: &CaseSpec| Case::new(spec.clone(), cases.precision, None, name.clone(), arrays.clone());
        let shrunk = result.shrunk.as_ref().map(|shrunk| case(&shrunk.spec));
        let original = result.spec.as_ref().map(case);
        let line = |case: &Option<Case>| case.as_ref().map(Case::line).unwrap_or_default();
        let lines = shrunk.as_ref().map_or_else(|| line(&original), Case::line);
        Failure {
            text: format!("{}{lines}\n", report::Told::new(engine, result)),
            name: result.case.clone(),
            kind: result.verdict.kind(),
            seconds,
            verdict: Verdict::new(result.verdict.clone(), line(&original)),
            case: original,
            shrunk,
            wrap: cases.wrap.clone(),
        }
    }

    fn wrapped(&self, py: Python<'_>, case: &Option<Case>) -> PyResult<Option<Py<PyAny>>> {
        case.clone().map(|case| self.wrap.call1(py, (case,))).transpose()
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

#[pymethods]
impl Failure {
    /// The name of the case, `seed N`.
    #[getter]
    fn name(&self) -> &str {
        &self.name
    }

    /// A short name of what failed, such as `disagree`, `wrong-shape`, `input-changed`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.kind
    }

    /// Seconds from the start of the run until it was seen.
    #[getter]
    fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The case as it was drawn.
    #[getter]
    fn case(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.wrapped(py, &self.case)
    }

    /// The verdict on it.
    #[getter]
    fn verdict(&self) -> Verdict {
        self.verdict.clone()
    }

    /// The smallest case that was found to fail in the same way.
    #[getter]
    fn shrunk(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.wrapped(py, &self.shrunk)
    }

    fn __str__(&self) -> &str {
        &self.text
    }

    fn __repr__(&self) -> String {
        format!("<Failure {} on {}>", self.kind, self.name)
    }
}
