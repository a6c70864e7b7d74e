//! Names: the id of a node.
//!
//! A node id goes into data directories, log lines and terminal output, so it is restricted to
//! `[a-z0-9][a-z0-9-]{0,31}`: no separator, no escape sequence, no path can hide in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest node id, in bytes.
pub const NODE_ID_BYTES_MAX: usize = 32;

/// The id of a node: 1 to [`NODE_ID_BYTES_MAX`] of `a-z`, `0-9` and `-`, not starting with `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(std::sync::Arc<str>);

/// Why a text is no node id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no node id: use 1 to 32 of a-z, 0-9 and '-', starting with a letter or digit (n1)"
)]
pub struct BadNodeId(String);

impl NodeId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = BadNodeId;

    fn from_str(text: &str) -> Result<Self, BadNodeId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=NODE_ID_BYTES_MAX).contains(&text.len());
        if fits && text.bytes().all(allowed) && !text.starts_with('-') {
            Ok(Self(text.into()))
        } else {
            Err(BadNodeId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = BadNodeId;

    fn try_from(text: String) -> Result<Self, BadNodeId> {
        text.parse()
    }
}

impl From<NodeId> for String {
    fn from(id: NodeId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
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
