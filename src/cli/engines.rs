//! Engines by name.

use std::path::Path;
use std::time::Duration;

use crate::engines::{BUILT_IN, BuiltIn, Checked, built_in};
use binned_experts_check::check::{AnyEngine, Contender, OpenEngine};
use binned_experts_check::domain::DomainError;
use binned_experts_check::engine::program::{Limits, Program};
use binned_experts_check::{Domain, ElementType, Precision, Stop};

use super::{Engines, Failure, note, print};

/// An engine, and what opens one more of it.
pub(super) struct Opened {
    pub(super) engine: AnyEngine,
    open: Box<OpenEngine<'static>>,
    /// How many compute side by side if nobody says it.
    jobs: usize,
}

impl Opened {
    /// The engine for a check, `jobs` of which compute side by side.
    pub(super) fn contender(self, jobs: Option<usize>) -> Contender<'static> {
        Contender::several(self.engine, self.open, jobs.unwrap_or(self.jobs))
    }
}

/// The engines that are used, and why others are not.
pub(super) struct Choice {
    pub(super) engines: Vec<Opened>,
    /// A line for each engine that nobody named and that cannot be had here.
    pub(super) unavailable: Vec<String>,
}

impl Engines {
    /// The engines named; without a name, the program alone, or else every built-in engine that can be checked.
    pub(super) fn open(&self, stop: &Stop) -> Result<Choice, Failure> {
        let mut engines = Vec::new();
        for name in &self.engine {
            engines.push(opened(named(name)?)?);
        }
        if let Some(command) = &self.command {
            let program = match self.precision {
                Some(precision) => Program::new(command, precision, self.limits())?,
                None => Program::described(command, self.limits(), stop)?,
            };
            let program = program.within(&self.domain()?)?.stopped_by(stop.clone());
            let another = program.opener();
            engines.push(Opened {
                open: Box::new(move || Ok(Box::new(another()?))),
                engine: Box::new(program),
                jobs: 1,
            });
        }
        let mut unavailable = Vec::new();
        if engines.is_empty() {
            for engine in BUILT_IN.iter().filter(|engine| engine.checked == Checked::Always) {
                match opened(engine) {
                    Ok(opened) => engines.push(opened),
                    Err(error) => unavailable.push(error.to_string()),
                }
            }
        }
        if let (None, Some(precision)) = (&self.command, self.precision) {
            expect_claim(&engines, precision)?;
        }
        Ok(Choice { engines, unavailable })
    }

    /// The domain of `--domain`; without it, any case.
    pub(super) fn domain(&self) -> Result<Domain, Failure> {
        domain_of(self.domain.as_deref())
    }

    fn limits(&self) -> Limits {
        Limits {
            start: Duration::from_secs_f64(self.start_limit),
            case: Duration::from_secs_f64(self.time_limit),
        }
    }

    /// The element types of a check's cases; none for all that the engines take.
    pub(super) fn elements(&self) -> Vec<ElementType> {
        let precision = self.precision.filter(|_| self.command.is_none());
        precision.iter().map(|precision| precision.element()).collect()
    }

    /// The same choice as arguments of a command line.
    pub(super) fn arguments(&self) -> String {
        let mut arguments: String = self.engine.iter().map(|name| format!(" --engine {name}")).collect();
        if let Some(path) = &self.domain {
            arguments += &format!(" --domain {}", quoted(&path.to_string_lossy()));
        }
        if let Some(command) = &self.command {
            arguments += &format!(" --command {}", quoted(command));
            if let Some(precision) = self.precision {
                arguments += &format!(" --precision {precision}");
            }
            let (own, default) = (self.limits(), Limits::default());
            if own.start != default.start {
                arguments += &format!(" --start-limit {}", self.start_limit);
            }
            if own.case != default.case {
                arguments += &format!(" --time-limit {}", self.time_limit);
            }
        }
        arguments
    }
}

/// The domain of a file; without one, any case.
pub(super) fn domain_of(path: Option<&Path>) -> Result<Domain, Failure> {
    let Some(path) = path else {
        return Ok(Domain::default());
    };
    let refused = |error: &dyn std::fmt::Display| format!("--domain: {}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| refused(&error))?;
    Ok(text.parse().map_err(|error: DomainError| refused(&error))?)
}

/// Whether each engine claims a precision on the element type of its cases.
fn expect_claim(engines: &[Opened], precision: Precision) -> Result<(), Failure> {
    let element = precision.element();
    for Opened { engine, .. } in engines {
        let found = engine.precision(element);
        if found != Some(precision) {
            let found = found.map_or("none".to_owned(), |found| found.to_string());
            let name = engine.name();
            return Err(format!(
                "--precision: expected engines that claim {precision} on {element}, found {name}, which claims {found}"
            )
            .into());
        }
    }
    Ok(())
}

pub(super) fn opened(built_in: &'static BuiltIn) -> Result<Opened, Failure> {
    let unavailable = |error| -> Failure { format!("{}: not available: {error}", built_in.name).into() };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Opened {
        engine: (built_in.open)().map_err(unavailable)?,
        open: Box::new(built_in.open),
        jobs: if built_in.is_per_core { cores() } else { 1 },
    })
}

/// Prints every engine and what it is.
pub(super) fn list() -> Result<(), Failure> {
    for BuiltIn { name, about, open, .. } in &BUILT_IN {
        print(match open() {
            Err(error) => format!("{name:<31} not available  {about}: {error}"),
            Ok(_) => format!("{name:<31} available      {about}"),
        })?;
    }
    print(format!(
        "{:<31} with --command  a program that speaks lines of JSON",
        "command"
    ))?;
    Ok(())
}

/// A built-in engine. A name of an earlier release is taken with a note on standard error.
pub(super) fn named(name: &str) -> Result<&'static BuiltIn, Failure> {
    let engine = built_in(name).ok_or_else(|| {
        let names: Vec<&str> = BUILT_IN.iter().map(|engine| engine.name).collect();
        format!("--engine: expected one of {}; found {name}", names.join(", "))
    })?;
    if engine.name != name {
        note(format!(
            "note: the engine {name} is now called {}; the old name goes with the next release",
            engine.name
        ));
    }
    Ok(engine)
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    shlex::try_quote(word).map_or_else(|_| format!("{word:?}"), |word| word.into_owned())
}
