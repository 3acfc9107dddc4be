//! The value of `--precision`.

use std::ffi::OsStr;

use binned_experts_check::oracle::{Modifier, Preset};
use binned_experts_check::{Named, Precision};
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, Command, Error};

/// The help of an option that takes a precision, with what each modifier means. Each preset is explained below it.
pub(super) fn long_help(about: &str) -> String {
    let lines = Modifier::ALL.iter().map(|modifier| {
        let about = modifier.about().replace('\n', " ");
        format!("\n  +{:<20} {about}", modifier.name())
    });
    format!("{about}.\n\nModifiers, in any order:{}", lines.collect::<String>())
}

/// Reads a preset with modifiers; the presets are what a shell completes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PrecisionParser;

impl TypedValueParser for PrecisionParser {
    type Value = Precision;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<Precision, Error> {
        let text = StringValueParser::new().parse_ref(command, argument, value)?;
        text.parse().map_err(|error| {
            let name = argument.map_or_else(|| "--precision".to_owned(), Arg::to_string);
            let message = format!("invalid value '{text}' for '{name}': {error}\n");
            Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |preset: &Preset| PossibleValue::new(preset.name()).help(preset.about());
        Some(Box::new(Preset::ALL.iter().map(value)))
    }
}
