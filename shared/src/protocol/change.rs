//! Changes of the ring: staged, planned, carried out.

use serde::{Deserialize, Serialize};

use super::Status;
use crate::failure::Failure;
use crate::id::{NodeId, Zone};
use crate::keyspace::KeyspaceName;

/// How far a change of the ring is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing is to be changed.
    #[default]
    Idle,
    /// Wished for, in force for nothing: `plan` shows it, `rebalance` carries it out.
    Staged,
    /// Committed: writes go to old and new owners, copies are made.
    Copying,
    /// In force, or taken back: old copies are dropped.
    Clearing,
}

/// The answer to what stages a change: `addnode`, `removenode`, `replacenode`, `setweight`, `setzone`, `setreplica`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeReply {
    /// `ok`.
    pub status: Status,
    /// The ring epoch after it.
    pub epoch: u64,
    /// Whether the change is in force at once (there was nothing to copy) or staged, waiting for
    /// `rebalance`.
    pub pending: bool,
    /// N of the newest ring.
    pub replication: usize,
    /// N before.
    pub replication_before: usize,
    /// The node's share of the newest ring as primary, 0 to 1, for `addnode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The node's address, for `addnode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<String>,
    /// The share of key positions whose owners the pending ring changes, 0 to 1.
    pub moved_share: f64,
}

/// How far a rebalance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebalanceState {
    /// None has run since the coordinator started.
    Idle,
    /// Under way.
    Running,
    /// It rests until `resume`.
    Paused,
    /// All that could be done is done, the pending change is in force.
    Complete,
    /// Ended early; nothing is lost. A change that was committed goes on with the next `rebalance`, or after
    /// a while by itself.
    Failed,
    /// Taken back: the ring is as it was, and new copies were removed again.
    Cancelled,
}

/// What a rebalance is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RebalanceStep {
    /// What is to be copied is counted.
    #[default]
    Counting,
    /// The change is committed, and nodes are told: from then on writes go to old and new owners.
    Joining,
    /// New owners get what they lack.
    Copying,
    /// The change is put in force, and nodes are told.
    Finalising,
    /// Copies are dropped where they no longer belong.
    Dropping,
}

/// The answer to `rebalance` (at once) and `progress` (polled while it runs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RebalanceReport {
    /// `ok`.
    pub status: Status,
    /// How far.
    pub state: RebalanceState,
    /// Whether it only counts.
    pub dry_run: bool,
    /// What it is at, or was at when it ended.
    #[serde(default)]
    pub step: RebalanceStep,
    /// Copies that were counted to be made.
    #[serde(default)]
    pub planned: u64,
    /// Of these, what was not needed any more when its turn came: the target had it, written meanwhile, or the key
    /// is gone.
    #[serde(default)]
    pub arrived: u64,
    /// Copies beyond `planned` that were found to be needed. When all keys had their turn,
    /// `planned + extra = copied + failed + arrived`.
    #[serde(default)]
    pub extra: u64,
    /// Bytes sent: keys and values, and 60 bytes for each record.
    #[serde(default)]
    pub bytes: u64,
    /// How long its links held back so far, added up, for the rate limit and for the requests of others, in
    /// milliseconds.
    #[serde(default)]
    pub waited_ms: u64,
    /// How long until it is done, about, in milliseconds; absent when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// Keys looked at so far.
    pub scanned: u64,
    /// About how many there are to look at, in all.
    pub total: u64,
    /// Copies made, each durable at its target.
    pub copied: u64,
    /// Copies removed where they no longer belong.
    pub removed: u64,
    /// Copies that could not be made or removed; the next rebalance tries again.
    pub failed: u64,
    /// Copies by link, `from` to `to`.
    pub links: Vec<LinkReport>,
    /// Narration since `after`: at most the last 1,000 lines are kept.
    pub lines: Vec<NarrationLine>,
    /// How long so far, in milliseconds.
    pub elapsed_ms: u64,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// Copies made over one link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The source.
    pub from: NodeId,
    /// The target.
    pub to: NodeId,
    /// Copies made.
    pub keys: u64,
    /// Copies that were counted to be made.
    #[serde(default)]
    pub planned: u64,
    /// Of these, what was not needed any more when its turn came.
    #[serde(default)]
    pub arrived: u64,
    /// Copies beyond these that were found to be needed.
    #[serde(default)]
    pub extra: u64,
    /// Bytes sent.
    #[serde(default)]
    pub bytes: u64,
    /// Copies a second, lately.
    #[serde(default)]
    pub keys_per_s: f64,
    /// How long until the link is done, about, in milliseconds; absent when nobody can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
}

/// One thing that the rebalance did, in the ancestor's words when printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarrationLine {
    /// Its number, from 1 in each rebalance; give the last one seen as `after`.
    pub number: u64,
    /// `Copied key 'apple' to n3` or `Removed key 'banana' from n1`.
    pub text: String,
}

/// One difference between the ring in force and the one that is staged or pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Difference {
    /// A node joins.
    Add {
        /// The node.
        node: NodeId,
        /// Its weight.
        weight: u32,
        /// Its zone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        zone: Option<Zone>,
    },
    /// A node leaves.
    Remove {
        /// The node.
        node: NodeId,
    },
    /// A node takes the seat of another, which leaves.
    Replace {
        /// Who leaves.
        old: NodeId,
        /// Who comes.
        node: NodeId,
    },
    /// A node gets another weight.
    Weight {
        /// The node.
        node: NodeId,
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// A node stands in another zone.
    Zone {
        /// The node.
        node: NodeId,
        /// Before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Zone>,
        /// After.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<Zone>,
    },
    /// A keyspace gets another N.
    Copies {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Before.
        from: usize,
        /// After.
        to: usize,
    },
}

/// Copies to be made over one link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// The source.
    pub from: NodeId,
    /// The target.
    pub to: NodeId,
    /// Copies.
    pub keys: u64,
    /// Bytes: keys and values, and 60 bytes for each record.
    pub bytes: u64,
}

/// One node before and after a change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalanceRow {
    /// The node.
    pub node: NodeId,
    /// Copies that it holds now.
    pub keys_before: u64,
    /// Copies that it will hold, tombstones among them.
    pub keys_after: u64,
    /// Its share of all copies by the ring in force, 0 to 1.
    pub share_before: f64,
    /// Its share by the new ring.
    pub share_after: f64,
}

/// The answer to `plan`: what `rebalance` would do now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanReply {
    /// `ok`.
    pub status: Status,
    /// The ring epoch it is for: `rebalance` refuses another, when it is given.
    pub epoch: u64,
    /// How far the change is.
    pub stage: Stage,
    /// What it changes.
    pub changes: Vec<Difference>,
    /// Keys that were looked at, in all keyspaces.
    pub keys: u64,
    /// Copies to be made.
    pub copies: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Old copies to be dropped afterwards.
    pub removed: u64,
    /// Copies by link.
    pub links: Vec<LinkPlan>,
    /// The nodes before and after.
    pub balance: Vec<BalanceRow>,
    /// Why it is so: a sentence each.
    pub reasons: Vec<String>,
    /// What one should know before it runs: a sentence each.
    pub risks: Vec<String>,
    /// Why it cannot be carried out as things are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Failure>,
    /// Nodes that did not answer: keys that only they hold are not counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub silent: Vec<NodeId>,
}
