//! A write on its way to the replicas.
//!
//! Who is asked, who stands in and who is owed what is decided by [`Put`]; here is what carries it
//! out. When W owners have the write durably the answer leaves; the other answers are waited for in the
//! background, and then whoever has the write notes what the others are owed (hinted handoff).
//!
//! # Caveats
//!
//! Of a write whose last answers are waited for in the background, the value is kept until then: at most as
//! many as [`Cluster::background`] has room for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ringkv_shared::net::{Client, NodeApiClient, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ClusterWrite, ReplicaReport};
use ringkv_shared::protocol::node::{Record, ReplicaWrite, SpaceKey, WriteReply};
use ringkv_shared::quorum::{Put, PutStep, WriteOutcome};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::WriteSet;
use ringkv_shared::{ErrorName, Failure, Line, NodeId, Version};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::cluster::{Cluster, View};
use crate::explain;
use crate::express::Asked;
use crate::put::{How, Intent, judge};
use crate::replies::{self, some_owner};

/// Who answered, what, and after how long.
type Reply = (NodeId, Result<WriteReply, PeerError>, Duration);

/// A write on its way: the machine, and the calls whose answers it waits for.
pub(crate) struct Sending {
    cluster: Arc<Cluster>,
    view: Arc<View>,
    pub(crate) write: ReplicaWrite,
    put: Put,
    calls: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// In the order in which they were asked.
    reports: Vec<ReplicaReport>,
    replies: Vec<WriteReply>,
    /// Why the first one refused that did.
    refusal: Option<Failure>,
    started: Instant,
    met: Option<Duration>,
    /// Held until the last answer: a picture or a change of the ring waits for it.
    _under_way: TaskTrackerToken,
    _user: TaskTrackerToken,
}

impl Sending {
    /// Numbers the write and sends it.
    pub(crate) fn start(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        intent: Intent,
        how: &How,
    ) -> Result<Self, Failure> {
        let user = view.users.token();
        let set = view.topology.write_set(&how.keyspace.name, intent.key().as_bytes());
        some_owner(&set.owners)?;
        let hash = key_position(intent.key().as_bytes());
        let (record, under_way) = cluster.number(intent, hash, how.keyspace.policy)?;
        let down: BTreeSet<NodeId> =
            view.nodes.values().filter(|node| node.is_down()).map(|node| node.id.clone()).collect();
        let times = (Instant::now(), None);
        let (mut sending, steps) =
            Self::prepare(cluster, view, record, how, (set, &down), times, (under_way, user));
        sending.carry_out(steps);
        Ok(sending)
    }

    /// Goes on with a write that was sent to owners, while these others were DOWN: with what they have answered, and
    /// with what they are going to. Those that are neither are sent it now.
    pub(crate) fn resume(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        record: Record,
        how: &How,
        (asked, down): (Vec<(NodeId, Asked<WriteReply>)>, &BTreeSet<NodeId>),
        times: (Instant, Option<Instant>),
        held: (TaskTrackerToken, TaskTrackerToken),
    ) -> Self {
        let set = view.topology.write_set(&how.keyspace.name, record.key.as_bytes());
        let (mut sending, mut steps) =
            Self::prepare(cluster, view, record, how, (set, down), times, held);
        let is_sent = |node: &NodeId| asked.iter().any(|(sent, _)| sent == node);
        steps.retain(|step| !matches!(step, PutStep::Send { to, .. } if is_sent(to)));
        sending.reports.extend(asked.iter().map(|(node, _)| replies::pending(node)));
        sending.carry_out(steps);
        let started = sending.started;
        for (node, answer) in asked {
            match answer {
                Asked::Answered(answer) => sending.take(&node, &answer, started.elapsed()),
                Asked::Waiting(answer) => {
                    let call = async move { (node, answer.await, started.elapsed()) };
                    sending.calls.push(Box::pin(call));
                }
            }
        }
        sending
    }

