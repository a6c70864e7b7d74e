//! Reading and writing keys through whoever routes: options and answers.

use serde::{Deserialize, Serialize};

use super::Status;
use super::record::Record;
use crate::blob::Blob;
use crate::causal::Context;
use crate::failure::Failure;
use crate::id::NodeId;
use crate::keyspace::KeyspaceName;
use crate::version::Version;

/// How a write is to be done. Every member may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteOptions {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// W for this write, 1 to N.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub w: Option<usize>,
    /// How long the value lives, in milliseconds; 0: for ever; absent: as the keyspace says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// What the writer has seen: what the write replaces. Absent: all that this coordinator and those
    /// before it have taken for the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// Only if a read finds exactly this version and nothing beside it. Best effort: two such writes
    /// at once may both succeed, and are siblings then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<Version>,
    /// Only if a read finds no value. Best effort, likewise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub if_absent: bool,
    /// A name for this write, 1 to 64 bytes: the same write under the same name, within ten minutes and
    /// while the coordinator runs, is one write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Whether others may stand in for owners that are away; absent: as the keyspace says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sloppy: Option<bool>,
    /// How long to wait for the other replicas after the write is acknowledged, in milliseconds, so that
    /// the answer can tell of them; absent: as the coordinator is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linger_ms: Option<u64>,
    /// Tell how it was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explain: bool,
}

/// How a read is to be done. Every member may be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadOptions {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// R for this read, 1 to N.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r: Option<usize>,
    /// Tell how it was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub explain: bool,
}

/// What became of a request at one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaOutcome {
    /// Durable there.
    Ok,
    /// Nothing was sent: the node is down or cannot be reached.
    Unreachable,
    /// The node refused it; certainly not applied there.
    Refused,
    /// Sent, and no answer in time: it may or may not be there.
    Unknown,
    /// Sent, and no answer yet; enough others have answered.
    Pending,
}

/// One replica's part in a write or read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaReport {
    /// Which node.
    pub node: NodeId,
    /// What became of it there.
    pub outcome: ReplicaOutcome,
    /// The node's own answer as it came over the wire, when there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<serde_json::Value>,
    /// Why not, in words, when `outcome` is not `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The owner that this node stands in for, being none itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_in_for: Option<NodeId>,
    /// Who remembers that this owner missed the write, and hands it over later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hinted_at: Option<NodeId>,
    /// How long its answer took, in microseconds; only when the request is explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// How long the last sync of its log took, in microseconds; only when the request is explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_us: Option<u64>,
}

impl ReplicaReport {
    /// What became of it at a node, and no more.
    #[must_use]
    pub const fn new(node: NodeId, outcome: ReplicaOutcome) -> Self {
        let (reply, why, stands_in_for, hinted_at) = (None, None, None, None);
        let (took_us, sync_us) = (None, None);
        Self { node, outcome, reply, why, stands_in_for, hinted_at, took_us, sync_us }
    }
}

/// The answer to `put` and `del`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterWrite {
    /// `ok`; for `del` of a key that no replica had, `not_found`.
    pub status: Status,
    /// The key.
    pub key: Blob,
    /// The version this write got.
    pub version: Version,
    /// What its writer has seen now: the context for the next write. Absent: the version, which is a
    /// context, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// How many other values the key has beside this one: writes that had not seen each other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub siblings: usize,
    /// When the value expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// Every owner in preference order, with what became of the write there; then those who stand in.
    pub replicas: Vec<ReplicaReport>,
    /// How it was done, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<Explanation>,
}

/// The answer to `get`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterGet {
    /// `ok` or `not_found`. Nobody answering is an error, never `not_found`.
    pub status: Status,
    /// The key.
    pub key: Blob,
    /// The value, when `ok`; of several, the one with the greatest version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// Its version, or that of the tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// When it expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What the reader has seen: the context for a write that replaces all of it. Absent: the
    /// version, which is a context, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// All values, when there are several: writes that had not seen each other. In the order of
    /// their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<SiblingValue>,
    /// Who gave the answer; for `not_found`, the last who said so; of several, the first.
    pub from: NodeId,
    /// How many replicas had to answer; absent: 1, asked one after another.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub needed: usize,
    /// The other replicas asked, in order: `ok` has answered, too (in a read of one: has no copy), the others did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<ReplicaReport>,
    /// How it was done, when asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explained: Option<Explanation>,
}

/// One of several values of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiblingValue {
    /// The value.
    pub value: Blob,
    /// The version of its write.
    pub version: Version,
    /// When it expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

impl SiblingValue {
    /// The values of a record, in the order of their versions; none of a tombstone.
    #[must_use]
    pub fn of(record: &Record) -> Vec<Self> {
        let live = record.values().filter_map(|sibling| {
            let (version, expires) = (sibling.version, sibling.expires);
            sibling.value.map(|value| Self { value, version, expires })
        });
        live.collect()
    }
}

/// How a request was done, step by step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// The key's position on the ring, 16 hex digits.
    pub hash: String,
    /// The first token at or after it, 16 hex digits.
    pub token: String,
    /// N.
    pub n: usize,
    /// The owners in preference order.
    pub owners: Vec<NodeId>,
    /// Tokens and nodes that were passed over on the way round the ring, in order, and why.
    pub skipped: Vec<Skipped>,
    /// How many had to answer, of each placement: R or W.
    pub needed: usize,
    /// Every replica that was asked, in the order in which they were asked.
    pub replicas: Vec<ReplicaReport>,
    /// When enough had answered, in microseconds from the start; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub met_us: Option<u64>,
    /// When the answer left, in microseconds from the start.
    pub answered_us: u64,
    /// What was done besides, in words: hints, repairs.
    pub besides: Vec<String>,
    /// What a reader and a writer of the keyspace can rely on, in words.
    pub guarantee: String,
}

/// A candidate of the ring that a key did not go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The token, 16 hex digits.
    pub token: String,
    /// Whose it is.
    pub node: NodeId,
    /// Why it was passed over: `is an owner already`, `is DOWN`.
    pub why: String,
}

/// A key and what to put there, of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The key.
    pub key: Blob,
    /// The value.
    pub value: Blob,
}

/// What became of one write of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchWrite {
    /// It is done.
    Done(Box<ClusterWrite>),
    /// It is not, or nobody knows.
    Failed {
        /// The key.
        key: Blob,
        /// Why.
        error: Failure,
    },
}

/// What came of one read of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BatchGet {
    /// It was answered.
    Done(Box<ClusterGet>),
    /// It was not.
    Failed {
        /// The key.
        key: Blob,
        /// Why.
        error: Failure,
    },
}

/// A write that was acknowledged, as `changes` tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Blob,
    /// The value; absent for a delete, and for a value over 4 KiB, which is to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// True for a delete.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The version of the write.
    pub version: Version,
    /// When it was acknowledged, in unix milliseconds.
    pub at_ms: u64,
    /// Give this to go on behind it.
    pub position: String,
}

/// The answer to `changes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangesReply {
    /// `ok`.
    pub status: Status,
    /// In the order in which they were acknowledged.
    pub changes: Vec<Change>,
    /// Give this as `after` to go on.
    pub position: String,
    /// True when some after the given position are not kept any more, or the position is of
    /// another coordinator: who wants all has to scan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missed: bool,
}

const fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
