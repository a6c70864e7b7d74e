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
use crate::text::travels_as_text;

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

    /// Whether a text is such a name.
    #[must_use]
    pub fn is_spelled(text: &str) -> bool {
        NodeId::is_spelled(text)
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

travels_as_text!(KeyspaceName);

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
        let mut sentences = vec![self.meeting(), self.going_on()];
        if self.policy == Policy::Lww {
            sentences.push(
                "Of concurrent acknowledged writes only one is kept, the last by the clock."
                    .to_owned(),
            );
        }
        sentences.join(" ")
    }

    /// Whether a read meets the last acknowledged write.
    fn meeting(&self) -> String {
        let Self { n, r, w, .. } = self;
        if self.sloppy {
            return "Others may stand in for owners: a read may miss the last acknowledged write until \
                    it is handed over."
                .to_owned();
        }
        if r + w > *n {
            return format!(
                "R+W>N ({r}+{w}>{n}): a read meets the last acknowledged write; not linearizable."
            );
        }
        format!("R+W<=N ({r}+{w}<={n}): a read may miss the last acknowledged write.")
    }

    /// How many copies may be away.
    fn going_on(&self) -> String {
        let Self { n, r, w, .. } = *self;
        let with = |away: usize| match away {
            0 if n == 1 => "need the only copy".to_owned(),
            0 => format!("need all {n} copies"),
            away => format!("go on with {away} of {n} copies away"),
        };
        let reads = with(n.saturating_sub(r));
        if self.sloppy {
            let nodes =
                if w == 1 { "any node is".to_owned() } else { format!("any {w} nodes are") };
            return format!("Reads {reads}, writes go on while {nodes} up.");
        }
        let writes = with(n.saturating_sub(w));
        if reads == writes {
            return format!("Reads and writes {reads}.");
        }
        format!("Reads {reads}, writes {writes}.")
    }
}

/// Names for pairs of R and W that people mean.
///
/// They are taken when they are set: when N changes later, R and W stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// A majority of both: a read meets the last acknowledged write.
    StrongRead,
    /// R=1 W=N: reads are fast and current, a write needs all copies.
    ReadHeavy,
    /// R=N W=1: writes are fast, a read needs all copies.
    WriteHeavy,
    /// R=1 W=1, and others stand in for owners: nothing waits for anybody.
    Available,
}

impl Preset {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::StrongRead, Self::ReadHeavy, Self::WriteHeavy, Self::Available];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StrongRead => "strong-read",
            Self::ReadHeavy => "read-heavy",
            Self::WriteHeavy => "write-heavy",
            Self::Available => "available",
        }
    }

    /// R, W and whether others stand in, of `n` copies.
    #[must_use]
    pub const fn quorums(self, n: usize) -> (usize, usize, bool) {
        match self {
            Self::StrongRead => (n / 2 + 1, n / 2 + 1, false),
            Self::ReadHeavy => (1, n, false),
            Self::WriteHeavy => (n, 1, false),
            Self::Available => (1, 1, true),
        }
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|preset| preset.name() == text);
        known.ok_or_else(|| format!("{text:?} is no preset"))
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

    fn keyspace(n: usize, r: usize, w: usize) -> Keyspace {
        Keyspace { n, r, w, ..Keyspace::new(KeyspaceName::default()) }
    }

    #[test]
    fn what_can_be_relied_on_is_said() {
        let meets = "a read meets the last acknowledged write; not linearizable.";
        let may_miss = "a read may miss the last acknowledged write.";
        let table = [
            ((1, 1, 1), format!("R+W>N (1+1>1): {meets} Reads and writes need the only copy.")),
            (
                (3, 2, 2),
                format!("R+W>N (2+2>3): {meets} Reads and writes go on with 1 of 3 copies away."),
            ),
            (
                (3, 1, 3),
                format!(
                    "R+W>N (1+3>3): {meets} Reads go on with 2 of 3 copies away, writes need all 3 copies."
                ),
            ),
            (
                (3, 3, 1),
                format!(
                    "R+W>N (3+1>3): {meets} Reads need all 3 copies, writes go on with 2 of 3 copies away."
                ),
            ),
            (
                (2, 1, 1),
                format!(
                    "R+W<=N (1+1<=2): {may_miss} Reads and writes go on with 1 of 2 copies away."
                ),
            ),
            (
                (5, 2, 3),
                format!(
                    "R+W<=N (2+3<=5): {may_miss} Reads go on with 3 of 5 copies away, writes go on with 2 of 5 copies away."
                ),
            ),
        ];
        for ((n, r, w), said) in table {
            assert_eq!(keyspace(n, r, w).guarantee(), said);
        }
        let sloppy = |w| Keyspace { sloppy: true, ..keyspace(3, 2, w) }.guarantee();
        let stands_in = "Others may stand in for owners: a read may miss the last acknowledged write until it is handed over. Reads go on with 1 of 3 copies away, writes go on while";
        assert_eq!(sloppy(1), format!("{stands_in} any node is up."));
        assert_eq!(sloppy(2), format!("{stands_in} any 2 nodes are up."));
        let lww = Keyspace { policy: Policy::Lww, ..keyspace(2, 2, 2) }.guarantee();
        let kept = "Of concurrent acknowledged writes only one is kept, the last by the clock.";
        assert_eq!(
            lww,
            format!("R+W>N (2+2>2): {meets} Reads and writes need all 2 copies. {kept}")
        );
    }

    #[test]
    fn presets_keep_what_their_names_promise() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        assert!("strong".parse::<Preset>().is_err());
        for n in 1..=7 {
            for preset in [Preset::StrongRead, Preset::ReadHeavy, Preset::WriteHeavy] {
                let (r, w, sloppy) = preset.quorums(n);
                assert!(!sloppy && (1..=n).contains(&r) && (1..=n).contains(&w) && r + w > n);
            }
            assert_eq!(Preset::ReadHeavy.quorums(n), (1, n, false));
            assert_eq!(Preset::WriteHeavy.quorums(n), (n, 1, false));
            assert_eq!(Preset::Available.quorums(n), (1, 1, true));
        }
        assert_eq!(Preset::StrongRead.quorums(2), (2, 2, false));
        assert_eq!(Preset::StrongRead.quorums(3), (2, 2, false));
        assert_eq!(Preset::StrongRead.quorums(4), (3, 3, false));
    }
}
