//! get: R owners in preference order, all values that none has replaced, and repair afterwards.
//!
//! Whom to ask and what the replies amount to is decided by [`Get`]; here is what carries it out. An
//! owner that is slow is helped by the next one after the setting `hedge`. The answer leaves when it is
//! known; replies that come later still count for the repair, which is made after the answer.
//!
//! # Caveats
//!
//! A read of one replica (R=1) answers with what that has. What the guarantee of a keyspace is, `keyspace show`
//! says in words.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ringkv_shared::hlc::Stamp;
use ringkv_shared::limits::check_key;
use ringkv_shared::net::{Client, NodeApiClient, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    ClusterGet, ReadOptions, ReplicaOutcome, ReplicaReport, SiblingValue,
};
use ringkv_shared::protocol::node::{GetReply, Record, Via};
use ringkv_shared::quorum::{Get, ReadState};
use ringkv_shared::{Blob, ErrorName, Failure, Keyspace, KeyspaceName, NodeId, Policy};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::checks::check_quorum;
use crate::clock::unix_ms;
use crate::cluster::{Cluster, View};
use crate::explain;
use crate::express::Asked;
use crate::replies::{self, describe, some_owner};

type Reply = (NodeId, Result<GetReply, PeerError>, Duration);

/// A read under way: the machine, and the calls whose answers it waits for.
pub(crate) struct Reading {
    cluster: Arc<Cluster>,
    view: Arc<View>,
    keyspace: KeyspaceName,
    key: Blob,
    get: Get,
    calls: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// In the order in which they were asked.
    reports: Vec<ReplicaReport>,
    /// Who gave the first reply with something in it, and the last without.
    from: Option<NodeId>,
    absent: Option<NodeId>,
    started: Instant,
    _user: TaskTrackerToken,
}

impl Cluster {
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: Blob,
        options: ReadOptions,
    ) -> Result<ClusterGet, Failure> {
        self.counters.gets.fetch_add(1, Ordering::Relaxed);
        check_key(&key)?;
        let (view, _user) = self.enter();
        let keyspace = view.keyspace(&options.keyspace)?;
        let r = check_quorum('R', options.r, keyspace.n)?.unwrap_or(keyspace.r);
        let mut reading = Reading::start(self, view, &keyspace, key, r)?;
        reading.wait().await;
        reading.end(&keyspace, r, options.explain).await
    }
}

impl Reading {
    fn start(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        keyspace: &Keyspace,
        key: Blob,
        r: usize,
    ) -> Result<Self, Failure> {
        let user = view.users.token();
        let mut reading = Self::prepare(cluster, view, keyspace, key, r, (Instant::now(), user))?;
        reading.ask();
        Ok(reading)
    }

    /// Goes on with a read of which owners were asked while these others were DOWN: with what they have answered, and
    /// with what they are going to.
    pub(crate) fn resume(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        keyspace: &Keyspace,
        key: Blob,
        (asked, down): (Vec<(NodeId, Asked<GetReply>)>, &BTreeSet<NodeId>),
        started: Instant,
        user: TaskTrackerToken,
    ) -> Result<Self, Failure> {
        let mut reading = Self::prepare(cluster, view, keyspace, key, keyspace.r, (started, user))?;
        reading.ask_by(|reading, node| {
            if down.contains(&node) {
                reading.pass_over(&node);
            } else if asked.iter().any(|(sent, _)| *sent == node) {
                reading.reports.push(replies::pending(&node));
            } else {
                reading.ask_one(node);
            }
        });
        for (node, answer) in asked {
            match answer {
                Asked::Answered(answer) => reading.take((node, answer, started.elapsed())),
                Asked::Waiting(answer) => {
                    let call = async move { (node, answer.await, started.elapsed()) };
                    reading.calls.push(Box::pin(call));
                }
            }
        }
        Ok(reading)
    }

    /// The machine of a read that has asked nobody yet.
    fn prepare(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        keyspace: &Keyspace,
        key: Blob,
        r: usize,
        (started, _user): (Instant, TaskTrackerToken),
    ) -> Result<Self, Failure> {
        let get = machine(&view, keyspace, &key, r)?;
        Ok(Self {
            cluster: Arc::clone(cluster),
            view,
            keyspace: keyspace.name.clone(),
            get,
            key,
            calls: FuturesUnordered::new(),
            reports: Vec::new(),
            from: None,
            absent: None,
            started,
            _user,
        })
    }

    /// Carries out the rest.
    pub(crate) async fn finish(mut self, keyspace: &Keyspace) -> Result<ClusterGet, Failure> {
        self.wait().await;
        self.end(keyspace, keyspace.r, false).await
    }

