//! The zoo: every patch applies, and a check catches what it plants.
//!
//! Some animals are run here; `cargo test -p binned-experts --test suite -- --ignored` runs all of them, prints the
//! tables and compares the verdicts with the snapshot. Each is first asked the case that caught it according to the
//! snapshot: that a case within the budget catches it needs no other. The command `zoo` asks all cases from the first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use binned_experts::zoo::{self, Animal, Budget, BugClass, KernelPath, Machine, Visit, ZooError};
use libtest_mimic::{Failed, Trial};

use crate::trials::{Need, named, trial};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Of many classes, on both pipelines, and of cases in a domain of their own.
const SOME: [&str; 14] = [
    "bins-in-16-bits",
    "one-expert-a-thread",
    "cursor-stops-at-an-empty-expert",
    "histogram-read-before-it-is-complete",
    "nan-swallowed-by-the-upper-clamp",
    "one-row-too-many",
    "gate-clamped-on-both-sides",
    "operands-in-tf32",
    "later-lanes-first",
    "slots-given-back-before-the-products",
    "no-wait-for-the-first-product",
    "low-weights-lost",
    "foreign-ids-take-room",
    "few-rows-summed-from-the-end",
];

/// Built for the first test that runs it; its files go with the last.
type Lazy = Arc<LazyLock<Result<Machine, String>>>;

pub(crate) fn trials() -> Vec<Trial> {
    let machine: Lazy = Arc::new(LazyLock::new(|| Machine::emulator().map_err(|error| error.to_string())));
    let needed = Arc::clone(&machine);
    let compiler = Need::new("a C++ compiler", Some("CI"), move || (**needed).as_ref().err().cloned());
    let on_machine = |name: &'static str, test: fn(&str, &Machine) -> Result<(), Failed>| {
        let machine = Arc::clone(&machine);
        named(format!("zoo::{name}"), &[&compiler], move || {
            test(name, (**machine).as_ref()?)
        })
    };
    let mut trials = vec![
        trial(&[], every_patch_applies),
        trial(&[], every_class_is_there),
        trial(&[], errors_name_what_was_found),
        on_machine("a_stopped_visit_has_what_was_done", a_stopped_visit_has_what_was_done),
        on_machine("every_animal", every_animal).with_ignored_flag(true),
    ];
    trials.extend(SOME.map(|name| on_machine(name, is_caught)));
    trials
}

/// What is asked of an animal here.
fn budget() -> Result<Budget, Failed> {
    Ok(Budget {
        known: known_cases()?,
        ..Budget::default()
    })
}

/// The case that caught each animal, by name, as the snapshot has it.
fn known_cases() -> Result<BTreeMap<String, usize>, Failed> {
    let snapshot = std::fs::read_to_string(snapshots().join("zoo.snap"))?;
    let case = |line: &str| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        Some((name.to_owned(), fields.next_back()?.parse().ok()?))
    };
    Ok(snapshot.lines().filter_map(case).collect())
}

fn snapshots() -> PathBuf {
    Path::new(ROOT).join("snapshots")
}

fn animals() -> Result<Vec<Animal>, ZooError> {
    zoo::read(&Path::new(ROOT).join("tests/zoo"))
}

fn every_patch_applies() -> Result<(), Failed> {
    for animal in animals()? {
        animal.kernels()?;
        for (field, text) in [("title", &animal.title), ("story", &animal.story)] {
            if text.trim().is_empty() {
                return Err(format!("{}: expected a {field}, found none", animal.name).into());
            }
        }
    }
    Ok(())
}

/// Classes 1 to 20 but for 19, which is about the backward pass.
fn every_class_is_there() -> Result<(), Failed> {
    let animals = animals()?;
    for number in (1..=BugClass::NAMES.len()).filter(|number| *number != 19) {
        let class = BugClass::try_from(format!("C{number}"))?;
        if animals.iter().all(|animal| animal.class != class) {
            return Err(format!("expected an animal of class {class}, found none").into());
        }
    }
    Ok(())
}

