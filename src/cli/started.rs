//! How this command was started, so that the lines it prints can be run as they are.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::engines::quoted;

/// The words that start this command again, unless cargo does.
static WORDS: OnceLock<Vec<String>> = OnceLock::new();

/// Takes down the words that start this command again. A process is started once: the first ones stay.
pub(super) fn remember(words: Vec<String>) {
    WORDS.get_or_init(|| words);
}

/// The words that start this command again from the current folder.
pub(super) fn command() -> String {
    let cargo = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    if let (Some(manifest), Some(executable)) = (&cargo, &executable)
        && let Some(line) = by_cargo(manifest, executable, std::env::current_dir().ok().as_deref())
    {
        return line;
    }
    let words = WORDS.get().map_or(&[][..], Vec::as_slice);
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// The line of `cargo run`, where the executable is one that cargo built just now.
fn by_cargo(manifest: &Path, executable: &Path, current: Option<&Path>) -> Option<String> {
    let profile = executable.parent()?.file_name()?.to_str()?;
    let flags = match profile {
        "debug" => "",
        "release" => " --release",
        _ => return None,
    };
    let elsewhere = if current.is_some_and(|current| current.starts_with(manifest)) {
        String::new()
    } else {
        format!(
            " --manifest-path {}",
            quoted(&manifest.join("Cargo.toml").to_string_lossy())
        )
    };
    Some(format!("cargo run --quiet{flags}{elsewhere} --"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_named_where_it_started_the_command() {
        let line = |executable: &str, current: &str| {
            by_cargo(Path::new("/my work"), Path::new(executable), Some(Path::new(current)))
        };
        let release = "/my work/target/release/binned-experts";
        assert_eq!(line(release, "/my work/sub").unwrap(), "cargo run --quiet --release --");
        assert_eq!(
            line(release, "/").unwrap(),
            "cargo run --quiet --release --manifest-path '/my work/Cargo.toml' --"
        );
        assert_eq!(
            line("/t/debug/binned-experts", "/my work").unwrap(),
            "cargo run --quiet --"
        );
        assert_eq!(line("/usr/bin/binned-experts", "/my work"), None);
    }
}
