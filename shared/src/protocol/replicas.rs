//! Looking at the replicas of a key, or of all keys, side by side.

use serde::{Deserialize, Serialize};

use super::Status;
use super::node::Record;
use crate::blob::Blob;
use crate::id::NodeId;
use crate::keyspace::KeyspaceName;

/// One replica's copy of a key, as `get --all` and `where` show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaCopy {
    /// Which node.
    pub node: NodeId,
    /// The record there; absent when the node has none or did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Why the node did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer to `where` (and, with values, to `get --all`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhereReply {
    /// `ok`.
    pub status: Status,
    /// The key.
    pub key: Blob,
    /// Its position on the ring, 16 hex digits.
    pub hash: String,
    /// The first token at or after it, 16 hex digits.
    pub token: String,
    /// Its owners in preference order.
    pub owners: Vec<NodeId>,
    /// Its owners after the change that is staged or pending, when there is one and they differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending_owners: Vec<NodeId>,
    /// What each node that may hold it has: owners first, then every other node that has a copy.
    pub copies: Vec<ReplicaCopy>,
}

/// How far a check of the replicas against each other is, or how the last one ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// `ok`.
    pub status: Status,
    /// Which keyspace.
    pub keyspace: KeyspaceName,
    /// Keys on which the owners differ.
    pub different: u64,
    /// The first 100 of them, each with who lacks what.
    pub examples: Vec<String>,
    /// Copies made.
    pub repaired: u64,
    /// Copies that could not be made.
    pub failed: u64,
    /// Copies that were forgotten, for they were at no owner, or counted as deleted.
    #[serde(default)]
    pub dropped: u64,
    /// Tombstones that all owners have forgotten.
    #[serde(default)]
    pub collected: u64,
    /// Leaves compared, of 65,536.
    pub leaves: u64,
    /// Bytes that were moved to find and mend it.
    pub bytes: u64,
    /// Nodes that did not answer: their copies were not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<NodeId>,
}

/// The answer to `why`: the lineage of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReply {
    /// `ok`.
    pub status: Status,
    /// The key.
    pub key: Blob,
    /// In one sentence: why it is there, or why it is gone.
    pub verdict: String,
    /// Its owners.
    pub owners: Vec<NodeId>,
    /// What each node that has or had it tells.
    pub replicas: Vec<Lineage>,
    /// What stands against collecting its tombstone; empty when nothing does, or when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<String>,
}

/// What one replica tells of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The node.
    pub node: NodeId,
    /// What is held there now, without values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Record>,
    /// Its log's lines about the key, oldest first, in words: `1.2 put, through the coordinator`.
    pub lines: Vec<String>,
    /// Why the node did not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