fn errors_name_what_was_found() -> Result<(), Failed> {
    let animal = animals()?.remove(0);
    let with = |file: &str, old: &str| Animal {
        name: "name".to_owned(),
        file: file.to_owned(),
        old: old.to_owned(),
        ..animal.clone()
    };
    let error = |animal: Animal| animal.kernels().err().map(|error| error.to_string());
    let expect = |found: Option<String>, expected: &str| match found {
        Some(found) if found == expected => Ok(()),
        found => Err(format!("expected {expected:?}, found {found:?}")),
    };
    expect(
        error(with("route.cu", "no such text")),
        "name: expected the old text once in route.cu, found it 0 times",
    )?;
    expect(
        error(with("none.cu", "")),
        "name: expected the name of a kernel file, found none.cu",
    )?;
    let unknown = Animal::parse("name", "class = \"C21\"")
        .err()
        .map(|error| error.to_string());
    match unknown {
        Some(text) if text.contains("expected a class from C1 to C20, found C21") => {}
        found => return Err(format!("expected the class to be refused, found {found:?}").into()),
    }
    let text = std::fs::read_to_string(Path::new(ROOT).join("tests/zoo/scale-dropped.toml"))?;
    let domain = Animal::parse("name", &text.replace("deepseek-v3", "deepseek-v0"));
    match domain.err().map(|error| error.to_string()) {
        Some(text) if text.contains("layer: expected one of gpt-oss") => Ok(()),
        found => Err(format!("expected the domain to be refused, found {found:?}").into()),
    }
}

fn is_caught(name: &str, machine: &Machine) -> Result<(), Failed> {
    let animals = animals()?;
    let animal = animals.iter().find(|animal| animal.name == name);
    let animal = animal.ok_or_else(|| format!("expected tests/zoo/{name}.toml"))?;
    let visits = zoo::visit(machine, std::slice::from_ref(animal), &budget()?, |_| {})?;
    match visits[0].verdict() {
        "caught" => Ok(()),
        verdict => Err(format!("expected {name} to be caught, found that it {verdict}").into()),
    }
}

fn a_stopped_visit_has_what_was_done(_name: &str, machine: &Machine) -> Result<(), Failed> {
    let mut animals = animals()?;
    animals.retain(|animal| SOME.contains(&animal.name.as_str()));
    let budget = budget()?;
    let visits = zoo::visit(machine, &animals, &budget, |_| budget.stop.set())?;
    match visits.len() {
        done if done >= 1 && done < animals.len() => Ok(()),
        done => Err(format!("expected some of {} bugs, found {done}", animals.len()).into()),
    }
}

/// All of them within the cases of a check, with which the kernels as they are agree.
fn every_animal(_name: &str, machine: &Machine) -> Result<(), Failed> {
    let budget = budget()?;
    let visits = zoo::visit(machine, &animals()?, &budget, |_| {})?;
    for path in KernelPath::ALL {
        if let Some(catch) = zoo::control(machine, path, &visits, &budget)? {
            return Err(format!("{}: fails without a patch: {}", path.name(), catch.by).into());
        }
    }
    eprintln!("{}\n\n{}\n", zoo::table(&visits), zoo::classes(&visits));
    eprintln!("The slowest:\n\n{}\n\n{}", zoo::slowest(&visits), zoo::summary(&visits));
    let line = |visit: &Visit| {
        let case = visit
            .catch
            .as_ref()
            .map_or("-".to_owned(), |catch| catch.case.to_string());
        format!(
            "{:<46} {:<3} {:<10} {case}\n",
            visit.animal.name,
            visit.animal.class,
            visit.verdict()
        )
    };
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(snapshots());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("zoo", visits.iter().map(line).collect::<String>()));
    Ok(())
}
