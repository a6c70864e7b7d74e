//! put, get, del: best effort, as the ancestor does it, with the verdict told in full.
//!
//! A write goes to all owners at once and is acknowledged when W of them have it durably; the
//! answer names what became of it at each. A read asks the owners in preference order and takes
//! the first answer. "Nobody has it" and "nobody answered" are different answers.
//!
//! # Caveats
//!
//! A replica that missed writes answers with what it has: `get` may be stale until `rebalance`
//! or a newer write mends it. Writes are never retried; what is unknown is said to be unknown.

use std::sync::atomic::Ordering;

use futures::future::join_all;
use ringkv_shared::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::net::{NodeApiClient, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ClusterGet, ClusterWrite, ReplicaOutcome, ReplicaReport};
use ringkv_shared::protocol::node::{GetReply, WriteReply};
use ringkv_shared::quorum::{WriteOutcome, judge_write};
use ringkv_shared::topology::WriteSet;
use ringkv_shared::{Blob, ErrorName, Failure, NodeId, Version};

use crate::cluster::{Cluster, View};
use crate::keyspace::expiry;

/// What a write writes.
#[derive(Clone)]
enum Change {
    Put {
        value: Blob,
        /// Unix milliseconds.
        expires: Option<u64>,
    },
    Del,
}

impl Cluster {
    pub(crate) async fn put(
        &self,
        key: Blob,
        value: Blob,
        ttl_ms: Option<u64>,
    ) -> Result<ClusterWrite, Failure> {
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        check_size("value", &key, value.len(), VALUE_BYTES_MAX)?;
        let expires = expiry(ttl_ms, self.view().ttl_ms)?;
        self.write(key, Change::Put { value, expires }).await
    }

    pub(crate) async fn del(&self, key: Blob) -> Result<ClusterWrite, Failure> {
        self.counters.dels.fetch_add(1, Ordering::Relaxed);
        self.write(key, Change::Del).await
    }

    async fn write(&self, key: Blob, change: Change) -> Result<ClusterWrite, Failure> {
        check_key(&key)?;
        let view = self.view();
        let _user = view.users.token();
        let set = view.topology.write_set(key.as_bytes());
        some_owner(&set.owners)?;
        let (mut version, _under_way) = self.writes.begin();
        let mut answers = self.write_all(&view, &set, &key, &change, version).await;
        if let Some(ahead) = answers.iter().filter_map(Answer::ahead).max() {
            // Somebody wrote to a node directly. What is acknowledged must win over that, too.
            version = self.number_above(ahead)?;
            answers = self.write_all(&view, &set, &key, &change, version).await;
        }
        let existed = answers.iter().any(|answer| answer.existed());
        let replicas: Vec<ReplicaReport> = answers.into_iter().map(|a| a.report).collect();
        if replicas.iter().any(|report| report.outcome != ReplicaOutcome::Ok) {
            self.counters.partial_writes.fetch_add(1, Ordering::Relaxed);
        }
        self.judge(&view, &set, &key, &replicas)?;
        let status = if existed { Status::Ok } else { Status::NotFound };
        let expires = match change {
            Change::Put { expires, .. } => expires,
            Change::Del => None,
        };
        Ok(ClusterWrite { status, key, version, expires, replicas })
    }

    async fn write_all(
        &self,
        view: &View,
        set: &WriteSet,
        key: &Blob,
        change: &Change,
        version: Version,
    ) -> Vec<Answer> {
        let sent = set.owners.iter().map(|owner| self.write_one(view, owner, key, change, version));
        join_all(sent).await
    }

