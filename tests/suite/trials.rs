//! Tests that say what they need. Where the machine lacks it they are ignored, and the reason is told.
//!
//! Shared by the test programs of this package and of `gpu/`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock, Mutex};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// What tests were ignored for lack of: its name, the number of tests, and why it is missing.
static LACKING: Mutex<BTreeMap<&str, (u64, String)>> = Mutex::new(BTreeMap::new());

/// Something that a machine may lack.
#[derive(Clone)]
pub(crate) struct Need {
    name: &'static str,
    demanded_by: Option<&'static str>,
    missing: Arc<LazyLock<Option<String>, Ask>>,
}

/// Finds out why something is missing.
type Ask = Box<dyn FnOnce() -> Option<String> + Send>;

impl Need {
    /// `missing` gives the reason where it is missing, and is asked once. Then tests that need it are ignored; they fail
    /// where the environment variable `demanded_by` is set.
    pub(crate) fn new(
        name: &'static str,
        demanded_by: Option<&'static str>,
        missing: impl FnOnce() -> Option<String> + Send + 'static,
    ) -> Need {
        Need {
            name,
            demanded_by,
            missing: Arc::new(LazyLock::new(Box::new(missing))),
        }
    }

    /// Where it is missing: that the test is ignored.
    fn lacking(&self) -> Option<Result<Completion, Failed>> {
        let reason = (**self.missing).as_ref()?;
        if let Some(variable) = self.demanded_by.filter(|name| std::env::var_os(name).is_some()) {
            return Some(Err(
                format!("{variable} is set and demands {}: {reason}", self.name).into()
            ));
        }
        let mut lacking = LACKING.lock().unwrap();
        lacking.entry(self.name).or_insert_with(|| (0, reason.clone())).0 += 1;
        Some(Ok(Completion::ignored_with(format!("for lack of {}", self.name))))
    }
}

/// What a test returns.
pub(crate) trait Outcome {
    fn result(self) -> Result<(), Failed>;
}

/// It panics if it fails.
impl Outcome for () {
    fn result(self) -> Result<(), Failed> {
        Ok(())
    }
}

impl Outcome for Result<(), Failed> {
    fn result(self) -> Result<(), Failed> {
        self
    }
}

/// A function as a test, named after its module and itself.
pub(crate) fn trial<F, O>(needs: &[&Need], run: F) -> Trial
where
    F: FnOnce() -> O + Send + 'static,
    O: Outcome,
{
    named(name_of::<F>(), needs, run)
}

/// A test under a name.
pub(crate) fn named<O: Outcome>(
    name: impl Into<String>,
    needs: &[&Need],
    run: impl FnOnce() -> O + Send + 'static,
) -> Trial {
    let needs = needs.iter().map(|need| (*need).clone()).collect::<Vec<_>>();
    Trial::ignorable_test(name, move || {
        let lacking = needs.iter().find_map(Need::lacking);
        lacking.unwrap_or_else(|| run().result().map(|()| Completion::Completed))
    })
}

/// A function's name with its modules, without its crate.
pub(crate) fn name_of<F>() -> &'static str {
    let path = std::any::type_name::<F>();
    path.split_once("::").map_or(path, |(_, name)| name)
}

/// Runs the tests that the command line asks for. What was ignored and why closes the run, on standard error.
pub(crate) fn run(trials: Vec<Trial>) -> ExitCode {
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials);
    let lacking = LACKING.lock().unwrap();
    for (name, (_, reason)) in &*lacking {
        eprintln!("{name}: {reason}");
    }
    let mut ignored: Vec<String> = lacking
        .iter()
        .map(|(name, (tests, _))| format!("{tests} for lack of {name}"))
        .collect();
    let others = conclusion.num_ignored - lacking.values().map(|(tests, _)| tests).sum::<u64>();
    if others > 0 {
        ignored.push(format!("{others} that only --ignored runs"));
    }
    if !ignored.is_empty() {
        eprintln!("ignored: {}", ignored.join(", "));
    }
    conclusion.exit_code()
}
