//! Lists of numbers as text. JSON has no infinity, so it is written as `"inf"`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Number {
    Finite(f64),
    Named(Name),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum Name {
    #[serde(rename = "inf")]
    Infinity,
}

pub(super) fn serialize<S: Serializer>(numbers: &Option<Vec<f64>>, serializer: S) -> Result<S::Ok, S::Error> {
    let written = |&number: &f64| match number {
        f64::INFINITY => Number::Named(Name::Infinity),
        number => Number::Finite(number),
    };
    let numbers = numbers
        .as_ref()
        .map(|numbers| Vec::from_iter(numbers.iter().map(written)));
    numbers.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<f64>>, D::Error> {
    let read = |number| match number {
        Number::Finite(number) => number,
        Number::Named(Name::Infinity) => f64::INFINITY,
    };
    let numbers = Option::<Vec<Number>>::deserialize(deserializer)?;
    Ok(numbers.map(|numbers| numbers.into_iter().map(read).collect()))
}
