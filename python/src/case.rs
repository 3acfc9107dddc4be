//! One case as a value.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use binned_experts_check::domain::Taken;
use binned_experts_check::engine::{Rule, program};
use binned_experts_check::judge::{Trial, judge};
use binned_experts_check::{
    AnyProblem, CaseSpec, Domain as Claims, Engine, Fault, Named, Outcome, Precision, Selection, SpecError, Tensor,
    Verdict as Judged,
};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::domain::{Domain, refused};
use crate::notebook::Errors;
use crate::raw::{Arguments, raws, tensors};
use crate::verdict::Verdict;

/// The case that was judged last, with its right results and their bounds: a test asks for them several times, and a
/// list of many cases must not keep them all.
static LAST: Mutex<Option<(CaseSpec, Precision, Arc<Trial>)>> = Mutex::new(None);

/// A case, and the precision that results are judged by.
#[pyclass(frozen, module = "binned_experts._native")]
#[derive(Clone)]
pub(crate) struct Case {
    spec: CaseSpec,
    precision: Precision,
    /// The seed that it is drawn from, where that and the precision are all that make it.
    seed: Option<u64>,
    /// `seed N`, where it comes from one.
    name: String,
    /// The arguments of `case` that name its arrays, such as `, arrays="numpy"`.
    arrays: String,
}

impl Case {
    pub(crate) fn new(spec: CaseSpec, precision: Precision, seed: Option<u64>, name: String, arrays: String) -> Case {
        Case {
            spec,
            precision,
            seed,
            name,
            arrays,
        }
    }

    /// The verdict on a result: tensors by name.
    fn judged(&self, tensors: BTreeMap<String, Tensor>, trial: &Trial) -> Verdict {
        let output = tensors.get("output").cloned();
        let outcome = program::outcome(tensors, &[], trial.problem());
        let verdict = judge(&mut Given(outcome, self.precision), trial).verdict;
        let is_wrong = matches!(verdict, Judged::Disagree(_));
        let wrong = output.filter(|_| is_wrong);
        let errors = wrong.and_then(|output| Errors::of(&output, &trial.right_output(self.precision)?));
        Verdict::new(verdict, self.line()).with_errors(errors)
    }

    /// The case with its right results and their bounds.
    fn trial(&self) -> Result<Arc<Trial>, SpecError> {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((spec, precision, trial)) = &*last
            && (spec, precision) == (&self.spec, &self.precision)
        {
            return Ok(trial.clone());
        }
        let trial = Trial::from_problem(self.spec.build()?, &[self.precision]).explained();
        let trial = Arc::new(trial);
        *last = Some((self.spec.clone(), self.precision, trial.clone()));
        Ok(trial)
    }
}

#[pymethods]
impl Case {
    /// The case as text.
    #[getter]
    fn spec(&self) -> String {
        self.spec.to_string()
    }

    /// Name and sizes as one word.
    #[getter]
    fn id(&self) -> String {
        let CaseSpec {
            hidden,
            intermediate,
            experts,
            top_k,
            capacity,
            element,
            ..
        } = &self.spec;
        let (name, tokens) = (self.name.replace(' ', ""), self.spec.tokens());
        let sizes = format!("{element}-T{tokens}-H{hidden}-I{intermediate}-E{experts}-K{top_k}-C{capacity}");
        if name.is_empty() {
            sizes
        } else {
            format!("{name}-{sizes}")
        }
    }

    /// The precision that results are judged by.
    #[getter]
    fn precision(&self) -> String {
        self.precision.to_string()
    }

    /// The element type: `f32`, `f64`, `bf16` or `f16`.
    #[getter]
    fn element(&self) -> &'static str {
        self.spec.element.name()
    }

    /// The line of Python that makes the case again.
    #[getter]
    pub(crate) fn line(&self) -> String {
        let made_of = match self.seed {
            Some(seed) => format!("seed={seed}"),
            // Rust and Python escape the characters of a case alike: all are ASCII.
            None => format!("{:?}", self.spec.to_string()),
        };
        let Case { precision, arrays, .. } = self;
        format!("binned_experts.case({made_of}, precision=\"{precision}\"{arrays})")
    }

    /// Tensors and numbers by name.
    fn arguments<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let problem = py.detach(|| self.spec.build()).map_err(refused)?;
        Arguments::new(&problem).to_python(py)
    }

    /// The right output as f64, and under `bound` how far a right one may be from it.
    fn right<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let trial = py.detach(|| self.trial()).map_err(refused)?;
        let right = trial.right_output(self.precision);
        let named = right.map(|(output, bound)| [("output".to_owned(), output), ("bound".to_owned(), bound)]);
        raws(py, &named.into_iter().flatten().collect())
    }

    /// Judges a result: tensors by name.
    fn judge(&self, py: Python<'_>, result: &Bound<'_, PyDict>) -> PyResult<Verdict> {
        let trial = py.detach(|| self.trial()).map_err(refused)?;
        let verdict = match tensors(result)? {
            Err(message) => Verdict::new(Verdict::broken(Rule::WrongType, message), self.line()),
            Ok(tensors) => py.detach(|| self.judged(tensors, &trial)),
        };
        Ok(verdict)
    }

    /// The verdict on a result that broke a rule.
    fn broken(&self, rule: &str, message: String) -> PyResult<Verdict> {
        let rule = rule.parse().map_err(refused)?;
        Ok(Verdict::new(Verdict::broken(rule, message), self.line()))
    }

    fn __str__(&self) -> String {
        self.id()
    }

    fn __repr__(&self) -> String {
        self.line()
    }
}

/// A result that is there already, as an engine.
struct Given(Result<Outcome, Fault>, Precision);

impl Engine for Given {
    fn name(&self) -> &str {
        "given"
    }

    fn domain(&self) -> Claims {
        Claims {
            precision: Some(vec![self.1]),
            layers: Some(Taken::Any),
            foreign: Some(Taken::Any),
            views: Some(Taken::Any),
            ..Claims::default()
        }
    }

    fn forward(&mut self, _problem: &AnyProblem) -> Result<Outcome, Fault> {
        self.0.clone()
    }
}

/// The case of a seed number inside a domain.
#[pyfunction]
pub(crate) fn case_of_seed(seed: u64, precision: &str, domain: &Domain, arrays: String) -> PyResult<Case> {
    let precision: Precision = precision.parse().map_err(refused)?;
    let claims = Claims {
        precision: None,
        ..domain.0.clone()
    };
    let is_any = claims.conditions().is_empty();
    let selection = Selection {
        elements: vec![precision.element()],
        domain: Claims {
            tie_order: claims.tie_order.or(Claims::in_stable_order().tie_order),
            ..claims
        },
        ..Selection::default()
    };
    let spec = CaseSpec::from_seed(seed, &selection);
    let name = format!("seed {seed}");
    Ok(Case::new(spec, precision, is_any.then_some(seed), name, arrays))
}

/// A case as text.
#[pyfunction]
#[pyo3(signature = (text, precision, arrays))]
pub(crate) fn case_of_text(text: &str, precision: Option<&str>, arrays: String) -> PyResult<Case> {
    let spec: CaseSpec = text.parse().map_err(refused)?;
    let precision = match precision {
        Some(precision) => precision.parse().map_err(refused)?,
        None => Precision::of(spec.element),
    };
    if precision.element() != spec.element {
        let (expected, found) = (precision.element(), spec.element);
        return Err(refused(format!(
            "precision: {precision} needs a case of {expected}, found one of {found}"
        )));
    }
    Ok(Case::new(spec, precision, None, String::new(), arrays))
}