    /// The machine of a write that has its number, and its first steps.
    fn prepare(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        record: Record,
        how: &How,
        (set, down): (WriteSet, &BTreeSet<NodeId>),
        (started, met): (Instant, Option<Instant>),
        (_under_way, _user): (TaskTrackerToken, TaskTrackerToken),
    ) -> (Self, Vec<PutStep>) {
        let spare = match how.sloppy {
            true => view.spare(&set, key_position(record.key.as_bytes())),
            false => Vec::new(),
        };
        let quorums = view.topology.write_quorums(&how.keyspace.name, &set, how.w);
        let (put, steps) = Put::start(quorums, down, spare);
        let keyspace = how.keyspace.name.clone();
        let sending = Self {
            cluster: Arc::clone(cluster),
            view,
            write: ReplicaWrite { keyspace, record, owe: Vec::new() },
            put,
            calls: FuturesUnordered::new(),
            reports: set.owners.iter().filter(|o| down.contains(*o)).map(replies::down).collect(),
            replies: Vec::new(),
            refusal: None,
            started,
            met: met.map(|met| met - started),
            _under_way,
            _user,
        };
        (sending, steps)
    }

    fn carry_out(&mut self, steps: Vec<PutStep>) {
        for step in steps {
            let PutStep::Send { to, stands_in_for, owe } = step else { continue };
            let report = ReplicaReport { stands_in_for, ..replies::pending(&to) };
            self.reports.push(report);
            let write = ReplicaWrite { owe, ..self.write.clone() };
            let node = Arc::clone(&self.view.nodes[&to]);
            let (timeout, started) = (self.cluster.timeout(), Instant::now());
            let call = async move {
                let answer = node
                    .peer
                    .call(timeout, async move |client| NodeApiClient::write(client, write).await)
                    .await;
                (to, answer, started.elapsed())
            };
            self.calls.push(Box::pin(call));
        }
    }

    /// Waits until the outcome is known, and then up to `linger` for the others.
    pub(crate) async fn wait(&mut self, linger: Duration) {
        let mut until = None;
        loop {
            if self.put.outcome().is_some() && until.is_none() {
                self.met.get_or_insert(self.started.elapsed());
                until = Some(Instant::now() + linger);
            }
            let answer = match until {
                Some(until) => timeout_at(until, self.calls.next()).await.ok().flatten(),
                None => self.calls.next().await,
            };
            let Some((node, answer, took)) = answer else { return };
            self.take(&node, &answer, took);
        }
    }

    fn take(&mut self, node: &NodeId, answer: &Result<WriteReply, PeerError>, took: Duration) {
        let told = replies::report(node, answer);
        let steps = self.put.answer(node, told.outcome);
        if let Some(report) = self.reports.iter_mut().find(|report| report.node == *node) {
            let stands_in_for = report.stands_in_for.take();
            let took_us = u64::try_from(took.as_micros()).ok();
            *report = ReplicaReport { stands_in_for, took_us, ..told };
        }
        match answer {
            Ok(reply) => self.replies.push(reply.clone()),
            Err(PeerError::Refused(why)) => drop(self.refusal.get_or_insert_with(|| why.clone())),
            Err(_) => {}
        }
        self.carry_out(steps);
    }

    /// A number that a node holds and that was never given here; that of a later coordinator is an
    /// error.
    pub(crate) fn foreign_number(&self) -> Result<Option<Version>, Failure> {
        let held = self.replies.iter().filter(|reply| reply.superseded).map(|reply| reply.version);
        let Some(found) = held.filter(|held| held.line() == Line::Coordinators).max() else {
            return Ok(None);
        };
        if found.epoch > self.cluster.boot_epoch() {
            let message = format!(
                "a node holds version {found}, given by a later coordinator than this one (epoch {}); nothing counts as written",
                self.cluster.boot_epoch()
            );
            return Err(Failure::new(ErrorName::StaleEpoch, message)
                .hint("one cluster has one coordinator: stop the one that is too many"));
        }
        let never_given = found > self.cluster.writes.last() || found == self.write.record.version;
        Ok(never_given.then_some(found))
    }

