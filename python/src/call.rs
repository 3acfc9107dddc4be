//! A Python function as an engine.
//!
//! The check runs on a thread of its own, which hands each call to the thread that came from Python: a function is
//! called where its caller stands, and Ctrl-C is seen while the oracle works.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, SyncSender, sync_channel};
use std::time::Duration;

use binned_experts_check::engine::{Rule, program};
use binned_experts_check::{AnyProblem, Domain, Engine, Fault, MachineError, Outcome, Tensor};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::raw::{Arguments, tensors};

/// A call, and where its result goes.
pub(crate) struct Call {
    pub(crate) arguments: Arguments,
    pub(crate) reply: SyncSender<Reply>,
}

/// The tensors that a function returns.
pub(crate) type Reply = Result<BTreeMap<String, Tensor>, Fault>;

/// A function that another thread calls.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) domain: Domain,
    pub(crate) calls: Sender<Call>,
    /// After so long a call is told of.
    pub(crate) time_limit: Duration,
}

impl Engine for Function {
    fn name(&self) -> &str {
        &self.name
    }

    fn domain(&self) -> Domain {
        self.domain.clone()
    }

    fn forward(&mut self, problem: &AnyProblem) -> Result<Outcome, Fault> {
        let (reply, replies) = sync_channel(1);
        let arguments = Arguments::new(problem);
        let gone = |_| Fault::Machine(MachineError::Interrupted);
        self.calls
            .send(Call { arguments, reply })
            .map_err(|_| MachineError::Interrupted)?;
        let tensors = match replies.recv_timeout(self.time_limit) {
            Err(RecvTimeoutError::Timeout) => {
                let dims = problem.dims();
                eprintln!(
                    "{}: no result after {} s of a call with T={} H={} I={} E={} K={} C={}; only with isolate=True such \
                     a call is ended",
                    self.name,
                    self.time_limit.as_secs_f64(),
                    dims.tokens,
                    dims.hidden,
                    dims.intermediate,
                    dims.experts,
                    dims.top_k,
                    dims.capacity
                );
                replies.recv().map_err(gone)?
            }
            reply => reply.map_err(|_| MachineError::Interrupted)?,
        };
        program::outcome(tensors?, &[], problem)
    }
}

/// Calls `caller`, which answers with a kind and what belongs to it.
///
/// # Errors
/// What it raises, which is never the error of a kernel.
pub(crate) fn called(caller: &Bound<'_, PyAny>, arguments: &Arguments) -> PyResult<Reply> {
    let (arrays, numbers) = arguments.to_python(caller.py())?;
    let (kind, content): (String, Bound<'_, PyAny>) = caller.call1((arrays, numbers))?.extract()?;
    let fault = match kind.as_str() {
        "ok" => {
            let found = tensors(content.cast::<PyDict>()?)?;
            return Ok(found.map_err(|message| Fault::Broken {
                rule: Rule::WrongType,
                message,
            }));
        }
        "skip" => Fault::declined(content.extract::<String>()?),
        "error" => Fault::refused(content.extract::<String>()?),
        "broken" => {
            let (rule, message): (String, String) = content.extract()?;
            let rule = rule.parse().map_err(PyRuntimeError::new_err)?;
            Fault::Broken { rule, message }
        }
        _ => return Err(PyRuntimeError::new_err(format!("{kind} is no answer"))),
    };
    Ok(Err(fault))
}
