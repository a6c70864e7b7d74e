//! Types that travel as their canonical text.

/// Lets a type be `#[serde(try_from = "String", into = "String")]`, by its `FromStr` and `Display`.
macro_rules! travels_as_text {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = <$name as std::str::FromStr>::Err;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

pub(crate) use travels_as_text;
