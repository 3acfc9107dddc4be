//! What a kernel takes of something that has a plain choice.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Choices besides the plain one that a domain admits. Where a domain says nothing, the plain one alone is admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken<T> {
    /// Any choice. Cases are drawn with the plain one, unless another domain lists others.
    Any,
    /// These.
    Listed(Vec<T>),
}

impl<T: Clone + PartialEq> Taken<T> {
    /// What both admit; what is not given stands for what the other says.
    pub(super) fn meet(mine: &Option<Taken<T>>, theirs: &Option<Taken<T>>) -> Option<Taken<T>> {
        match (mine, theirs) {
            (Some(Taken::Listed(mine)), Some(Taken::Listed(theirs))) => {
                let both = mine.iter().filter(|choice| theirs.contains(choice));
                Some(Taken::Listed(both.cloned().collect()))
            }
            (Some(Taken::Any) | None, Some(other)) | (Some(other), _) => Some(other.clone()),
            (None, None) => None,
        }
    }

    /// Whether a choice is admitted.
    pub(super) fn admits(&self, choice: &T) -> bool {
        match self {
            Taken::Any => true,
            Taken::Listed(listed) => listed.contains(choice),
        }
    }
}

impl<T> Taken<T> {
    /// The choices that are listed; none where there is no list.
    pub(super) fn listed(taken: &Option<Taken<T>>) -> Option<&[T]> {
        match taken {
            Some(Taken::Listed(listed)) => Some(listed),
            Some(Taken::Any) | None => None,
        }
    }
}

/// The word for any.
const ANY: &str = "any";

impl<T: Serialize> Serialize for Taken<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Taken::Any => serializer.serialize_str(ANY),
            Taken::Listed(listed) => listed.serialize(serializer),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Taken<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Taken<T>, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

/// Reads a list or the word.
struct Either<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = Taken<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list, or \"any\"")
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Taken<T>, E> {
        match word {
            ANY => Ok(Taken::Any),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Taken<T>, A::Error> {
        let mut listed = Vec::new();
        while let Some(entry) = entries.next_element()? {
            listed.push(entry);
        }
        Ok(Taken::Listed(listed))
    }
}
