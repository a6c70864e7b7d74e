//! Names: the id of a node, and the zone it stands in.
//!
//! Both go into data directories, log lines and terminal output, so they are restricted to
//! `[a-z0-9][a-z0-9-]{0,31}`: no separator, no escape sequence, no path can hide in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::travels_as_text;

/// The longest node id or zone, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 32;

/// A type of plain names, and the error for a text that is none.
macro_rules! plain_name {
    ($(#[$doc:meta])* $name:ident, $bad:ident, $what:literal, $example:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(std::sync::Arc<str>);

        #[doc = concat!("Why a text is no ", $what, ".")]
        #[derive(Debug, thiserror::Error, PartialEq, Eq)]
        #[error(
            "{0:?} is no {what}: use 1 to 32 of a-z, 0-9 and '-', starting with a letter or digit ({example})",
            what = $what, example = $example
        )]
        pub struct $bad(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether a text is one.
            #[must_use]
            pub fn is_spelled(text: &str) -> bool {
                is_plain(text)
            }
        }

        impl FromStr for $name {
            type Err = $bad;

            fn from_str(text: &str) -> Result<Self, $bad> {
                if is_plain(text) { Ok(Self(text.into())) } else { Err($bad(text.to_owned())) }
            }
        }

        travels_as_text!($name);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

plain_name!(
    /// The id of a node: 1 to [`NODE_ID_BYTES_MAX`] of `a-z`, `0-9` and `-`, not starting with `-`.
    NodeId, BadNodeId, "node id", "n1"
);
plain_name!(
    /// What fails together: a rack, a room, a machine. Spelled as a [`NodeId`] is.
    Zone, BadZone, "zone", "rack-a"
);

fn is_plain(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let fits = (1..=NODE_ID_BYTES_MAX).contains(&text.len());
    fits && text.bytes().all(allowed) && !text.starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_names() {
        for good in ["n1", "0", "rack-7-b", &"a".repeat(32)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
        for bad in ["", "-n", "N1", "a/b", "..", "a b", "n\u{1b}", "é", &"a".repeat(33)] {
            assert!(bad.parse::<NodeId>().is_err(), "{bad:?}");
        }
    }
}
