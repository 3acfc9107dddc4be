//! Failing cases as files, in a folder for each run.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use binned_experts_check::check::CaseResult;
use binned_experts_check::{CaseSpec, report};

use super::{Failure, started};

/// The most failing cases of one kind that a run saves.
const MAX_OF_KIND: usize = 10;

/// The folder of a run. It is made when the run starts, so that a folder that cannot be written is told then, and removed
/// at the end where nothing was saved.
pub(super) struct Saved {
    directory: PathBuf,
    /// Whether the folder that it is in was made for it.
    made_parent: bool,
    /// Number of cases.
    count: usize,
    /// Number of cases that were not saved for their number.
    left_out: usize,
    error: Option<Failure>,
}

impl Saved {
    /// A new folder in `directory`, named by the time and the engines.
    pub(super) fn new(directory: &Path, engines: &[String], precision: Option<&str>) -> Result<Saved, Failure> {
        let made_parent = !directory.exists();
        std::fs::create_dir_all(directory).map_err(|error| could_not_write(directory, &error))?;
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H%M%SZ").to_string();
        clear(directory, &time);
        let engines = if engines.len() > 2 {
            format!("{}-engines", engines.len())
        } else {
            engines.join("-")
        };
        let precision = precision.map_or_else(String::new, |precision| format!("-{precision}"));
        let name = format!("{time}-{engines}{precision}");
        let mut path = directory.join(&name);
        let mut number = 1;
        // Another run may have started in the same second.
        while let Err(error) = std::fs::create_dir(&path) {
            if error.kind() != ErrorKind::AlreadyExists {
                return Err(could_not_write(&path, &error));
            }
            number += 1;
            path = directory.join(format!("{name}-{number}"));
        }
        Ok(Saved {
            directory: path,
            made_parent,
            count: 0,
            left_out: 0,
            error: None,
        })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Saves a failing case as it was drawn.
    pub(super) fn failing(&mut self, engine: &str, result: &CaseResult) {
        let Some(spec) = &result.spec else { return };
        if result.of_kind > MAX_OF_KIND {
            self.left_out += 1;
            return;
        }
        self.count += 1;
        let story = format!("{engine}, {}\n{}", result.case, report::verdict_text(&result.verdict));
        self.write(&self.path(engine, &result.case, false), &story, spec);
    }

    /// Saves what a failing case was shrunk to.
    pub(super) fn shrunk(&mut self, engine: &str, result: &CaseResult) {
        let Some(shrunk) = &result.shrunk else { return };
        let story = format!(
            "{engine}, {}, shrunk in {} tries\n{}",
            result.case,
            shrunk.tries,
            report::verdict_text(&shrunk.verdict)
        );
        self.write(&self.path(engine, &result.case, true), &story, &shrunk.spec);
    }

    /// A file of this name is whole, whenever the run is killed.
    fn write(&mut self, path: &Path, story: &str, spec: &CaseSpec) {
        let part = path.with_extension("part");
        // A run that started later may have taken it for that of a killed one.
        let _ = std::fs::create_dir_all(&self.directory);
        let renamed = |()| std::fs::rename(&part, path).map_err(|error| could_not_write(path, &error));
        let written = write_case_text(&part, story, spec).and_then(renamed);
        if let Err(error) = written {
            self.error.get_or_insert(error);
        }
    }

    fn path(&self, engine: &str, case: &str, shrunk: bool) -> PathBuf {
        let case: String = case.replace(' ', "-").replace(std::path::is_separator, "_");
        let suffix = if shrunk { "-shrunk" } else { "" };
        self.directory.join(format!("{engine}-{case}{suffix}.toml"))
    }

    /// The command lines that run a failing case again with the same engines, or why there are none.
    pub(super) fn replay_lines(&self, engine: &str, failure: &CaseResult, engines: &str) -> String {
        let replay = |path: &Path, more: &str| {
            let path = super::engines::quoted(&path.to_string_lossy());
            format!("{} replay {path}{more}{engines}", started::command())
        };
        if let Some(golden) = &failure.golden {
            let order = golden
                .order
                .iter()
                .map(|order| format!(" --order {}", super::engines::quoted(order)));
            return replay(&golden.path, &order.collect::<String>());
        }
        if failure.spec.is_none() {
            return "no case alone shows it: run the same check again".to_owned();
        }
        let files = [true, failure.shrunk.is_some()].into_iter().zip([false, true]);
        let lines = files
            .filter(|(is_there, _)| *is_there)
            .map(|(_, shrunk)| replay(&self.path(engine, &failure.case, shrunk), ""));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What is to be told of it at the end: an error, or where the cases are.
    pub(super) fn finish(mut self) -> Result<Option<String>, Failure> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        if self.count == 0 {
            return Ok(None);
        }
        let left_out = match self.left_out {
            0 => String::new(),
            left_out => format!("; {left_out} more were not saved"),
        };
        let cases = if self.count == 1 { "case" } else { "cases" };
        Ok(Some(format!(
            "{} failing {cases} saved in {}{left_out}",
            self.count,
            self.directory.display()
        )))
    }
}

impl Drop for Saved {
    /// Leaves nothing where nothing was saved: only empty folders go.
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.directory);
        if let Some(parent) = self.directory.parent().filter(|_| self.made_parent) {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// Removes empty folders of runs that were killed. A run that started in the same second may still need its own.
fn clear(directory: &Path, time: &str) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // A folder with a case in it, or that is not ours to remove, stays.
        if is_of_run(&name) && !name.starts_with(time) {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
}

/// Whether a name begins as those of runs do, with a time.
fn is_of_run(name: &str) -> bool {
    let shape = |byte: u8| if byte.is_ascii_digit() { b'0' } else { byte };
    name.bytes().map(shape).take(18).eq(*b"0000-00-00T000000Z")
}

/// Writes a case below its story in comments.
pub(super) fn write_case_text(path: &Path, story: &str, spec: &CaseSpec) -> Result<(), Failure> {
    let written = std::fs::write(path, case_text(story, spec));
    written.map_err(|error| {
        // A file that is half written would pass for a case.
        let _ = std::fs::remove_file(path);
        could_not_write(path, &error)
    })
}

fn could_not_write(path: &Path, error: &std::io::Error) -> Failure {
    format!("--save: could not write {}: {error}", path.display()).into()
}

fn case_text(story: &str, spec: &CaseSpec) -> String {
    let story: String = story.lines().map(|line| format!("# {line}\n")).collect();
    format!("{story}{spec}")
}

/// The cases of the newest run in a folder that saved some, by name: first those that were shrunk.
pub(super) fn newest(directory: &Path) -> Result<Vec<(String, CaseSpec)>, Failure> {
    let refused = |error: Failure| -> Failure { format!("--rerun-failed: {error}").into() };
    for run in entries(directory).map_err(refused)?.into_iter().rev() {
        if !run.is_dir() {
            continue;
        }
        let mut cases = texts(&run).map_err(refused)?;
        if cases.is_empty() {
            continue;
        }
        cases.sort_by_key(|path| !path.to_string_lossy().ends_with("-shrunk.toml"));
        return cases.iter().map(|path| read_named(path)).collect();
    }
    Err(format!("--rerun-failed: no failing case in {}", directory.display()).into())
}

/// The cases of a folder, by name.
pub(super) fn all(directory: &Path) -> Result<Vec<(String, CaseSpec)>, Failure> {
    let cases = texts(directory).map_err(|error| format!("--cases-from: {error}"))?;
    if cases.is_empty() {
        return Err(format!("--cases-from: no case as text (.toml) in {}", directory.display()).into());
    }
    cases.iter().map(|path| read_named(path)).collect()
}

/// The files of a folder that hold a case as text, in the order of their names.
fn texts(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut paths = entries(directory)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    Ok(paths)
}

/// What is in a folder, in the order of the names.
fn entries(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let refused = |error: std::io::Error| format!("could not read {}: {error}", directory.display());
    let entries = std::fs::read_dir(directory).map_err(refused)?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>();
    let mut paths: Vec<PathBuf> = paths.map_err(refused)?;
    paths.sort();
    Ok(paths)
}

fn read_named(path: &Path) -> Result<(String, CaseSpec), Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let spec = text.parse().map_err(|error| format!("{}: {error}", path.display()))?;
    let stem = path.file_stem().unwrap_or_default();
    Ok((stem.to_string_lossy().into_owned(), spec))
}

#[cfg(test)]
mod tests {
    use binned_experts_check::{Fault, Selection, Verdict};

    use super::*;

    #[test]
    fn what_an_engine_says_never_spoils_a_case() {
        // Every character up to U+2FFF, and some beyond, in the middle of a line and at its ends.
        let all = (0..0x3000).chain([0xd7ff, 0xe000, 0xfdd0, 0xfeff, 0xfffe, 0xffff, 0x10ffff]);
        for (seed, character) in all.filter_map(char::from_u32).enumerate() {
            let spec = CaseSpec::from_seed(seed as u64 % 64, &Selection::small());
            let said = format!("{character}routing = 'x'{character}{character}\nbatch = 7{character}");
            let story = report::verdict_text(&Verdict::Fault(Fault::refused(said)));
            let text = case_text(&story, &spec);
            let read = text.parse::<CaseSpec>();
            assert_eq!(read.as_ref(), Ok(&spec), "{character:?}");
        }
    }
}
