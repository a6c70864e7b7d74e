//! What would be if, what is wrong, and why a node is taken for dead.

use serde::{Deserialize, Serialize};

use super::Status;
use super::change::PlanReply;
use super::cluster::Health;
use crate::id::{NodeId, Zone};
use crate::keyspace::KeyspaceName;

/// What `what-if` is to suppose, all of it together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "suppose", rename_all = "snake_case", deny_unknown_fields)]
pub enum Supposition {
    /// These nodes are dead.
    Kill {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// A node joins.
    Add {
        /// Its name.
        node: NodeId,
        /// Its weight; absent: 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        weight: Option<u32>,
        /// Its zone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Zone>,
    },
    /// Nodes leave in good order.
    Remove {
        /// The nodes.
        nodes: Vec<NodeId>,
    },
    /// A node gets another weight.
    Weight {
        /// The node.
        node: NodeId,
        /// The weight.
        weight: u32,
    },
}

/// What a keyspace suffers when nodes are dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outage {
    /// The keyspace.
    pub keyspace: KeyspaceName,
    /// Its keys, as far as nodes answered.
    pub keys: u64,
    /// Keys that cannot be read: fewer than R owners are left.
    pub unreadable: u64,
    /// Of these, keys of which no copy is left.
    pub lost: u64,
    /// Keys that can be read and not written: fewer than W owners are left.
    pub read_only: u64,
    /// Keys that can be used, with one copy left of several.
    pub last_copy: u64,
    /// The share of the ring (of all keys that could be) that cannot be read, 0 to 1.
    pub unreadable_share: f64,
    /// The share that can be read and not written.
    pub read_only_share: f64,
    /// The share with one copy left of several.
    pub last_copy_share: f64,
    /// Up to 10 keys that cannot be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable_keys: Vec<crate::Blob>,
    /// Up to 10 keys that can be read and not written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only_keys: Vec<crate::Blob>,
}

/// The answer to `what_if`. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WhatIfReply {
    /// `ok`.
    pub status: Status,
    /// Who would be dead, those included that are DOWN now.
    pub dead: Vec<NodeId>,
    /// Each keyspace, when nodes would be dead.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
    /// What would move, when the ring would be another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Box<PlanReply>>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Note,
    /// Nothing fails yet.
    Warning,
    /// Requests fail, or data is in danger.
    Critical,
}

/// Something that is wrong, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What, in a sentence.
    pub text: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// The answer to `doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorReply {
    /// `ok`.
    pub status: Status,
    /// What is wrong now, worst first; empty: nothing.
    pub now: Vec<Finding>,
    /// What would be if one more node died, worst first.
    pub next: Vec<Finding>,
}

/// One probe of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRow {
    /// When it was sent, in unix milliseconds.
    pub at_ms: u64,
    /// How long until its answer, or until nobody waited any more, in microseconds.
    pub took_us: u64,
    /// Why there was no answer; absent: there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missed: Option<String>,
    /// Why a miss was not counted: the coordinator itself had been asleep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excused: Option<String>,
    /// Misses in a row after it.
    pub misses: u32,
    /// What was thought of the node after it.
    pub health: Health,
}

/// The answer to `why_down`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyDownReply {
    /// `ok`.
    pub status: Status,
    /// The node.
    pub node: NodeId,
    /// Where it should answer.
    pub addr: String,
    /// What is thought of it.
    pub health: Health,
    /// Since when, in unix milliseconds.
    pub since_ms: u64,
    /// Milliseconds between probes; an answer later than that is a miss.
    pub heartbeat_ms: u64,
    /// Misses in a row that make a node DOWN.
    pub down_after: u32,
    /// The last 64 probes, oldest first.
    pub probes: Vec<ProbeRow>,
    /// When `autoheal` will take it off the ring, in unix milliseconds; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heals_at_ms: Option<u64>,
}
