//! What is wrong with a domain.

/// Why a text is not a domain, or a domain makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DomainError {
    /// Not TOML or JSON, or not with these fields.
    #[error("domain: {message}")]
    Syntax {
        /// The parser's message, with line and column.
        message: String,
    },
    /// A field has no sense, or contradicts another.
    #[error("domain: {field}: expected {expected}, found {found}")]
    Field {
        /// The field.
        field: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl DomainError {
    pub(super) fn new(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> DomainError {
        DomainError::Field {
            field: field.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
