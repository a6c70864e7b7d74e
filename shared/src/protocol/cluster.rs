//! The methods of the coordinator, named as the commands of the `kv` shell.

use serde::{Deserialize, Serialize};

use super::Status;
use super::node::{DiskState, Record};
use crate::blob::Blob;
use crate::id::{NodeId, Zone};
use crate::version::Version;

pub use super::change::{
    BalanceRow, ChangeReply, Difference, LinkPlan, LinkReport, NarrationLine, PlanReply,
    RebalanceReport, RebalanceState, RebalanceStep, Stage,
};
pub use super::keyspaces::{DroppedKeyspace, KeyspaceChange, KeyspaceReply, KeyspaceRow};
pub use super::outlook::{
    DoctorReply, Finding, Outage, ProbeRow, Severity, Supposition, WhatIfReply, WhyDownReply,
};
pub use super::replicas::{CheckReport, Lineage, ReplicaCopy, WhereReply, WhyReply};

pub use super::data::{
    BatchGet, BatchWrite, Change, ChangesReply, ClusterGet, ClusterWrite, Explanation, Item,
    ReadOptions, ReplicaOutcome, ReplicaReport, SiblingValue, Skipped, WriteOptions,
};

/// What the failure detector thinks of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Health {
    /// It answers.
    Up,
    /// It missed at least one heartbeat, not yet enough to be called down.
    Suspect,
    /// It missed so many that requests go to other replicas first.
    Down,
}

/// One line of `show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// The node.
    pub id: NodeId,
    /// Its address.
    pub addr: String,
    /// What the detector thinks.
    pub health: Health,
    /// On the ring now, joining at the next rebalance, or leaving with it.
    pub membership: Membership,
    /// Units of virtual nodes: weight 1 is 256 of them, unless the ring was made with another
    /// number.
    pub weight: u32,
    /// Its zone, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// The ring epoch it knows, when that is not the coordinator's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_epoch: Option<u64>,
    /// Its share of the ring as primary, 0 to 1.
    pub share: f64,
    /// Keys it holds, when it last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<u64>,
    /// Bytes in its log, when it last told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
    /// Milliseconds since its last answer; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// Whether its disk takes writes, when it last told.
    #[serde(default, skip_serializing_if = "DiskState::is_ok")]
    pub disk: DiskState,
    /// The last error, when it is not up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// True when another data directory answers at its address: it was wiped, or the address is
    /// another node's now. `error` says which. Nothing is sent there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stranger: bool,
}

/// Where a node stands between the current ring and the pending one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// On the current ring, and on the pending one if there is one.
    Member,
    /// Only on the pending ring: gets its data from the next rebalance.
    Joining,
    /// Only on the current ring: keeps its data until the next rebalance is through.
    Leaving,
}

/// The answer to `show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShowReply {
    /// `ok`.
    pub status: Status,
    /// One row a node, in id order.
    pub nodes: Vec<NodeRow>,
    /// The ring epoch.
    pub epoch: u64,
    /// N of the current ring.
    pub replication: usize,
    /// N after the pending change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_replication: Option<usize>,
    /// True while a change waits for `rebalance`, or is being carried out.
    pub pending: bool,
    /// How far the change is.
    #[serde(default)]
    pub stage: Stage,
    /// The keyspaces, when there are others than `default`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keyspaces: Vec<KeyspaceRow>,
    /// That nodes obey another coordinator, so that this one serves no more: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

