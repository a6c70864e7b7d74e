//! put and del: numbered, sent to all owners, acknowledged at W.
//!
//! Who is asked, who stands in and who is owed what is decided by [`Put`]; here is what carries it
//! out. When W owners have the write durably the answer leaves; the other answers are waited for in the
//! background, and then whoever has the write notes what the others are owed (hinted handoff).
//!
//! # Caveats
//!
//! Writes are never sent twice to a node under two numbers because an answer is missing: what is unknown is said to be
//! unknown. Only when a node is found to hold a number that was never given here (somebody wrote to it directly, under a
//! version of their choice) the write is numbered above that and sent once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use ringkv_shared::causal::Context;
use ringkv_shared::net::{Client, NodeApiClient, PeerError};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{ClusterWrite, ReplicaOutcome, ReplicaReport, WriteOptions};
use ringkv_shared::protocol::node::{Record, ReplicaWrite, SpaceKey, WriteReply};
use ringkv_shared::quorum::{Put, PutStep, Quorum, WriteOutcome};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::WriteSet;
use ringkv_shared::{Blob, ErrorName, Failure, Keyspace, Line, NodeId, Policy, Version};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::checks::{check_context, check_key, check_quorum, check_value};
use crate::clock::unix_ms;
use crate::cluster::{Cluster, View};
use crate::explain;
use crate::keyspace::expiry;
use crate::replies::{self, describe, some_owner};

/// How long a writer may ask to wait for replicas beyond W.
const LINGER_MAX: Duration = Duration::from_secs(60);

/// A write, before it is numbered.
#[derive(Clone)]
pub(crate) struct Intent {
    pub(crate) key: Blob,
    /// `None` is a delete.
    pub(crate) value: Option<Blob>,
    /// Unix milliseconds.
    pub(crate) expires: Option<u64>,
    /// What the writer has seen; `None`: all that coordinators have taken.
    pub(crate) seen: Option<Context>,
}

/// A write on its way: the machine, and the calls whose answers it waits for.
struct Sending {
    cluster: Arc<Cluster>,
    view: Arc<View>,
    write: ReplicaWrite,
    put: Put,
    calls: FuturesUnordered<BoxFuture<'static, (NodeId, Result<WriteReply, PeerError>, Duration)>>,
    /// In the order in which they were asked.
    reports: Vec<ReplicaReport>,
    replies: Vec<WriteReply>,
    started: Instant,
    met: Option<Duration>,
    /// Held until the last answer: a picture or a change of the ring waits for it.
    _under_way: TaskTrackerToken,
    _user: TaskTrackerToken,
}

impl Cluster {
    pub(crate) async fn put(
        self: &Arc<Self>,
        key: Blob,
        value: Blob,
        options: WriteOptions,
    ) -> Result<ClusterWrite, Failure> {
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        check_value(&key, &value)?;
        self.requested(key, Some(value), options).await
    }

    pub(crate) async fn del(
        self: &Arc<Self>,
        key: Blob,
        options: WriteOptions,
    ) -> Result<ClusterWrite, Failure> {
        self.counters.dels.fetch_add(1, Ordering::Relaxed);
        self.requested(key, None, options).await
    }

    /// Carries out a write; `again` is the number that an earlier try of the same request got.
    pub(crate) async fn write(
        self: &Arc<Self>,
        key: Blob,
        value: Option<Blob>,
        options: &WriteOptions,
        again: Option<Version>,
        numbered: impl FnOnce(Version) + Send,
    ) -> Result<ClusterWrite, Failure> {
        check_key(&key)?;
        let view = self.view();
        let keyspace = view.keyspace(&options.keyspace)?;
        let w = check_quorum('W', options.w, keyspace.n)?.unwrap_or(keyspace.w);
        let expires = match value {
            Some(_) => expiry(options.ttl_ms, keyspace.ttl_ms.unwrap_or(0))?,
            None => None,
        };
        let mut seen = options.context.clone();
        if let Some(seen) = &seen {
            check_context(seen, self.writes.last())?;
        }
        if options.if_absent || options.if_version.is_some() {
            seen = Some(self.check_condition(&key, options, seen).await?);
        }
        let intent = Intent { key, value, expires, seen };
        let how = How::of(options, &keyspace, w, self.settings().linger());
        let mut sending = Sending::start(self, view, &intent, &keyspace, &how, again)?;
        numbered(sending.write.record.version);
        sending.wait(how.linger).await;
        if let Some(found) = sending.foreign_number()? {
            // Somebody wrote to a node under a number of their choice. What is acknowledged must win
            // over that, too.
            self.writes.skip_to(found);
            let view = self.view();
            sending = Sending::start(self, view, &intent, &keyspace, &how, None)?;
            sending.wait(how.linger).await;
        }
        sending.end(&intent, &keyspace, &how).await
    }
}

/// How a write is to be done.
struct How {
    w: usize,
    sloppy: bool,
    linger: Duration,
    explain: bool,
}

