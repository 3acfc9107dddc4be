//! What was found as TOML, each line with its evidence.

use std::fmt;

use super::Found;

/// Fields that are no limits but claims.
const CLAIMS: [&str; 2] = ["deterministic", "batch_invariant"];

impl fmt::Display for Found {
    /// A domain file. A field without a limit is a comment.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = toml::Table::try_from(&self.domain).map_err(|_| fmt::Error)?;
        let of = |field: &str| self.evidence.iter().find(|(known, _)| *known == field);
        let comment = |field: &str| of(field).map_or_else(String::new, |(_, tally)| format!("  # {tally}"));
        for (field, value) in &table {
            writeln!(f, "{field} = {value}{}", comment(field))?;
        }
        for (field, tally) in self.evidence.iter().filter(|(field, _)| !table.contains_key(*field)) {
            let said = if CLAIMS.contains(field) {
                "not claimed"
            } else {
                "no limit found"
            };
            writeln!(f, "# {field}: {said}  # {tally}")?;
        }
        writeln!(f, "# drawn inside: {}", self.inside)
    }
}
