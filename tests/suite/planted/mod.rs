//! A program that speaks lines of JSON, right but for one bug or misbehaviour.
//!
//! It is the test program itself, so that a test never meets an older build of it:
//!
//! ```sh
//! cargo test --quiet -p binned-experts --test suite -- --planted      # lists the names
//! binned-experts check --precision fp32 \
//!     --command 'cargo test --quiet -p binned-experts --test suite -- --planted halves'
//! ```

mod blocks;
mod bug;
mod case;
mod engine;
mod experts;
mod layers;
mod misbehaviour;
mod restricted;
mod routing;
mod shared;
mod types;
mod views;
mod wrong;

use std::process::ExitCode;

use clap::ValueEnum;

pub(crate) use blocks::BlockBug;
pub(crate) use bug::Bug;
pub(crate) use layers::LayerBug;
pub(crate) use misbehaviour::Misbehaviour;
pub(crate) use restricted::Outside;
pub(crate) use shared::SharedBug;
pub(crate) use types::TypeBug;
pub(crate) use views::ViewBug;

use engine::Planted;
use wrong::WrongEngine;

/// The argument that makes the test program this one.
pub(crate) const PLANTED: &str = "--planted";

/// The name of the engine that takes only what a domain admits.
pub(crate) const RESTRICTED: &str = "restricted";

/// Runs the program with what follows that argument: a name, and what else the engine takes.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let Some(name) = arguments.first() else {
        list::<Bug>();
        list::<LayerBug>();
        list::<BlockBug>();
        list::<ViewBug>();
        list::<TypeBug>();
        list::<SharedBug>();
        list::<Misbehaviour>();
        return ExitCode::SUCCESS;
    };
    let served = if name == RESTRICTED {
        restricted::run(&arguments[1..])
    } else if let Ok(bug) = Bug::from_str(name, false) {
        WrongEngine(Planted::new(bug)).serve()
    } else if let Ok(bug) = LayerBug::from_str(name, false) {
        WrongEngine(bug).serve()
    } else if let Ok(bug) = BlockBug::from_str(name, false) {
        WrongEngine(bug).serve()
    } else if let Ok(bug) = ViewBug::from_str(name, false) {
        WrongEngine(bug).serve()
    } else if let Ok(bug) = TypeBug::from_str(name, false) {
        WrongEngine(bug).serve()
    } else if let Ok(bug) = SharedBug::from_str(name, false) {
        WrongEngine(bug).serve()
    } else if let Ok(misbehaviour) = Misbehaviour::from_str(name, false) {
        misbehaviour.serve(arguments.get(1).map(AsRef::as_ref))
    } else {
        eprintln!("{PLANTED}: expected the name of a bug or a misbehaviour, found {name}");
        return ExitCode::from(2);
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The name that the command line takes.
pub(crate) fn name_of(variant: impl ValueEnum) -> String {
    let value = variant.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn list<V: ValueEnum>() {
    for value in V::value_variants().iter().filter_map(V::to_possible_value) {
        let about = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("{:<28}{about}", value.get_name());
    }
}
