//! `zoo`: bugs planted in the kernels, each of which a check must catch.

use rayon::prelude::*;

use binned_experts::zoo::{self, Animal, Budget, KernelPath, Machine};

use super::check::progress_bar;
use super::{Failure, Zoo, ZooEngine, print};

pub(super) fn zoo(arguments: &Zoo) -> Result<bool, Failure> {
    let animals = chosen(zoo::read(&arguments.zoo)?, arguments)?;
    let budget = Budget {
        cases: arguments.cases,
        seed: arguments.seed,
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

    let progress = progress_bar(animals.len() + paths.len());
    let (controls, visits) = rayon::join(
        || {
            let agree = paths.par_iter().map(|path| {
                let failure = zoo::control(&machine, *path, budget);
                progress.inc(1);
                failure.map(|failure| (path.name(), failure))
            });
            agree.collect::<Result<Vec<_>, _>>()
        },
        || zoo::visit(&machine, &animals, budget, |_| progress.inc(1)),
    );
    progress.finish_and_clear();
    let (controls, visits) = (controls?, visits?);

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
    let as_expected = visits.iter().all(zoo::Visit::is_expected);
    Ok(as_expected && controls.iter().all(|(_, failure)| failure.is_none()))
}

/// The animals that the arguments name, or all.
fn chosen(animals: Vec<Animal>, arguments: &Zoo) -> Result<Vec<Animal>, Failure> {
    if let Some(unknown) = arguments
        .animals
        .iter()
        .find(|name| animals.iter().all(|animal| animal.name != **name))
    {
        let directory = arguments.zoo.display();
        return Err(format!("expected the name of a file in {directory}, without .toml; found {unknown}").into());
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
