//! Lists of names as text.

use std::fmt::Display;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub(super) fn serialize<T: Display, S: Serializer>(listed: &Option<Vec<T>>, serializer: S) -> Result<S::Ok, S::Error> {
    let names = listed
        .as_ref()
        .map(|listed| Vec::from_iter(listed.iter().map(T::to_string)));
    names.serialize(serializer)
}

pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let Some(names) = Option::<Vec<String>>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let listed: Result<Vec<T>, T::Err> = names.iter().map(|name| name.parse()).collect();
    listed.map(Some).map_err(de::Error::custom)
}