/// The answer to `stats`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatsReply {
    /// `ok`.
    pub status: Status,
    /// Members of the cluster.
    pub nodes: usize,
    /// Of them, how many are up.
    pub up: usize,
    /// Keys in the cluster, of all keyspaces, each once.
    pub keys: u64,
    /// Whether `keys` was counted. Else it is an estimate, from the copies (in a cluster too large
    /// to count now) or from those that nodes which answered have.
    pub keys_exact: bool,
    /// Copies of keys over all nodes that answered.
    pub copies: u64,
    /// `copies` over the nodes that answered.
    pub avg_keys_per_node: f64,
    /// The fullest node over the mean; 1.0 is perfect balance.
    pub max_over_avg: f64,
    /// N.
    pub replication: usize,
    /// The ring epoch.
    pub epoch: u64,
    /// The coordinator's own epoch: how often it has started.
    pub coordinator_epoch: u32,
    /// Requests since the coordinator started.
    pub puts: u64,
    /// Likewise.
    pub gets: u64,
    /// Likewise.
    pub dels: u64,
    /// Writes that fewer than N owners took.
    pub partial_writes: u64,
    /// How long after the acknowledgement the last owner had a write, in microseconds: the 99th
    /// percentile of the last 1,024 writes that all owners took; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_p99_us: Option<u64>,
    /// The longest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_max_us: Option<u64>,
    /// Keys that are owed to nodes which missed a write: hints that wait.
    #[serde(default)]
    pub hints: u64,
    /// Nodes whose hints were thrown away, for there were too many or they were too old:
    /// anti-entropy has to find what they missed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hints_lost: Vec<NodeId>,
    /// Keys handed over since the coordinator started.
    #[serde(default)]
    pub handed_over: u64,
    /// Reads in which one more replica was asked because somebody was slow.
    #[serde(default)]
    pub hedged: u64,
    /// Keys on which replicas were found to differ, by reads and by anti-entropy.
    #[serde(default)]
    pub divergences: u64,
    /// Copies made to mend that.
    #[serde(default)]
    pub repairs: u64,
    /// Keys with more than one value, at the nodes that answered.
    #[serde(default)]
    pub conflicts: u64,
    /// Acknowledged writes that a later one by the clock has pushed out, at the nodes that answered.
    #[serde(default)]
    pub discarded: u64,
    /// Tombstones at the nodes that answered.
    #[serde(default)]
    pub tombstones: u64,
    /// Tombstones collected since the nodes started.
    #[serde(default)]
    pub collected: u64,
    /// How long ago the part of the ring was verified whose turn is longest ago, in milliseconds: all
    /// replicas were alike then; absent while one never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified_ms: Option<u64>,
    /// Nodes that did not answer just now, so that the figures leave them out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<NodeId>,
}

/// One arc of the ring for drawing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRow {
    /// The token, 16 hex digits.
    pub token: String,
    /// Whose it is.
    pub node: NodeId,
}

/// The answer to `ring`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RingReply {
    /// `ok`.
    pub status: Status,
    /// The ring epoch.
    pub epoch: u64,
    /// N.
    pub replication: usize,
    /// The drawing: who owns how much, one line a node, and the circle unrolled.
    pub drawing: String,
    /// Every token in order, when asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenRow>,
}

/// The answer to `freeze`: a picture of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterFreeze {
    /// `ok`.
    pub status: Status,
    /// The name of the picture.
    pub picture: String,
    /// It has all writes up to this version, and none after it.
    pub version: Version,
    /// When that was, in unix milliseconds.
    pub at_ms: u64,
    /// N of `default`: fewer silent nodes than that, and nothing of it is missing.
    pub replication: usize,
    /// Nodes that it is without: they did not answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<NodeId>,
}

/// The answer to `scan`: one page of the cluster's keys in order, each once, newest version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScanReply {
    /// `ok`.
    pub status: Status,
    /// The records.
    pub items: Vec<Record>,
    /// Give this as `after` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Blob>,
    /// Nodes that did not answer: keys that only they hold are missing from the page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<NodeId>,
}

/// Something that happened in the cluster, told to whoever polls `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1 since the coordinator started.
    pub number: u64,
    /// Unix time in milliseconds.
    pub at_ms: u64,
    /// One line: `n2 is DOWN (3 heartbeats missed, 1.6 s)`.
    pub text: String,
}

/// The answer to `events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsReply {
    /// `ok`.
    pub status: Status,
    /// Events after the given number, oldest first; the last 1,000 are kept.
    pub events: Vec<Event>,
    /// The newest number there is.
    pub last: u64,
}

/// One setting, as `config` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value now.
    pub value: String,
    /// Where the value is from: `default`, `start` (flag, environment or file) or `set` since.
    pub origin: String,
    /// What it does, with unit and bounds.
    pub help: String,
}

/// The answer to `config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigReply {
    /// `ok`.
    pub status: Status,
    /// All settings, or the one that was named.
    pub settings: Vec<Setting>,
}

/// The answer to `info`: who answers here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InfoReply {
    /// `ok`.
    pub status: Status,
    /// `coordinator`.
    pub role: String,
    /// The program's version.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// The data directory.
    pub data: String,
    /// The address of the local cluster's supervisor, which starts and stops its processes;
    /// absent for a cluster that was started by hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<String>,
}
