//! `profiles`, `completions` and `man`: what can be typed.

use std::path::Path;

use binned_experts_check::case::Profile;
use clap::CommandFactory;

use super::{Cli, Conclusion, Failure, print};

pub(super) fn profiles() -> Result<Conclusion, Failure> {
    let mut axis = "";
    for profile in Profile::all() {
        if profile.axis() != axis {
            axis = profile.axis();
            print(format!("{axis}:"))?;
        }
        let about = profile.about().replace('\n', " ");
        print(format!("  {:<32} {about}", profile.name()))?;
    }
    Ok(Conclusion::Done)
}

pub(super) fn completions(shell: clap_complete::Shell) -> Result<Conclusion, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "binned-experts", &mut script);
    print(String::from_utf8(script)?.trim_end())?;
    Ok(Conclusion::Done)
}

pub(super) fn man(directory: &Path) -> Result<Conclusion, Failure> {
    let written = std::fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| format!("{}: {error}", directory.display()))?;
    Ok(Conclusion::Done)
}
