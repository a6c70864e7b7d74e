//! The methods of a storage node.
//!
//! | method | what it does |
//! |---|---|
//! | `put` `get` `del` | one key, for who talks to the node itself: it numbers the write |
//! | `write` | one key, for who routes: a write with its version and what its writer had seen |
//! | `size` | how many keys, and who the node is: the heartbeat |
//! | `dump` | a page of keys in order, with versions, on request with values and tombstones |
//! | `apply` `fetch` `drop` | batches of what replicas hold: merge, read, forget |
//! | `census` `shed` | keys on some arcs of the ring: counted where they are, and forgotten where owners have them |
//! | `digests` `collect` | anti-entropy: what is held, in few numbers; forget tombstones that all have |
//! | `owe` `owed` `paid` | hinted handoff: remember, list, strike off what another node has missed |
//! | `freeze` `thaw` | a picture of the map at one version, to be read with `dump` |
//! | `claim` `adopt` `cluster` `release` | whom the node obeys, and what it knows of its cluster: see [`claim`](super::claim) |
//! | `stats` `compact` `log` | the engine seen from outside |
//!
//! Every reply leaves only when all that it tells is durable to the node's policy.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::blob::Blob;
use crate::causal::Context;
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::keyspace::KeyspaceName;
use crate::version::Version;

pub use super::census::{CensusReply, ShedReply, SortCount, Stretch};
pub use super::claim::{Claim, ClusterMap, ObeysReply, Reign};
pub use super::record::{Record, Sibling};

/// The answer to `put`, `del` and `write`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// `ok`; for a `del` of a key that was not there, `not_found` (its tombstone is stored).
    pub status: Status,
    /// The version written; when it was `superseded`, the greatest of those that are stored.
    pub version: Version,
    /// True when a write that has replaced this one was stored already, so that it changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
    /// How many other values are stored beside it now: writes that had not seen each other.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub siblings: usize,
}

/// A write as `write` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplicaWrite {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// What is to be held when nothing else is: one value or tombstone, and what it replaces.
    pub record: Record,
    /// Nodes that are to be owed this key, in the same durable step: they missed this write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owe: Vec<NodeId>,
}

/// How a batch of records came to a replica, as its log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    /// It was owed: hinted handoff.
    Hint,
    /// A read found that it was behind.
    Repair,
    /// Anti-entropy found it.
    Sync,
    /// The ring changed.
    Move,
}

/// A key of a keyspace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SpaceKey {
    /// The keyspace; absent: `default`.
    #[serde(default, skip_serializing_if = "KeyspaceName::is_default")]
    pub keyspace: KeyspaceName,
    /// The key.
    pub key: Blob,
}

/// What a node owes another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Debt {
    /// Whom.
    pub to: NodeId,
    /// So many keys.
    pub keys: u64,
    /// Bytes of the notes.
    pub bytes: u64,
    /// When the oldest note was made, in unix milliseconds.
    pub since_ms: u64,
    /// True when notes were thrown away, for there were too many or they were too old: anti-entropy has
    /// to find what they said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overflow: bool,
}

/// The answer to `owed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedReply {
    /// `ok`.
    pub status: Status,
    /// A page of keys, in order.
    pub keys: Vec<SpaceKey>,
    /// Give this as `after` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<SpaceKey>,
}

/// The answer to `digests`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigestsReply {
    /// `ok`.
    pub status: Status,
    /// The digests asked for, in order, as 16 hex digits each; 0 is of nothing and written `0`.
    pub digests: Vec<String>,
}

/// What `collect` is to do in one leaf of the digests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Collection {
    /// The leaf.
    pub leaf: u16,
    /// Only if this is its digest: nothing has changed since the replicas were found alike.
    pub digest: String,
    /// What counts as replaced from now on for keys of this leaf that are not held.
    pub floor: Context,
    /// The tombstones to forget.
    pub keys: Vec<Blob>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The answer to `get`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetReply {
    /// `ok` or `not_found`.
    pub status: Status,
    /// The value, when `ok`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// The version of the value, or of the tombstone that says the key was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// When the value expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was written, where the last write wins; absent elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<Stamp>,
    /// What was replaced. Absent: all of the version's line before it, and nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The other values that nothing has replaced, in the order of their versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub siblings: Vec<Sibling>,
}

impl GetReply {
    /// What the node holds for the key; `None`: nothing.
    #[must_use]
    pub fn into_record(self, key: Blob) -> Option<Record> {
        let Self { value, version, expires, stamp, context, siblings, .. } = self;
        let (deleted, version) = (value.is_none(), version?);
        Some(Record { key, value, deleted, version, expires, stamp, context, siblings })
    }
}

/// Whether a node's disk takes writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskState {
    /// It does.
    #[default]
    Ok,
    /// It has no room: puts are refused, reads and deletes go on.
    DiskFull,
    /// The file system is read-only: reads go on.
    ReadOnly,
}

impl DiskState {
    /// Whether the disk takes writes.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        *self == Self::Ok
    }
}