    /// Asks whom the machine names; those that are DOWN have failed at once, and others are named.
    fn ask(&mut self) {
        self.ask_by(Self::ask_one);
    }

    fn ask_by(&mut self, mut ask_one: impl FnMut(&mut Self, NodeId)) {
        loop {
            let nodes = self.get.ask();
            if nodes.is_empty() {
                return;
            }
            nodes.into_iter().for_each(|node| ask_one(self, node));
        }
    }

    /// One that is DOWN has failed at once.
    fn pass_over(&mut self, id: &NodeId) {
        self.reports.push(replies::down(id));
        self.get.reply(id, None);
    }

    fn ask_one(&mut self, id: NodeId) {
        let node = Arc::clone(&self.view.nodes[&id]);
        if node.is_down() {
            return self.pass_over(&id);
        }
        self.reports.push(replies::pending(&id));
        let (key, keyspace) = (self.key.clone(), self.keyspace.clone());
        let keyspace = (!keyspace.is_default()).then_some(keyspace);
        let (timeout, started) = (self.cluster.timeout(), Instant::now());
        let call = async move {
            let get = async move |client: &Client| NodeApiClient::get(client, key, keyspace).await;
            let answer = node.peer.call(timeout, get).await;
            (id, answer, started.elapsed())
        };
        self.calls.push(Box::pin(call));
    }

    /// Waits until the answer is known, asking one more whenever it takes long.
    async fn wait(&mut self) {
        let hedge = self.cluster.settings().hedge();
        // Some of the first time may be over.
        let mut next = self.started + hedge;
        while self.get.state() == ReadState::Open {
            let answer = timeout_at(next, self.calls.next()).await;
            next = Instant::now() + hedge;
            match answer {
                Ok(Some(reply)) => self.take(reply),
                Ok(None) => return,
                Err(_) => match self.get.hedge() {
                    Some(node) => {
                        self.cluster.counters.hedged.fetch_add(1, Ordering::Relaxed);
                        self.ask_one(node);
                    }
                    // All are asked; each has its deadline.
                    None => match self.calls.next().await {
                        Some(reply) => self.take(reply),
                        None => return,
                    },
                },
            }
        }
    }

    fn take(&mut self, (node, answer, took): Reply) {
        let told = replies::report(&node, &answer);
        if let Some(report) = self.reports.iter_mut().find(|report| report.node == node) {
            let took_us = u64::try_from(took.as_micros()).ok();
            *report = ReplicaReport { took_us, ..told };
        }
        let record = answer.ok().map(|reply| reply.into_record(self.key.clone()));
        match &record {
            Some(Some(_)) => drop(self.from.get_or_insert_with(|| node.clone())),
            Some(None) => self.absent = Some(node.clone()),
            None => {}
        }
        self.get.reply(&node, record);
        self.ask();
    }

    async fn end(
        self,
        keyspace: &Keyspace,
        r: usize,
        explained: bool,
    ) -> Result<ClusterGet, Failure> {
        let met = self.started.elapsed();
        let from = self.from.clone().or_else(|| self.absent_owner());
        let (Some(from), ReadState::Enough) = (from, self.get.state()) else {
            return Err(self.too_few(r));
        };
        let merged = self.get.merged();
        if keyspace.policy == Policy::Lww
            && let Some(stamp) = merged.as_ref().and_then(|m| m.stamp)
        {
            self.cluster.heard_stamp(&self.key, stamp);
        }
        let explained = match explained {
            true => {
                let trace = explain::Trace {
                    key: self.key.clone(),
                    replicas: self.reports.clone(),
                    met: Some(met),
                    answered: self.started.elapsed(),
                    repaired: self.get.repairs().map(|(_, behind)| behind),
                };
                Some(explain::read(&self.cluster, &self.view, keyspace, r, trace).await)
            }
            false => None,
        };
        let tried = self
            .reports
            .iter()
            .filter(|report| report.node != from && report.outcome != ReplicaOutcome::Pending);
        let tried = tried.map(|report| ReplicaReport { took_us: None, ..report.clone() }).collect();
        let reply = answer(self.key.clone(), merged, from, tried);
        let needed = self.view.topology.current.needed(&keyspace.name, r).max(1);
        self.settle().await;
        Ok(ClusterGet { needed, explained, ..reply })
    }

    /// Who may say that there is no such key: an owner that should have it by now.
    fn absent_owner(&self) -> Option<NodeId> {
        let owners = self.view.topology.current.owners(&self.keyspace, self.key.as_bytes());
        let absent =
            self.get.replies().filter(|(node, reply)| reply.is_none() && owners.contains(node));
        absent.map(|(node, _)| node.clone()).last()
    }

