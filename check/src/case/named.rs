//! Enums whose variants have a name and a description, each written once.

use std::fmt;

/// An enum whose variants are chosen by name: in case files, on the command line, in reports.
pub trait Named: Copy + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// Every variant, in the order of their declaration.
    const ALL: &'static [Self];

    /// The name of the variant.
    fn name(self) -> &'static str;

    /// The description of the variant, in a few sentences.
    fn about(self) -> String;

    /// The variant of a name.
    ///
    /// # Errors
    /// The names that are known, and the one found.
    fn from_name(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|variant| variant.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|variant| variant.name()).collect();
            format!("expected one of {}; found {name}", names.join(", "))
        })
    }
}

/// Declares a [`Named`] enum. The description of a variant is its documentation; serde, `Display` and `FromStr` use the
/// names.
macro_rules! named_enum {
    (
        $(#[$attribute:meta])*
        pub enum $type:ident {
            $($(#[doc = $about:literal])+ $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[doc = $about])+ $variant,)+
        }

        impl $type {
            /// Every variant, in the order of their declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant,)+];
        }

        impl $crate::case::Named for $type {
            const ALL: &'static [$type] = $type::ALL;

            fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }

            fn about(self) -> String {
                let text = match self {
                    $($type::$variant => concat!($($about),+),)+
                };
                text.trim().to_owned()
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::case::Named::name(*self))
            }
        }

        impl std::str::FromStr for $type {
            type Err = String;

            fn from_str(name: &str) -> Result<$type, String> {
                $crate::case::Named::from_name(name)
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str($crate::case::Named::name(*self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                let name = <String as serde::Deserialize>::deserialize(deserializer)?;
                $crate::case::Named::from_name(&name).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use named_enum;
