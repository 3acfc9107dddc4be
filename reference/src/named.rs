//! Enums whose variants have a name each.

/// Declares an enum with `ALL`, `name`, `Display` and `FromStr`. `$what` is what an error calls it.
macro_rules! named {
    (
        $(#[$attribute:meta])*
        pub enum $type:ident, $what:literal {
            $($(#[$about:meta])+ $variant:ident = $name:literal,)+
        }
    ) => {
        $(#[$attribute])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
        pub enum $type {
            $($(#[$about])+ $variant,)+
        }

        impl $type {
            /// Every variant, in the order of their declaration.
            pub const ALL: &'static [$type] = &[$($type::$variant,)+];

            /// Its name in files.
            pub const fn name(self) -> &'static str {
                match self {
                    $($type::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::Error;

            fn from_str(name: &str) -> Result<$type, $crate::Error> {
                let known = $type::ALL.iter().find(|variant| variant.name() == name);
                known.copied().ok_or_else(|| $crate::Error::UnknownName {
                    what: $what,
                    expected: &[$($name,)+],
                    found: name.to_owned(),
                })
            }
        }
    };
}

pub(crate) use named;
