//! The command `binned-experts`, which [`binned_experts::cli`] has.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let started_as = arguments.next().unwrap_or_default();
    let started_as = vec![started_as.to_string_lossy().into_owned()];
    ExitCode::from(binned_experts::cli::main(started_as, arguments))
}
