//! Keys on some arcs of the ring, counted where they are and forgotten where owners have them: how a rebalance asks nodes.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::blob::Blob;
use crate::keyspace::KeyspaceName;
use crate::merkle::Digest;
use crate::told::Told;

/// Keys between two keys of a keyspace that lie on some arcs of the ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stretch {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// Only keys after this one; absent: from the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Blob>,
    /// And none after this one; absent: to the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Blob>,
    /// Those on arcs of a sort other than 0.
    pub arcs: Told,
}

/// The answer to `census`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CensusReply {
    /// `ok`.
    pub status: Status,
    /// Each sort of which there is a key, ascending.
    pub sorts: Vec<SortCount>,
    /// If it was asked for: of each key what is held of it, as 16 hex digits, side by side in key order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marks: Option<String>,
    /// So many keys were looked at that it ends here, and there are more: those after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reached: Option<Blob>,
}

/// What is held of a sort, tombstones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SortCount {
    /// The sort.
    pub sort: u16,
    /// Keys.
    pub keys: u64,
    /// Bytes of these and all their values.
    pub bytes: u64,
    /// The sum of what is held of each.
    pub digest: Digest,
}

/// The answer to `shed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShedReply {
    /// `ok`.
    pub status: Status,
    /// Keys that were forgotten.
    pub changed: u64,
    /// Keys of the stretch that stay, for something else is held of them.
    pub left: u64,
}
