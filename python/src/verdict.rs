//! The verdict on one result.

use binned_experts_check::engine::Rule;
use binned_experts_check::{Fault, Verdict as Judged, report};
use pyo3::exceptions::PyAssertionError;
use pyo3::prelude::*;

use crate::notebook::{Errors, preformatted};

/// The verdict on one result.
#[pyclass(frozen, module = "binned_experts._native")]
#[derive(Clone)]
pub(crate) struct Verdict {
    verdict: Judged,
    /// The line of Python that makes the case again; none for a case of a file.
    line: String,
    /// Where the values are known and wrong.
    errors: Option<Errors>,
}

impl Verdict {
    pub(crate) fn new(verdict: Judged, line: String) -> Verdict {
        Verdict {
            verdict,
            line,
            errors: None,
        }
    }

    /// With the errors of wrong values, for a picture.
    pub(crate) fn with_errors(self, errors: Option<Errors>) -> Verdict {
        Verdict { errors, ..self }
    }

    /// What a judge makes of a result that broke a rule.
    pub(crate) fn broken(rule: Rule, message: String) -> Judged {
        Judged::Fault(Fault::Broken { rule, message })
    }
}

#[pymethods]
impl Verdict {
    /// Whether the result is right.
    #[getter]
    fn agrees(&self) -> bool {
        matches!(self.verdict, Judged::Agree { .. })
    }

    /// A short name, such as `agree`, `disagree`, `wrong-shape`.
    #[getter]
    fn kind(&self) -> &'static str {
        self.verdict.kind()
    }

    /// The largest share of a bound that was used, 0 to 1; `None` where the result is not right.
    #[getter]
    fn used(&self) -> Option<f64> {
        match self.verdict {
            Judged::Agree { used, .. } => Some(used),
            _ => None,
        }
    }

    fn __bool__(&self) -> bool {
        self.agrees()
    }

    fn __str__(&self) -> String {
        let text = report::verdict_text(&self.verdict);
        if self.agrees() {
            text
        } else {
            format!("{text}\n{}", self.line)
        }
    }

    fn __repr__(&self) -> String {
        format!("<Verdict {}>", self.kind())
    }

    /// The text, and where the values of a wrong output are known a picture of them: tokens down, columns across.
    fn _repr_html_(&self) -> String {
        let picture = self.errors.as_ref().map(Errors::svg).unwrap_or_default();
        preformatted(&self.__str__()) + &picture
    }

    /// Raises `AssertionError` with the text of the verdict, and the line of Python that makes its case again, unless the
    /// result is right.
    fn assert_agrees(&self) -> PyResult<()> {
        if self.agrees() {
            Ok(())
        } else {
            Err(PyAssertionError::new_err(self.__str__()))
        }
    }
}
