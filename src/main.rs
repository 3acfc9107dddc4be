//! The command `binned-experts`. [`cli::Conclusion`] says what its exit status is.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(conclusion) => conclusion.into(),
        Err(error) => {
            if !cli::is_broken_pipe(&error) {
                cli::note(format!("error: {error}"));
            }
            ExitCode::from(cli::Conclusion::FAILURE)
        }
    }
}
