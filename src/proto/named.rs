//! Enumerations whose members have a name for the command line and a sentence for people, written down once: in their
//! documentation.

/// Defines a field-less enum with `ALL`, `statement`, `Display` (in kebab case) and `FromStr` (in any usual spelling).
macro_rules! named {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[doc = $doc:literal])+ $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        $vis enum $name {
            $($(#[doc = $doc])+ $variant,)*
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: [$name; [$(stringify!($variant)),*].len()] = [$($name::$variant),*];

            /// What it says, in prose.
            pub const fn statement(self) -> &'static str {
                match self {
                    $($name::$variant => concat!($($doc),+).trim_ascii(),)*
                }
            }
        }

        /// Its name in kebab case.
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&$crate::proto::named::kebab(&format!("{self:?}")))
            }
        }

        /// Accepts any usual spelling of its name; the error lists all names.
        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
                $name::ALL.into_iter().find(|one| plain(&format!("{one:?}")) == plain(text)).ok_or_else(|| {
                    let all: Vec<String> = $name::ALL.iter().map(ToString::to_string).collect();
                    format!("{text:?} is none of {}", all.join(", "))
                })
            }
        }
    };
}

pub(crate) use named;

/// `CamelCase` as `camel-case`.
pub(crate) fn kebab(camel: &str) -> String {
    let mut kebab = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}
