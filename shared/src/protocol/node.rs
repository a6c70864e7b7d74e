//! The methods of a storage node.
//!
//! | method | what it does |
//! |---|---|
//! | `put` `get` `del` | one key; a version makes a put or del *lose* to a newer stored one |
//! | `size` | how many keys, and who the node is: the heartbeat |
//! | `dump` | a page of keys in order, with versions, on request with values and tombstones |
//! | `apply` `fetch` `drop` | batches for rebalance: write by version, read records, forget |
//! | `freeze` `thaw` | a picture of the map at one version, to be read with `dump` |
//! | `stats` `compact` `log` | the engine seen from outside |
//!
//! Every reply leaves only when all that it tells is durable to the node's policy.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::blob::Blob;
use crate::id::NodeId;
use crate::version::Version;

/// What a replica holds for a key: a value, or the tombstone of a delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The key.
    pub key: Blob,
    /// The value; absent for a tombstone and in pages that were asked for without values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Blob>,
    /// True for a tombstone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// The version of the write.
    pub version: Version,
    /// When the value expires, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// The answer to `put` and `del`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WriteReply {
    /// `ok`; for a `del` of a key that was not there, `not_found` (its tombstone is stored).
    pub status: Status,
    /// The version that is stored now: the one written, or a newer one that it lost to.
    pub version: Version,
    /// True when a newer version was stored already and this write changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub superseded: bool,
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
}

/// The answer to `dump`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DumpReply {
    /// `ok`.
    pub status: Status,
    /// The records of this page in key order.
    pub items: Vec<Record>,
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

/// A key at a version: what `drop` may forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyVersion {
    /// The key.
    pub key: Blob,
    /// Only if exactly this version is stored.
    pub version: Version,
}

/// The answer to `apply` and `drop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReply {
    /// `ok`.
    pub status: Status,
    /// How many records changed something; the others lost to a newer version (`apply`) or had
    /// changed since (`drop`).
    pub changed: u64,
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
