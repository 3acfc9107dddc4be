//! The other side of [`Program`](super::Program): an engine as a program that speaks lines of JSON.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use super::protocol::{
    Answer, Broken, CaseRequest, Description, MAX_LINE, Request, WeightsRequest, read_line, skip_line,
};
use crate::case::file::{FileError, read_case, read_case_and_weights, write_tensors};
use crate::case::stage::Stage;
use crate::case::{AnyProblem, Tensor};
use crate::engine::{Engine, Fault, Outcome, forward};

/// A stage with more elements in PyTorch's shape is left out of an answer.
const MOST_STAGE_ELEMENTS: usize = 1 << 20;

/// Answers requests until there are no more of them.
///
/// # Errors
/// An error of the input or the output; what is wrong with a line, a case or an engine is an answer.
pub fn serve(engine: &mut dyn Engine, mut requests: impl BufRead, mut answers: impl Write) -> std::io::Result<()> {
    while let Some(line) = read_line(&mut requests)? {
        let answer = if line.is_whole {
            answer(engine, &line.bytes)
        } else {
            skip_line(&mut requests)?;
            Answer::Error(format!(
                "expected a line of at most {MAX_LINE} bytes, found a longer one"
            ))
            .to_string()
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

/// The line that answers a request.
fn answer(engine: &mut dyn Engine, line: &[u8]) -> String {
    let answer = match Request::read(line) {
        Err(error) => Answer::Error(error.to_string()),
        Ok(Request::Case(request)) => computed(engine, &request).map_or_else(|answer| answer, |()| Answer::Ok(true)),
        Ok(Request::Describe(_)) => {
            let description = Description {
                name: Some(engine.name().to_owned()),
                domain: engine.domain(),
                weights_apart: true,
            };
            match serde_json::to_string(&description) {
                Ok(line) => return line,
                Err(error) => Answer::Error(error.to_string()),
            }
        }
    };
    answer.to_string()
}

/// Writes the result, or gives the answer that there is none.
fn computed(engine: &mut dyn Engine, request: &CaseRequest) -> Result<(), Answer> {
    let file = |error: FileError| Answer::Error(error.to_string());
    let read = match &request.weights {
        None => read_case(&request.case),
        Some(WeightsRequest { weights, .. }) => read_case_and_weights(&request.case, weights),
    };
    let problem = read.map_err(file)?.problem;
    let outcome = forward(engine, &problem).map_err(|fault| match fault {
        Fault::Declined { reason } => Answer::Skip(reason),
        Fault::Broken { rule, message } => Answer::Broken(Broken { rule, message }),
        fault => Answer::Error(fault.to_string()),
    })?;
    write_tensors(&request.output, &tensors(&outcome, &problem, MOST_STAGE_ELEMENTS)).map_err(file)
}

/// The output, and the stages in PyTorch's shapes but for those with more elements.
pub fn tensors(outcome: &Outcome, problem: &AnyProblem, most_elements: usize) -> BTreeMap<String, Tensor> {
    let mut tensors = outcome
        .stages
        .tensors(problem, |stage| stage.type_in(problem), most_elements);
    tensors.insert(Stage::Output.to_string(), outcome.output.clone());
    tensors
}
