//! What a client needs to go straight to the owners: a picture of the cluster, lent for a while, and numbers.
//!
//! ```text
//!   lease  ──► the picture (ring, addresses, keyspaces), who is DOWN, and for how long that may be relied on
//!   number ──► versions for writes that the client is about to send; it tells, too, which ended, and how
//!   finish ──► a write that was numbered and did not go as usual: the coordinator carries it out to the end
//! ```
//!
//! While a picture is lent, the coordinator puts no other in force: it waits, as it waits for its own requests. So a
//! write that a client sends in its time goes to all who must have it, and a read meets those who do.
//!
//! # Caveats
//!
//! A change of the ring takes as much longer as the last lease lasts, or the last write of a client that has
//! died.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Status;
use super::claim::Reign;
use super::record::Record;
use crate::blob::Blob;
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::keyspace::{Keyspace, KeyspaceName};
use crate::ring::{Ring, Seat};
use crate::text::travels_as_text;
use crate::topology::{Placement, Topology};
use crate::version::Version;

/// The most writes in a `number`.
pub const NUMBERS_MAX: usize = 1024;

/// Which picture of the cluster: the how-manieth of which start of the coordinator, `3.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ViewId {
    /// The coordinator's epoch.
    pub epoch: u32,
    /// Grows with every change of members, placements or keyspaces.
    pub number: u64,
}

/// Why a text is no [`ViewId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} names no picture of the cluster: use the one that lease gave")]
pub struct BadViewId(String);

impl FromStr for ViewId {
    type Err = BadViewId;

    fn from_str(text: &str) -> Result<Self, BadViewId> {
        let bad = || BadViewId(text.to_owned());
        let (epoch, number) = text.split_once('.').ok_or_else(bad)?;
        let id = Self {
            epoch: epoch.parse().map_err(|_| bad())?,
            number: number.parse().map_err(|_| bad())?,
        };
        if id.to_string() == text { Ok(id) } else { Err(bad()) }
    }
}

impl fmt::Display for ViewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

travels_as_text!(ViewId);

/// The answer to `lease`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseReply {
    /// `ok`.
    pub status: Status,
    /// The picture that is lent.
    pub view: ViewId,
    /// For how many milliseconds, from the moment in which the client asked.
    pub lasts_ms: u64,
    /// How many milliseconds a request may take.
    pub timeout_ms: u64,
    /// After how many milliseconds a read asks one more replica.
    pub hedge_ms: u64,
    /// Nodes that are DOWN.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<NodeId>,
    /// The picture itself; absent when the client has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub map: Option<RouteMap>,
}

/// A picture of the cluster, as far as it matters for who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMap {
    /// The identity of the coordinator's directory.
    pub coordinator: String,
    /// Under which epochs nodes are to be asked.
    pub reign: Reign,
    /// Everybody on any ring that is in force.
    pub nodes: Vec<NodeAt>,
    /// The placement in force.
    pub current: PlacementRow,
    /// The one that is to follow, to which writes go, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<PlacementRow>,
    /// The keyspaces.
    pub keyspaces: Vec<Keyspace>,
}

/// Where a node is, and which it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAt {
    /// Its name.
    pub id: NodeId,
    /// Its address.
    pub addr: String,
    /// The identity of its data directory: what else answers there is not it.
    pub uuid: String,
}

/// What makes a [`Placement`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRow {
    /// Virtual nodes for each unit of weight.
    pub vnodes: u32,
    /// The members.
    pub members: BTreeMap<NodeId, Seat>,
    /// N of each keyspace.
    pub copies: BTreeMap<KeyspaceName, usize>,
}

impl From<&Placement> for PlacementRow {
    fn from(placement: &Placement) -> Self {
        let Placement { ring, copies } = placement;
        let (vnodes, members) = (ring.vnodes(), ring.members().clone());
        Self { vnodes, members, copies: copies.clone() }
    }
}

impl From<PlacementRow> for Placement {
    fn from(row: PlacementRow) -> Self {
        Self { ring: Ring::new(row.vnodes, row.members), copies: row.copies }
    }
}

impl RouteMap {
    /// The placements.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let pending = self.pending.clone().map(Placement::from);
        let current = self.current.clone().into();
        Topology { epoch: self.reign.ring, current, staged: None, pending }
    }
}

/// What a client wants numbered, and what became of earlier writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NumberAsk {
    /// The picture that the client goes by; if it is not in force any more, nothing is numbered.
    pub view: ViewId,
    /// The keyspace of the keys.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// The ring's position of each key that is to be written: at most [`NUMBERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positions: Vec<u64>,
    /// How many of them are deletes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deletes: u64,
    /// Writes that were acknowledged since, for those who watch: at most [`NUMBERS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledged: Vec<Acknowledged>,
    /// Groups of which every write has ended, by their first versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Version>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// A write that a client has acknowledged to its caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The keyspace.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Blob,
    /// The value; absent: a delete, or too large to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// Whether it was a delete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Its version.
    pub version: Version,
}

impl From<Acknowledged> for Record {
    fn from(write: Acknowledged) -> Self {
        let Acknowledged { key, value, deleted, version, .. } = write;
        Self { deleted, ..Self::new(key, value, version) }
    }
}

/// The answer to `number`: one group of writes, under way until the client says that it has ended, or
/// `within_ms` are over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberReply {
    /// `ok`.
    pub status: Status,
    /// The version of the first; the others follow one by one.
    pub first: Version,
    /// Where the last write wins: when each was written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stamps: Vec<Stamp>,
    /// When values of this keyspace expire that are put now, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What must be sent is sent, and answered, within so many milliseconds from the moment in which the client asked.
    pub within_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_named_by_canonical_text() {
        let id = ViewId { epoch: 3, number: 17 };
        assert_eq!(("3.17".parse(), id.to_string().as_str()), (Ok(id), "3.17"));
        for bad in ["", "3", "3.", "03.1", "3.+1", "3.1.1", "4294967296.1"] {
            assert!(bad.parse::<ViewId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_placement_survives_the_wire() {
        let ids =
            |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect::<Vec<NodeId>>();
        let seats = ids(&["n1", "n2", "n3"]).into_iter().map(|id| (id, 2));
        let ring = Ring::new(16, seats).replaced(&ids(&["n2"])[0], ids(&["n9"])[0].clone());
        let placement = Placement::new(ring, 2).with_n("clicks".parse().unwrap(), 3);
        let row = PlacementRow::from(&placement);
        let told: PlacementRow =
            serde_json::from_str(&serde_json::to_string(&row).unwrap()).unwrap();
        assert_eq!(Placement::from(told), placement);
    }
}
