//! Puts the commit into the version, where the crate is built from a clone.

use std::process::Command;

fn main() {
    let version = env!("CARGO_PKG_VERSION");
    let version = match git(&["rev-parse", "--short=12", "HEAD"]) {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    };
    println!("cargo::rustc-env=BINNED_EXPERTS_VERSION={version}");
    println!("cargo::rerun-if-changed=build.rs");
    // Grows with each commit and checkout.
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// The line that git prints; none outside a clone of this crate.
fn git(arguments: &[&str]) -> Option<String> {
    let root = git_output(&["rev-parse", "--show-toplevel"])?;
    (root == env!("CARGO_MANIFEST_DIR")).then(|| git_output(arguments))?
}

fn git_output(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
