//! `zoo`: bugs planted in the kernels, each of which a check must catch.

use rayon::prelude::*;

use crate::zoo::{self, Animal, Budget, KernelPath, Machine};

use super::engines::domain_of;
use super::interrupt::Interrupts;
use super::{Conclusion, Failure, Zoo, ZooEngine, print};
use crate::progress::Progress;

pub(super) fn zoo(arguments: &Zoo, interrupts: &Interrupts) -> Result<Conclusion, Failure> {
    let animals = match &arguments.zoo {
        Some(directory) => zoo::read(directory)?,
        None => zoo::own()?,
    };
    let animals = chosen(animals, arguments)?;
    let budget = Budget {
        cases: arguments.cases,
        seed: arguments.seed,
        domain: domain_of(arguments.domain.as_deref())?,
        stop: interrupts.stop.clone(),
        ..Budget::default()
    };
    // A patch that does not apply is told before anything is built.
    for animal in &animals {
        animal.kernels()?;
    }
    let machine = match arguments.engine {
        ZooEngine::Emulator => Machine::emulator()?,
        #[cfg(feature = "cuda")]
        ZooEngine::Cuda => Machine::cuda(std::env::current_exe()?)?,
    };
    let paths: Vec<KernelPath> = KernelPath::ALL
        .into_iter()
        .filter(|path| animals.iter().any(|animal| animal.path == *path))
        .collect();

    let progress = Progress::new(animals.len() + paths.len(), false);
    let visits = zoo::visit(&machine, &animals, &budget, |_| progress.step())?;
    let controls = paths.par_iter().map(|path| {
        let failure = zoo::control(&machine, *path, &visits, &budget);
        progress.step();
        failure.map(|failure| (path.name(), failure))
    });
    let controls = match controls.collect::<Result<Vec<_>, _>>() {
        Err(_) if interrupts.stop.is_set() => Vec::new(),
        controls => controls?,
    };
    progress.finish();

    print(format!("{}\n", zoo::table(&visits)))?;
    print(format!("{}\n", zoo::classes(&visits)))?;
    print(format!("The slowest:\n\n{}\n", zoo::slowest(&visits)))?;
    for (engine, failure) in &controls {
        print(match failure {
            None => format!("control: {engine} agrees without a patch"),
            Some(catch) => format!(
                "control: {engine} fails without a patch: {}, case {}",
                catch.by, catch.case
            ),
        })?;
    }
    print(zoo::summary(&visits))?;
    if interrupts.stop.is_set() {
        print(format!("INTERRUPTED after {} of {} bugs", visits.len(), animals.len()))?;
        return Ok(interrupts.conclusion());
    }
    let as_expected = visits.iter().all(zoo::Visit::is_expected);
    Ok(
        if as_expected && controls.iter().all(|(_, failure)| failure.is_none()) {
            Conclusion::Agree
        } else {
            Conclusion::Finding
        },
    )
}

/// The animals that the arguments name, or all.
fn chosen(animals: Vec<Animal>, arguments: &Zoo) -> Result<Vec<Animal>, Failure> {
    if let Some(unknown) = arguments
        .animals
        .iter()
        .find(|name| animals.iter().all(|animal| animal.name != **name))
    {
        let of = match &arguments.zoo {
            Some(directory) => format!("file in {}, without .toml", directory.display()),
            None => "known bug".to_owned(),
        };
        return Err(format!("expected the name of a {of}; found {unknown}").into());
    }
    let chosen: Vec<Animal> = animals
        .into_iter()
        .filter(|animal| arguments.animals.is_empty() || arguments.animals.contains(&animal.name))
        .filter(|animal| arguments.path.is_none_or(|path| animal.path == path))
        .collect();
    if chosen.is_empty() {
        return Err("none of them lives in the kernels of that path".into());
    }
    Ok(chosen)
}
