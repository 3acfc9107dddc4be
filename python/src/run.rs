//! A check of a Python function.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use binned_experts_check::check::{CheckError, CheckPlan, Contender, Shapes, check as run_check};
use binned_experts_check::engine::program::{Limits, Program};
use binned_experts_check::{Engine, MachineError, Precision, Selection, Stop, Summary};
use pyo3::exceptions::{PyKeyboardInterrupt, PyRuntimeError};
use pyo3::prelude::*;

use crate::call::{Call, Function, called};
use crate::domain::{Domain, refused};
use crate::report::{Cases, Report};
use crate::watched::Watched;

/// How often the thread from Python looks for signals.
const GLANCE: Duration = Duration::from_millis(50);

/// Number of cases, first seed, number of shapes with 0 for any, and the most cases tried to make a failing one smaller.
type Size = (usize, u64, usize, usize);

/// Checks `caller`, which calls a function with the arguments of a case.
#[pyfunction]
pub(crate) fn check(
    caller: &Bound<'_, PyAny>,
    name: String,
    domain: &Domain,
    size: Size,
    time_limit: f64,
    arrays: String,
    wrap: Py<PyAny>,
) -> PyResult<Report> {
    let (sender, calls) = channel();
    let function = Function {
        name,
        domain: domain.0.clone(),
        calls: sender,
        time_limit: seconds(time_limit)?,
    };
    let plan = plan(domain, size);
    let mut watched = Watched::new(&plan);
    let summary = served(caller.py(), Some(caller), calls, &plan, |plan| {
        // The thread from Python serves until this is dropped.
        let mut function = function;
        run_check(&mut [Contender::single(&mut function)], plan, &mut watched)
    })?;
    Ok(Report::new(summary, &watched, domain, &domain.cases(arrays, wrap)))
}

/// Checks the program of a command, which describes itself.
#[pyfunction]
pub(crate) fn check_program(
    py: Python<'_>,
    command: &str,
    size: Size,
    time_limit: f64,
    arrays: String,
    wrap: Py<PyAny>,
) -> PyResult<Report> {
    let stop = Stop::default();
    let limits = Limits {
        case: seconds(time_limit)?,
        ..Limits::default()
    };
    let program = py.detach(|| Program::described(command, limits, &stop));
    let program = program.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    let domain = Domain(program.domain());
    let plan = CheckPlan {
        stop: stop.clone(),
        ..plan(&domain, size)
    };
    let (sender, calls) = channel();
    let mut watched = Watched::new(&plan);
    let summary = served(py, None, calls, &plan, |plan| {
        // The thread from Python serves until this is dropped.
        let _sender = sender;
        let another = program.opener();
        let open = Box::new(move || Ok(Box::new(another()?) as Box<_>));
        let contender = Contender::several(Box::new(program), open, 1);
        run_check(&mut [contender], plan, &mut watched)
    })?;
    Ok(Report::new(summary, &watched, &domain, &domain.cases(arrays, wrap)))
}

fn plan(domain: &Domain, (cases, seed, shapes, shrink_budget): Size) -> CheckPlan {
    CheckPlan {
        cases,
        seed,
        selection: Selection {
            domain: domain.0.clone(),
            ..Selection::default()
        },
        shapes: Shapes::Drawn(shapes),
        shrink_budget,
        ..CheckPlan::default()
    }
}

/// Runs a check on a thread of its own, and meanwhile makes its calls here and looks for signals. Ctrl-C stops the
/// check, which then returns what it has.
///
/// # Errors
/// What a call raised, or a handler of a signal.
fn served(
    py: Python<'_>,
    caller: Option<&Bound<'_, PyAny>>,
    calls: Receiver<Call>,
    plan: &CheckPlan,
    run: impl FnOnce(&CheckPlan) -> Result<Summary, CheckError> + Send,
) -> PyResult<Summary> {
    let mut raised = None;
    let calls = Mutex::new(calls);
    let summary = std::thread::scope(|scope| {
        let checking = scope.spawn(|| run(plan));
        let receive = || {
            let calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.recv_timeout(GLANCE)
        };
        loop {
            let served = match py.detach(receive) {
                Ok(call) => serve(caller.filter(|_| !plan.stop.is_set()), call),
                Err(RecvTimeoutError::Timeout) => py.check_signals(),
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = served {
                plan.stop.set();
                raised.get_or_insert(error);
            }
        }
        py.detach(|| checking.join())
    });
    if let Some(error) = raised.filter(|error| !error.is_instance_of::<PyKeyboardInterrupt>(py)) {
        return Err(error);
    }
    match summary {
        Ok(summary) => summary.map_err(refused),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Makes a call and sends its result; without a caller, that the run is stopped.
fn serve(caller: Option<&Bound<'_, PyAny>>, call: Call) -> PyResult<()> {
    let interrupted = || Err(MachineError::Interrupted.into());
    let (reply, raised) = match caller.map(|caller| called(caller, &call.arguments)) {
        None => (interrupted(), Ok(())),
        Some(Ok(reply)) => (reply, Ok(())),
        Some(Err(error)) => (interrupted(), Err(error)),
    };
    // The check may have ended meanwhile.
    let _ = call.reply.send(reply);
    raised
}

fn seconds(time_limit: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(time_limit)
        .ok()
        .filter(|limit| !limit.is_zero())
        .ok_or_else(|| refused(format!("time_limit: expected seconds above 0, found {time_limit}")))
}

impl Domain {
    /// How the cases that are drawn inside become values.
    fn cases(&self, arrays: String, wrap: Py<PyAny>) -> Cases {
        let claimed = self.0.precision.iter().flatten().next();
        Cases {
            precision: claimed.copied().unwrap_or(Precision::FP32),
            arrays,
            wrap: Arc::new(wrap),
        }
    }
}
