//! Keyspaces: sets of keys, each with its own number of copies, quorums, way of settling conflicts and time
//! to live.
//!
//! The same key in two keyspaces is two keys, at one position of the ring. `default` is always
//! there, and all that names no keyspace is in it.
//!
//! # Caveats
//!
//! How conflicts are settled is fixed when a keyspace is made: values that were written under one
//! rule mean nothing under the other.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{BadNodeId, NodeId};

/// The name of a keyspace: what may be the name of a node may be that of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyspaceName(NodeId);

/// Why a text is no name of a keyspace.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no name of a keyspace: use 1 to 32 of a-z, 0-9 and '-', starting with a letter or digit"
)]
pub struct BadKeyspaceName(String);

impl KeyspaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is the keyspace of all that names none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.as_str() == "default"
    }
}

/// A map by name can be asked with a text; both have one order.
impl Borrow<str> for KeyspaceName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Default for KeyspaceName {
    fn default() -> Self {
        Self("default".parse().expect("a name as any other"))
    }
}

impl FromStr for KeyspaceName {
    type Err = BadKeyspaceName;

    fn from_str(text: &str) -> Result<Self, BadKeyspaceName> {
        text.parse().map(Self).map_err(|_: BadNodeId| BadKeyspaceName(text.to_owned()))
    }
}

impl TryFrom<String> for KeyspaceName {
    type Error = BadKeyspaceName;

    fn try_from(text: String) -> Result<Self, BadKeyspaceName> {
        text.parse()
    }
}

impl From<KeyspaceName> for String {
    fn from(name: KeyspaceName) -> Self {
        name.as_str().to_owned()
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How writes that knew nothing of each other are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// All are kept, until a write that has seen them replaces them.
    #[default]
    Siblings,
    /// The last one by the clock is kept, the others are counted and gone.
    Lww,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Siblings => "siblings",
            Self::Lww => "lww",
        })
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "siblings" => Ok(Self::Siblings),
            "lww" => Ok(Self::Lww),
            _ => Err(format!("{text:?} is no policy: use siblings or lww")),
        }
    }
}

/// What holds for all keys of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// N: copies of each key, at least 1. A change of it waits for `rebalance`; this is the newest.
    pub n: usize,
    /// R: replicas that must answer a read, at least 1 and at most N.
    pub r: usize,
    /// W: replicas that must have a write before it is acknowledged, at least 1 and at most N.
    pub w: usize,
    /// How conflicts are settled.
    pub policy: Policy,
    /// Whether another node may keep a write for an owner that is away, and count towards W.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sloppy: bool,
    /// How long values live that are put without a time of their own, in milliseconds; absent: for
    /// ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

impl Keyspace {
    /// A keyspace with one copy of each key.
    #[must_use]
    pub fn new(name: KeyspaceName) -> Self {
        Self { name, n: 1, r: 1, w: 1, policy: Policy::Siblings, sloppy: false, ttl_ms: None }
    }
}

impl Keyspace {
    /// What a reader and a writer can rely on, in words.
    #[must_use]
    pub fn guarantee(&self) -> String {
        let Self { n, r, w, sloppy, .. } = self;
        let meets = if *sloppy {
            "others may stand in for owners: a read may miss the last acknowledged write".to_owned()
        } else if r + w > *n {
            format!(
                "R+W>N ({r}+{w}>{n}): a read meets the last acknowledged write; not linearizable"
            )
        } else {
            format!("R+W<=N ({r}+{w}<={n}): a read may miss the last acknowledged write")
        };
        match n - w {
            0 => format!("{meets}; a write needs all {n} copies"),
            1 => format!("{meets}; a write needs all but 1 of {n} copies"),
            away => format!("{meets}; a write needs all but {away} of {n} copies"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(KeyspaceName::default().is_default());
        for bad in ["", "A", "-a", "a b", "../x", "a\0b"] {
            assert!(bad.parse::<KeyspaceName>().is_err(), "{bad:?}");
        }
    }
}