impl How {
    fn of(options: &WriteOptions, keyspace: &Keyspace, w: usize, linger: Duration) -> Self {
        let linger = options.linger_ms.map_or(linger, Duration::from_millis).min(LINGER_MAX);
        let sloppy = options.sloppy.unwrap_or(keyspace.sloppy);
        Self { w, sloppy, linger, explain: options.explain }
    }
}

impl Sending {
    /// Numbers the write and sends it.
    fn start(
        cluster: &Arc<Cluster>,
        view: Arc<View>,
        intent: &Intent,
        keyspace: &Keyspace,
        how: &How,
        again: Option<Version>,
    ) -> Result<Self, Failure> {
        let _user = view.users.token();
        let space = &keyspace.name;
        let set = view.topology.write_set(space, intent.key.as_bytes());
        some_owner(&set.owners)?;
        let hash = key_position(intent.key.as_bytes());
        let (version, _under_way) = cluster.writes.begin(again);
        let context = cluster.recent().note(hash, version, intent.seen.as_ref());
        let mut record = Record::new(intent.key.clone(), intent.value.clone(), version);
        record.expires = intent.expires;
        record.context = context;
        record.stamp = (keyspace.policy == Policy::Lww).then(|| cluster.hlc().tick(unix_ms()));
        let write = ReplicaWrite { keyspace: space.clone(), record, owe: Vec::new() };
        let quorums = quorums(&view, keyspace, &set, how.w);
        let down: BTreeSet<NodeId> =
            view.nodes.values().filter(|node| node.is_down()).map(|node| node.id.clone()).collect();
        let spare = if how.sloppy { view.spare(&set, hash) } else { Vec::new() };
        let (put, steps) = Put::start(quorums, &down, spare);
        let reports = set.owners.iter().filter(|o| down.contains(*o)).map(replies::down).collect();
        let mut sending = Self {
            cluster: Arc::clone(cluster),
            view,
            write,
            put,
            calls: FuturesUnordered::new(),
            reports,
            replies: Vec::new(),
            started: Instant::now(),
            met: None,
            _under_way,
            _user,
        };
        sending.carry_out(steps);
        Ok(sending)
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
    async fn wait(&mut self, linger: Duration) {
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
        self.replies.extend(answer.as_ref().ok().cloned());
        self.carry_out(steps);
    }

    /// A number that a node holds and that was never given here; that of a later coordinator is an
    /// error.
    fn foreign_number(&self) -> Result<Option<Version>, Failure> {
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
    async fn end(
        mut self,
        intent: &Intent,
        keyspace: &Keyspace,
        how: &How,
    ) -> Result<ClusterWrite, Failure> {
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
        let verdict = judge(&record.key, outcome, &replicas);
        self.settle().await;
        verdict?;
        cluster.changes.tell(&keyspace.name, &record);
        if !how.explain {
            replicas.iter_mut().for_each(|report| report.took_us = None);
        }
        let status = if existed { Status::Ok } else { Status::NotFound };
        let context = record.context.is_some().then(|| record.seen());
        let (version, expires) = (record.version, intent.expires);
        let key = record.key;
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
    async fn settle(mut self) {
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

/// The owners that must have a write, of both placements while a change is pending.
fn quorums(view: &View, keyspace: &Keyspace, set: &WriteSet, w: usize) -> Vec<Quorum> {
    let current = view.topology.current.needed(&keyspace.name, w);
    let owners = set.owners[..set.current].to_vec();
    let current = (!owners.is_empty()).then(|| Quorum { owners, needed: current });
    let pending = view.topology.pending.as_ref().map(|pending| Quorum {
        owners: set.pending.clone(),
        needed: pending.needed(&keyspace.name, w),
    });
    current.into_iter().chain(pending.filter(|quorum| !quorum.owners.is_empty())).collect()
}

impl View {
    /// Who may stand in for the owners of a key: the other members, in the order in which the ring names them.
    fn spare(&self, set: &WriteSet, hash: u64) -> Vec<NodeId> {
        let ring = &self.topology.newest().ring;
        let all = ring.owners_at(hash, ring.members().len());
        all.into_iter().filter(|node| !set.owners.contains(node)).collect()
    }
}

/// Turns what became of a write into its verdict.
fn judge(key: &Blob, outcome: WriteOutcome, replicas: &[ReplicaReport]) -> Result<(), Failure> {
    let each = describe(replicas);
    let refused = replicas.iter().any(|report| report.outcome == ReplicaOutcome::Refused);
    let failure = match outcome {
        WriteOutcome::Done => return Ok(()),
        WriteOutcome::Partial => Failure::new(
            ErrorName::NotEnoughReplicas,
            format!("{key} is on fewer replicas than asked for: {each}"),
        )
        .hint("it stays there; put again when more nodes are up, or accept fewer: setquorum"),
        WriteOutcome::Unknown => Failure::new(
            ErrorName::OutcomeUnknown,
            format!("nobody knows whether {key} was written: {each}"),
        )
        .hint("get it, then decide whether to write again"),
        WriteOutcome::NotApplied if refused => {
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
