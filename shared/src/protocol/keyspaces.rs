//! Making, changing and dropping keyspaces.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::id::NodeId;
use crate::keyspace::{Keyspace, KeyspaceName, Policy};

/// The answer to `keyspace`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceReply {
    /// `ok`.
    pub status: Status,
    /// All keyspaces, or the one that was named.
    pub keyspaces: Vec<KeyspaceRow>,
    /// Keyspaces that were dropped, and of which nodes that were away may still hold something.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<DroppedKeyspace>,
}

/// A keyspace and what it promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceRow {
    /// What holds for its keys.
    #[serde(flatten)]
    pub keyspace: Keyspace,
    /// N in force, while another one waits for `rebalance`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_now: Option<usize>,
    /// What a reader and a writer can rely on, in words.
    pub guarantee: String,
}

/// What `keyspace` is to do with the one that is named. Absent members stay as they are, or, of a new
/// keyspace, as those of `default` at the start of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyspaceChange {
    /// It is to be made; there must be none of that name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub create: bool,
    /// It and all that is in it is to go.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drop: bool,
    /// N. For a keyspace that is there it waits for `rebalance`, as `setreplica`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<usize>,
    /// R.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<usize>,
    /// W.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<usize>,
    /// How conflicts are settled; only with `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Whether others may stand in for owners that are away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sloppy: Option<bool>,
    /// How long values live, in milliseconds; 0: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
}

/// A keyspace that was dropped, while not every node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedKeyspace {
    /// Its name: none of that name can be made until all have heard of it.
    pub name: KeyspaceName,
    /// Who has not heard of it; they are told when they are back.
    pub unheard: Vec<NodeId>,
}