    async fn write_one(
        &self,
        view: &View,
        owner: &NodeId,
        key: &Blob,
        change: &Change,
        version: Version,
    ) -> Answer {
        let node = &view.nodes[owner];
        if node.is_down() {
            let report = unreachable_replica(owner, format!("{owner} is DOWN"));
            return Answer { report, reply: None };
        }
        let (key, change) = (key.clone(), change.clone());
        let answer = node
            .peer
            .call(self.timeout(), async move |client| match change {
                Change::Put { value, expires } => {
                    NodeApiClient::put(client, key, value, Some(version), expires).await
                }
                Change::Del => NodeApiClient::del(client, key, Some(version)).await,
            })
            .await;
        Answer::of(owner, answer)
    }

    /// Turns what became of a write into its verdict.
    fn judge(
        &self,
        view: &View,
        set: &WriteSet,
        key: &Blob,
        replicas: &[ReplicaReport],
    ) -> Result<(), Failure> {
        let w = self.settings().w();
        let needed = view.topology.current.needed(w);
        let needed_pending = view.topology.pending.as_ref().map_or(0, |pending| pending.needed(w));
        let outcomes: Vec<ReplicaOutcome> = replicas.iter().map(|report| report.outcome).collect();
        let each = describe(replicas);
        let failure = match judge_write(set, &outcomes, needed, needed_pending) {
            WriteOutcome::Done => return Ok(()),
            WriteOutcome::Partial => Failure::new(
                ErrorName::NotEnoughReplicas,
                format!("{key} is on fewer replicas than asked for: {each}"),
            )
            .hint("it stays there; put again when more nodes are up, or accept fewer: config w 1"),
            WriteOutcome::Unknown => Failure::new(
                ErrorName::OutcomeUnknown,
                format!("nobody knows whether {key} was written: {each}"),
            )
            .hint("get it, then decide whether to write again"),
            WriteOutcome::NotApplied if outcomes.contains(&ReplicaOutcome::Refused) => {
                Failure::new(ErrorName::NotApplied, format!("{key} was not written: {each}"))
            }
            WriteOutcome::NotApplied => Failure::new(
                ErrorName::Unreachable,
                format!("{key} was not written: no replica can be reached ({each})"),
            )
            .hint("show lists the nodes; restart one of them, then try again"),
        };
        Err(failure.detail(serde_json::json!({ "replicas": replicas })))
    }

    pub(crate) async fn get(&self, key: Blob) -> Result<ClusterGet, Failure> {
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        check_key(&key)?;
        let view = self.view();
        let _user = view.users.token();
        let set = view.topology.write_set(key.as_bytes());
        some_owner(&set.owners)?;
        let mut tried = Vec::new();
        let mut absent = None;
        for (rank, owner) in set.owners.iter().enumerate() {
            match self.get_one(&view, owner, &key).await {
                // A tombstone is as good as a value: it says that the key was deleted.
                Ok(reply) if reply.version.is_some() => return Ok(found(key, owner, reply, tried)),
                Ok(reply) => {
                    // Only those who should have it by now can say that there is none.
                    absent = (rank < set.current).then_some(tried.len()).or(absent);
                    tried.push(no_copy(owner, &reply));
                }
                Err(report) => tried.push(report),
            }
        }
        let Some(last) = absent else { return Err(nobody_answered(&key, &tried)) };
        let from = tried.remove(last).node;
        let (status, value, version, expires) = (Status::NotFound, None, None, None);
        let reply = GetReply { status, value, version, expires };
        Ok(found(key, &from, reply, tried))
    }

    async fn get_one(
        &self,
        view: &View,
        owner: &NodeId,
        key: &Blob,
    ) -> Result<GetReply, ReplicaReport> {
        let node = &view.nodes[owner];
        if node.is_down() {
            return Err(unreachable_replica(owner, format!("{owner} is DOWN")));
        }
        let key = key.clone();
        let answer = node
            .peer
            .call(self.timeout(), async move |client| NodeApiClient::get(client, key).await)
            .await;
        answer.map_err(|error| ReplicaReport {
            node: owner.clone(),
            outcome: outcome_of(&error),
            reply: None,
            why: Some(format!("{owner} {}", in_words(&error))),
        })
    }
}

