//! Engines by name.

use std::time::Duration;

use binned_experts::engine::{BUILT_IN, Command, Engine, available, built_in};

use super::{Engines, Failure, print};

impl Engines {
    /// The engines named; without a name, the program alone, or else every built-in engine that can be checked.
    pub(super) fn open(&self) -> Result<Vec<Box<dyn Engine>>, Failure> {
        let mut engines = Vec::new();
        for name in &self.engine {
            engines.push(built_in(name).ok_or_else(|| unknown(name))??);
        }
        if let (Some(command), Some(precision)) = (&self.command, self.precision) {
            let time_limit = Duration::from_secs_f64(self.time_limit);
            engines.push(Box::new(Command::new(command, precision.into(), time_limit)?));
        }
        if engines.is_empty() {
            engines = available();
        }
        Ok(engines)
    }

    /// The same choice as arguments of a command line.
    pub(super) fn arguments(&self) -> String {
        let engines = self.engine.iter().map(|name| format!(" --engine {name}"));
        let command = self
            .command
            .iter()
            .map(|command| format!(" --command {}", quoted(command)));
        let precision = self
            .precision
            .iter()
            .map(|precision| format!(" --precision {}", binned_experts::Class::from(*precision)));
        engines.chain(command).chain(precision).collect()
    }
}

/// Prints every engine and what it is.
pub(super) fn list() -> Result<(), Failure> {
    for (name, what) in BUILT_IN {
        print(match built_in(name) {
            Some(Err(error)) => format!("{name:<18} not available  {what}: {error}"),
            _ => format!("{name:<18} available      {what}"),
        })?;
    }
    print(format!(
        "{:<18} with --command  a program that speaks lines of JSON",
        "command"
    ))?;
    Ok(())
}

pub(super) fn unknown(name: &str) -> Failure {
    let names: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!("--engine: expected one of {}; found {name}", names.join(", ")).into()
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |word| word.into_owned())
}