    fn too_few(&self, r: usize) -> Failure {
        let (key, each) = (&self.key, describe(&self.reports));
        // Who has not answered yet might: it would not be enough.
        let pending = |report: &&ReplicaReport| report.outcome == ReplicaOutcome::Pending;
        let could = self.get.replies().count() + self.reports.iter().filter(pending).count();
        let failure = if could == 0 || r == 1 {
            Failure::new(
                ErrorName::Unreachable,
                format!("nobody who should have {key} answered: {each}"),
            )
            .hint("that is not \"not found\": show lists the nodes; restart one of them, then try again")
        } else {
            Failure::new(
                ErrorName::NotEnoughReplicas,
                format!("{could} of the {r} replicas that must answer for {key} can: {each}"),
            )
            .hint(format!("show lists the nodes; to take what fewer say: get {key} --r {could}"))
        };
        failure.detail(serde_json::json!({ "replicas": self.reports }))
    }

    /// Takes the last replies and repairs who is behind, in the background.
    async fn settle(mut self) {
        if self.calls.is_empty() && self.get.repairs().is_none() {
            return;
        }
        let cluster = Arc::clone(&self.cluster);
        cluster
            .background(async move {
                while let Some(reply) = self.calls.next().await {
                    self.take(reply);
                }
                let Some((record, behind)) = self.get.repairs() else { return };
                self.cluster.counters.divergences.fetch_add(1, Ordering::Relaxed);
                let Self { cluster, view, keyspace, .. } = self;
                for node in behind {
                    cluster.repair(&view, &keyspace, &node, record.clone()).await;
                }
            })
            .await;
    }
}

impl Cluster {
    /// Gives a node what a read found elsewhere.
    async fn repair(&self, view: &View, space: &KeyspaceName, id: &NodeId, record: Record) {
        let (key, keyspace) = (record.key.clone(), Some(space.clone()));
        let apply = async move |client: &Client| {
            NodeApiClient::apply(client, vec![record], keyspace, Some(Via::Repair)).await
        };
        match view.nodes[id].peer.call(self.timeout(), apply).await {
            Ok(reply) => {
                self.counters.repairs.fetch_add(reply.changed, Ordering::Relaxed);
            }
            Err(error) => tracing::info!(node = %id, %key, "not repaired: {error}"),
        }
    }
}

/// The machine of a read of R owners.
fn machine(view: &View, keyspace: &Keyspace, key: &Blob, r: usize) -> Result<Get, Failure> {
    let set = view.topology.write_set(&keyspace.name, key.as_bytes());
    some_owner(&set.owners)?;
    Ok(view.topology.read(keyspace, set, r))
}

impl Cluster {
    /// The next write here is to be later than this, whoever gave the stamp.
    pub(crate) fn heard_stamp(&self, key: &impl std::fmt::Display, stamp: Stamp) {
        if let Err(error) = self.hlc().hear(stamp, unix_ms()) {
            tracing::warn!(%key, "{error}");
        }
    }
}

fn answer(
    key: Blob,
    merged: Option<Record>,
    from: NodeId,
    tried: Vec<ReplicaReport>,
) -> ClusterGet {
    let mut reply = ClusterGet {
        status: Status::NotFound,
        key,
        value: None,
        version: None,
        expires: None,
        context: None,
        siblings: Vec::new(),
        from,
        needed: 1,
        tried,
        explained: None,
    };
    let Some(record) = merged else { return reply };
    reply.version = Some(record.version);
    reply.context = (!record.is_plain()).then(|| record.seen());
    let live = SiblingValue::of(&record);
    if let Some(last) = live.last().cloned() {
        reply.status = Status::Ok;
        reply.value = Some(last.value);
        (reply.version, reply.expires) = (Some(last.version), last.expires);
    }
    if live.len() > 1 {
        reply.siblings = live;
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringkv_shared::Version;

    #[test]
    fn a_tombstone_beside_a_value_is_no_value() {
        let mut held = Record::new("k".into(), Some("red".into()), Version::new(1, 5)).held();
        let gone = Record {
            context: Some("1.3".parse().unwrap()),
            ..Record::new("k".into(), None, Version::new(1, 7))
        };
        held.merge(&gone.held());
        let merged = Record::of("k".into(), &held);
        let reply = answer("k".into(), merged, "n1".parse().unwrap(), Vec::new());
        assert_eq!((reply.value, reply.version), (Some("red".into()), Some(Version::new(1, 5))));
        assert_eq!(reply.context.unwrap().to_string(), "1.5,+1.7");
        assert_eq!(reply.siblings, []);
    }
}