/// The answer to `size`: the heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SizeReply {
    /// `ok`.
    pub status: Status,
    /// Keys with a value.
    pub size: u64,
    /// Tombstones held beside them.
    pub tombstones: u64,
    /// The node's id.
    pub id: NodeId,
    /// The identity of its data directory; a wiped directory has another.
    pub uuid: String,
    /// Bytes in its log files.
    pub log_bytes: u64,
    /// Whether its disk takes writes.
    #[serde(default)]
    pub state: DiskState,
    /// What it owes other nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub debts: Vec<Debt>,
    /// The identity of the coordinator that it obeys; absent: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<String>,
    /// Under which epochs: see [`claim`](super::claim).
    #[serde(default)]
    pub reign: Reign,
}

/// The answer to `dump`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpReply {
    /// `ok`.
    pub status: Status,
    /// The records of this page in key order.
    pub items: Vec<Record>,
    /// When values were left out: of each item, the bytes of its key and values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<u64>,
    /// Give this as `after` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
}

/// What a page of `dump` is of, when not of what is there now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureAt {
    /// The picture, as `freeze` named it.
    pub picture: String,
    /// Of each key, the newest record up to this version.
    pub version: Version,
}

/// The answer to `freeze`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreezeReply {
    /// `ok`.
    pub status: Status,
    /// The name of the picture.
    pub picture: String,
}

/// The answer to what has nothing more to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneReply {
    /// `ok`.
    pub status: Status,
}

/// What `drop` may forget of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// The key.
    pub key: Blob,
    /// Without a context: only if exactly this version is stored, and nothing else.
    pub version: Version,
    /// With it: only if all that is stored, and all that it has replaced, is in this context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
}

/// The answer to `apply` and `drop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReply {
    /// `ok`.
    pub status: Status,
    /// How many records changed something; the others brought nothing new (`apply`) or had
    /// changed since (`drop`).
    pub changed: u64,
    /// Keys of which nothing is stored because all that came counts as deleted here (`apply`): their
    /// tombstones were collected. Whoever sent them should forget them, too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<Blob>,
}

/// The answer to `fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchReply {
    /// `ok`.
    pub status: Status,
    /// The records found. Fewer than asked for when keys are gone or the page budget is met.
    pub records: Vec<Record>,
}

/// The answer to `stats`: the engine's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStats {
    /// `ok`.
    pub status: Status,
    /// The node's id.
    pub id: NodeId,
    /// The identity of its data directory.
    pub uuid: String,
    /// The data directory.
    pub data: String,
    /// Process id.
    pub pid: u32,
    /// Durability policy.
    pub durability: String,
    /// Keys with a value.
    pub keys: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Bytes in snapshot and log segments.
    pub log_bytes: u64,
    /// Whether the disk takes writes.
    #[serde(default)]
    pub state: DiskState,
    /// Sequence number of the last record appended.
    pub sequence: u64,
    /// Sequence number up to which all is durable.
    pub durable: u64,
    /// Records replayed at start.
    pub replayed: u64,
    /// How long the replay took, in microseconds.
    pub replay_us: u64,
    /// Syncs of the log since start; `appends / syncs` is the mean group.
    pub syncs: u64,
    /// Records appended since start.
    pub appends: u64,
    /// Compactions finished since start.
    pub compactions: u64,
    /// Keys whose value expires at some time.
    #[serde(default)]
    pub expiring: u64,
    /// Values since start that had expired and were made tombstones.
    #[serde(default)]
    pub swept: u64,
    /// Keys with more than one value.
    #[serde(default)]
    pub conflicts: u64,
    /// Acknowledged writes since start that another, later by the clock, has pushed out (`lww`).
    #[serde(default)]
    pub discarded: u64,
    /// Tombstones since start that were collected.
    #[serde(default)]
    pub collected: u64,
    /// How long the last sync of the log took, in microseconds.
    #[serde(default)]
    pub last_sync_us: u64,
    /// Bytes of all values.
    #[serde(default)]
    pub value_bytes: u64,
    /// Bytes of all values as they are stored, some of them compressed.
    #[serde(default)]
    pub stored_bytes: u64,
    /// Values in memory.
    #[serde(default)]
    pub resident_values: u64,
    /// Bytes of these, as they are stored.
    #[serde(default)]
    pub resident_bytes: u64,
    /// Reads since start that found a value in memory.
    #[serde(default)]
    pub hits: u64,
    /// Reads since start that had to read a value back from the log.
    #[serde(default)]
    pub misses: u64,
    /// Values that left memory since start.
    #[serde(default)]
    pub evictions: u64,
    /// Seconds since the last compaction; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_compaction_s: Option<u64>,
    /// Why it ran: `operations`, `log`, `age`, `request` or `space`; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_compaction_reason: Option<String>,
}

/// The answer to `compact`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompactReply {
    /// `ok`.
    pub status: Status,
    /// Records written to the snapshot.
    pub records: u64,
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
}

/// The answer to `log`: lines of the log as they stand in the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogReply {
    /// `ok`.
    pub status: Status,
    /// The file the lines are from.
    pub file: String,
    /// Up to the asked number of last lines, oldest first.
    pub lines: Vec<String>,
}
