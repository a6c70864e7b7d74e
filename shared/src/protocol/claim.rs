//! Whom a node obeys, and what it knows of its cluster.
//!
//! A coordinator *claims* a node on every new connection, under its own epoch, which grows with every start. The
//! node writes down whom it obeys, and from then on refuses (`STALE_EPOCH`) whatever comes with a lower epoch, or
//! under an older ring than it was told of. Every request of a coordinator has both numbers, beside `method`:
//!
//! ```text
//! {"jsonrpc":"2.0","id":7,"epoch":"3.12","method":"write","params":[…]}
//! ```
//!
//! 3 is the coordinator's epoch, 12 the ring's. A node obeys one coordinator: the one that claimed it first, by
//! the identity of its data directory. Another gets it only when it says that it takes over from that one, as a
//! coordinator does that was rebuilt (`--recover`) from the *maps* that nodes were told.
//!
//! # Caveats
//!
//! A request without an epoch is one of a person at the node's own port, and is obeyed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Status;

use crate::text::travels_as_text;

/// Under which coordinator and which ring a request was made: `3.12`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reign {
    /// The coordinator's epoch: how often one of this cluster has started.
    pub coordinator: u32,
    /// The ring's epoch.
    pub ring: u64,
}

/// Why a text is no [`Reign`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no epoch: the coordinator's and the ring's, as in 3.12")]
pub struct BadReign(String);

impl fmt::Display for Reign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.coordinator, self.ring)
    }
}

impl FromStr for Reign {
    type Err = BadReign;

    fn from_str(text: &str) -> Result<Self, BadReign> {
        let parse = || {
            let (coordinator, ring) = text.split_once('.')?;
            Some(Self { coordinator: number(coordinator)?, ring: number(ring)? })
        };
        parse().ok_or_else(|| BadReign(text.to_owned()))
    }
}

/// A number as it is written: without a sign and leading zeros.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let is_canonical = text == "0" || !text.starts_with(['0', '+', '-']);
    is_canonical.then(|| text.parse().ok())?
}

travels_as_text!(Reign);

/// A coordinator that wants to be obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The node that is meant, by the identity of its data directory; any other refuses.
    pub node: String,
    /// The identity of the coordinator's data directory.
    pub coordinator: String,
    /// Its epoch.
    pub epoch: u32,
    /// The coordinators that it takes over from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// The cluster as its coordinator tells it: lines of its log that make the same state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterMap {
    /// The ring's epoch in it.
    pub ring_epoch: u64,
    /// The lines, each with its newline and no other control character; at most
    /// [`MAP_BYTES_MAX`](crate::limits::MAP_BYTES_MAX).
    pub lines: std::sync::Arc<str>,
}

/// The answer to `claim`, `adopt` and `cluster`: whom the node obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObeysReply {
    /// `ok`.
    pub status: Status,
    /// The coordinator's identity; absent: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
    /// Its epoch, and that of the newest ring the node was told of in it, or 0; requests under older ones are
    /// refused.
    pub reign: Reign,
    /// Under which epochs the node was told what it was told last. Of several maps, the one told under the
    /// greatest is the newest.
    #[serde(default)]
    pub told: Reign,
    /// What it was told last, in the answer to `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<ClusterMap>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reign_is_canonical_text() {
        for (text, coordinator, ring) in [
            ("3.12", 3, 12),
            ("0.0", 0, 0),
            ("4294967295.18446744073709551615", u32::MAX, u64::MAX),
        ] {
            let reign = Reign { coordinator, ring };
            assert_eq!((text.parse(), reign.to_string()), (Ok(reign), text.to_owned()));
        }
        let bad =
            ["", ".", "3", "3.", ".3", "03.1", "3.01", "00.1", "3.1.2", "+3.1", "-0.1", "3.-1"];
        for bad in bad.into_iter().chain([" 3.1", "3.1 ", "4294967296.1", "3.a"]) {
            assert!(bad.parse::<Reign>().is_err(), "{bad:?}");
        }
    }
}
