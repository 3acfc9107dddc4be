//! `compare`: a result that somebody has already.

use binned_experts_check::case::file::write_tensors;
use binned_experts_check::engine::program::read_outcome;
use binned_experts_check::judge::judge_outcome;
use binned_experts_check::{Domain, Fault, Verdict};

use super::files::{conclude, describe, read_trial};
use super::{Compare, Conclusion, Failure, print};

pub(super) fn compare(arguments: &Compare) -> Result<Conclusion, Failure> {
    let precision = arguments.precision;
    let precisions = |element| Vec::from_iter((precision.element() == element).then_some(precision));
    let trial = read_trial(&arguments.case, arguments.order.as_deref(), precisions)?;
    print(describe(&trial) + "\n")?;
    let element = trial.problem().element();
    if precision.element() != element {
        let expected = precision.element();
        return Err(format!("--precision: {precision} needs a case of {expected}, found one of {element}").into());
    }
    if let Some(path) = &arguments.bounds {
        let tensors = trial.tensors(precision);
        let tensors = tensors.ok_or("--bounds: expected a case that is judged whole, found a sampled one")?;
        write_tensors(path, &tensors)?;
    }
    let Some(path) = &arguments.output else {
        return Ok(Conclusion::Done);
    };
    // A file that is not there, or a link to it, is no fault of whoever wrote it.
    let file = path
        .canonicalize()
        .map_err(|error| format!("{}: {error}", path.display()))?;
    let verdict = match read_outcome(&file, trial.problem()) {
        Ok(outcome) => judge_outcome(&trial, precision, &Domain::default(), &outcome)
            .ok_or_else(|| format!("--precision: the case is not prepared for {precision}"))?,
        Err(Fault::Machine(error)) => Verdict::NotJudged(error),
        Err(fault) => Verdict::Fault(fault),
    };
    conclude(&path.display().to_string(), &verdict, Conclusion::Done)
}