    /// Gives the answer; what is not in yet is waited for in the background.
    pub(crate) async fn end(mut self, how: &How) -> Result<ClusterWrite, Failure> {
        let keyspace = &how.keyspace;
        for report in &mut self.reports {
            report.hinted_at = self.put.noted_at(&report.node).cloned();
        }
        let outcome = self.put.end();
        let everywhere = self.put.is_everywhere();
        if !everywhere && self.calls.is_empty() || outcome != WriteOutcome::Done {
            self.cluster.counters.partial_writes.fetch_add(1, Ordering::Relaxed);
        }
        let mut replicas = self.in_preference_order();
        let (cluster, record) = (Arc::clone(&self.cluster), self.write.record.clone());
        let explained = match how.explain {
            true => Some(
                explain::write(&self.cluster, &self.view, keyspace, how.w, self.trace(&replicas))
                    .await,
            ),
            false => None,
        };
        let existed = self.replies.iter().any(|reply| reply.status == Status::Ok);
        let siblings = self.replies.iter().map(|reply| reply.siblings).max().unwrap_or(0);
        let verdict = judge(&record.key, outcome, &replicas, self.refusal.as_ref());
        self.settle().await;
        verdict?;
        cluster.changes.tell(&keyspace.name, &record);
        if !how.explain {
            replicas.iter_mut().for_each(|report| report.took_us = None);
        }
        let status = if existed { Status::Ok } else { Status::NotFound };
        let context = record.context.is_some().then(|| record.seen());
        let Record { key, version, expires, .. } = record;
        Ok(ClusterWrite { status, key, version, context, siblings, expires, replicas, explained })
    }

    fn in_preference_order(&self) -> Vec<ReplicaReport> {
        let space = &self.write.keyspace;
        let owners = self.view.topology.write_set(space, self.write.record.key.as_bytes()).owners;
        let rank = |node: &NodeId| owners.iter().position(|o| o == node).unwrap_or(owners.len());
        let mut replicas = self.reports.clone();
        replicas.sort_by_key(|report| rank(&report.node));
        replicas
    }

    fn trace(&self, replicas: &[ReplicaReport]) -> explain::Trace {
        explain::Trace {
            key: self.write.record.key.clone(),
            replicas: replicas.to_vec(),
            met: self.met.filter(|_| self.put.end() == WriteOutcome::Done),
            answered: self.started.elapsed(),
            repaired: None,
        }
    }

    /// Waits for the last answers and has the notes made: in the background, unless too much is done
    /// there already.
    pub(crate) async fn settle(mut self) {
        if self.calls.is_empty() && self.put.rest().is_empty() {
            self.note_lag();
            return;
        }
        let cluster = Arc::clone(&self.cluster);
        cluster
            .background(async move {
                while let Some((node, answer, took)) = self.calls.next().await {
                    self.take(&node, &answer, took);
                }
                self.note_lag();
                let Self { cluster, view, write, put, .. } = self;
                let key = SpaceKey { keyspace: write.keyspace, key: write.record.key };
                for step in put.rest() {
                    if let PutStep::Owe { at, to } = step {
                        cluster.owe(&view, &at, to, key.clone()).await;
                    }
                }
            })
            .await;
    }

    /// How long the last owner was behind the acknowledgement.
    fn note_lag(&self) {
        if let (Some(met), true) = (self.met, self.put.is_everywhere()) {
            self.cluster.lag.note(self.started.elapsed().saturating_sub(met));
        }
    }
}

impl Cluster {
    /// Has a node note what another one has missed.
    async fn owe(&self, view: &View, at: &NodeId, to: NodeId, key: SpaceKey) {
        let missed = format!("{to} missed {}", key.key);
        let owe = async move |client: &Client| NodeApiClient::owe(client, to, vec![key]).await;
        if let Err(error) = view.nodes[at].peer.call(self.timeout(), owe).await {
            tracing::warn!(%at, "no note that {missed}, anti-entropy will find it: {error}");
        }
    }
}

impl View {
    /// Who may stand in for the owners of a key: the other members, in the order in which the ring names them.
    fn spare(&self, set: &WriteSet, hash: u64) -> Vec<NodeId> {
        let ring = &self.topology.newest().ring;
        let all = ring.owners_at(hash, ring.members().len());
        all.into_iter().filter(|node| !set.owners.contains(node)).collect()
    }
}