fn found(key: Blob, owner: &NodeId, reply: GetReply, tried: Vec<ReplicaReport>) -> ClusterGet {
    let GetReply { status, value, version, expires } = reply;
    ClusterGet { status, key, value, version, expires, from: owner.clone(), tried }
}

fn no_copy(owner: &NodeId, reply: &GetReply) -> ReplicaReport {
    let reply = serde_json::to_value(reply).ok();
    ReplicaReport { node: owner.clone(), outcome: ReplicaOutcome::Ok, reply, why: None }
}

fn nobody_answered(key: &Blob, tried: &[ReplicaReport]) -> Failure {
    let each = describe(tried);
    Failure::new(ErrorName::Unreachable, format!("nobody who should have {key} answered: {each}"))
        .hint(
            "that is not \"not found\": show lists the nodes; restart one of them, then try again",
        )
        .detail(serde_json::json!({ "replicas": tried }))
}

/// One replica's part in a write, and its own words.
struct Answer {
    report: ReplicaReport,
    reply: Option<WriteReply>,
}

impl Answer {
    fn of(owner: &NodeId, answer: Result<WriteReply, PeerError>) -> Self {
        let node = owner.clone();
        match answer {
            Ok(reply) => {
                let outcome = ReplicaOutcome::Ok;
                let shown = serde_json::to_value(&reply).ok();
                let report = ReplicaReport { node, outcome, reply: shown, why: None };
                Self { report, reply: Some(reply) }
            }
            Err(error) => {
                let outcome = outcome_of(&error);
                let why = Some(format!("{owner} {}", in_words(&error)));
                Self { report: ReplicaReport { node, outcome, reply: None, why }, reply: None }
            }
        }
    }

    fn existed(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| reply.status == Status::Ok)
    }

    /// The version that the replica holds in place of ours.
    fn ahead(&self) -> Option<Version> {
        self.reply.as_ref().filter(|reply| reply.superseded).map(|reply| reply.version)
    }
}

fn outcome_of(error: &PeerError) -> ReplicaOutcome {
    match error {
        PeerError::Unreachable(_) => ReplicaOutcome::Unreachable,
        PeerError::Refused(_) => ReplicaOutcome::Refused,
        PeerError::TimedOut(_) | PeerError::Lost(_) => ReplicaOutcome::Unknown,
    }
}

fn in_words(error: &PeerError) -> String {
    match error {
        PeerError::Refused(failure) => format!("refused: {failure}"),
        other => other.to_string(),
    }
}

fn unreachable_replica(owner: &NodeId, why: String) -> ReplicaReport {
    let outcome = ReplicaOutcome::Unreachable;
    ReplicaReport { node: owner.clone(), outcome, reply: None, why: Some(why) }
}

/// `n1 ok; n2 is DOWN`.
fn describe(replicas: &[ReplicaReport]) -> String {
    let each = replicas.iter().map(|report| match &report.why {
        Some(why) => why.clone(),
        None => format!("{} ok", report.node),
    });
    each.collect::<Vec<_>>().join("; ")
}

fn some_owner(owners: &[NodeId]) -> Result<(), Failure> {
    if owners.is_empty() {
        return Err(Failure::new(
            ErrorName::Unreachable,
            "the ring is empty: there is no node to keep keys",
        )
        .hint("addnode <id> <port>"));
    }
    Ok(())
}

pub(crate) fn check_key(key: &Blob) -> Result<(), Failure> {
    check_size("key", key, key.len(), KEY_BYTES_MAX)
}

fn check_size(what: &str, key: &Blob, bytes: usize, bytes_max: usize) -> Result<(), Failure> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let shown: String = key.to_string().chars().take(64).collect();
    Err(Failure::new(
        ErrorName::TooLarge,
        format!(
            "the {what} of {shown} has {bytes} bytes, the limit is {bytes_max}; nothing was written"
        ),
    ))
}
