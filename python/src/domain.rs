//! Which cases a function takes.

use binned_experts_check::domain::TieOrder;
use binned_experts_check::{Domain as Claims, Precision};
use binned_experts_reference::Activation;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The cases that a function takes, and what it claims of its results.
#[pyclass(frozen, module = "binned_experts._native")]
#[derive(Clone)]
pub(crate) struct Domain(pub(crate) Claims);

#[pymethods]
impl Domain {
    /// Reads JSON.
    #[staticmethod]
    fn from_json(text: &str) -> PyResult<Domain> {
        Claims::from_json(text).map(Domain).map_err(refused)
    }

    /// Reads TOML.
    #[staticmethod]
    fn from_toml(text: &str) -> PyResult<Domain> {
        text.parse().map(Domain).map_err(refused)
    }

    /// This domain for a function of a precision with these parameters: what it has no parameter for cannot be asked of
    /// it, unless the domain says what it does.
    fn of_function(&self, precision: &str, parameters: Vec<String>) -> PyResult<Domain> {
        let precision: Precision = precision
            .parse()
            .map_err(|error| PyValueError::new_err(format!("precision: {error}")))?;
        let takes = |name: &str| parameters.iter().any(|parameter| parameter == name);
        let Claims {
            alpha,
            limit,
            drops,
            tie_order,
            ..
        } = self.0.clone();
        let takes_order = takes("sorted_indices");
        if tie_order == Some(TieOrder::Given) && !takes_order {
            let message = "tie_order \"given\": expected a function with a parameter sorted_indices, found none";
            return Err(PyValueError::new_err(message));
        }
        let usual = if takes_order { TieOrder::Given } else { TieOrder::Stable };
        let claims = Claims {
            alpha: alpha.or((!takes("alpha")).then(|| vec![Activation::GPT_OSS.alpha])),
            limit: limit.or((!takes("limit")).then(|| vec![Activation::GPT_OSS.limit])),
            drops: drops.or((!takes("expert_capacity")).then_some(false)),
            tie_order: Some(tie_order.unwrap_or(usual)),
            ..Claims::of(precision).meet(&self.0)
        };
        claims.check().map_err(refused)?;
        Ok(Domain(claims))
    }

    /// As JSON.
    fn to_json(&self) -> PyResult<String> {
        serde_json::to_string(&self.0).map_err(refused)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }
}

/// An error of bad input.
pub(crate) fn refused(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}
