//! Puts every copy where the ring says, and a staged change in force.
//!
//! 1. Wait until no write is under way that knows only the old placement.
//! 2. *Copy*: walk all keys; what an owner of the newest placement lacks is fetched from a node
//!    that has it and applied there with its version, so it can only lose to newer data.
//! 3. *Finalise*, when every copy was made: the pending placement is in force, durably.
//! 4. *Drop*: walk all keys again; a node that is no owner forgets its copy, but only when every
//!    owner has a version at least as new, and only if the copy is still the one that was seen.
//!
//! It can be stopped anywhere, by a crash too, and run again.
//!
//! # Caveats
//!
//! One key batch at a time a link; no rate limit, no pause. It is told a batch at a time, too. A node that leaves is cleared only by the
//! run that finalises: if that run or the node stops before the drop, its old copies stay on its disk.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::net::NodeApiClient;
use ringkv_shared::plan::{Decision, Holding, decide};
use ringkv_shared::protocol::Status;
use ringkv_shared::protocol::cluster::{
    LinkReport, NarrationLine, RebalanceReport, RebalanceState,
};
use ringkv_shared::protocol::node::{KeyVersion, Record};
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, ErrorName, Failure, NodeId};
use tokio::time::Instant;

use crate::cluster::{Cluster, View};
use crate::state::Event;
use crate::walk::{Range, Walk};

/// Keys walked before their copies are made.
const BATCH_KEYS: usize = 1000;
/// Records fetched and applied in one call.
const CALL_RECORDS: usize = 500;
/// Narration kept for pollers.
const LINES_KEPT: usize = 1000;
/// A batch has this long: it may hold half a megabyte to be synced.
const BATCH_DEADLINE: Duration = Duration::from_secs(30);

/// The rebalance that runs, or the last one that ran.
pub(crate) struct Job {
    report: RebalanceReport,
    lines: VecDeque<NarrationLine>,
    told: u64,
    /// The number of the last line that pollers may see, see [`Job::settle`].
    settled: u64,
    links: BTreeMap<(NodeId, NodeId), u64>,
    started: Instant,
}

impl Job {
    pub(crate) fn idle() -> Self {
        Self::new(RebalanceState::Idle, false, 0)
    }

    fn new(state: RebalanceState, dry_run: bool, total: u64) -> Self {
        let report = RebalanceReport {
            status: Status::Ok,
            state,
            dry_run,
            scanned: 0,
            total,
            copied: 0,
            removed: 0,
            failed: 0,
            links: Vec::new(),
            lines: Vec::new(),
            elapsed_ms: 0,
            error: None,
        };
        let (lines, links) = (VecDeque::new(), BTreeMap::new());
        Self { report, lines, told: 0, settled: 0, links, started: Instant::now() }
    }

    fn narrate(&mut self, text: String) {
        self.told += 1;
        self.lines.push_back(NarrationLine { number: self.told, text });
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }

    /// Puts the lines since the last time in order, by what was done and then by key, and lets
    /// pollers see them: links work side by side, and the same rebalance is told the same way
    /// every time.
    fn settle(&mut self) {
        let settled = self.settled;
        let lines = self.lines.make_contiguous();
        let new = lines.partition_point(|line| line.number <= settled);
        let new = &mut lines[new..];
        let first = new.first().map_or(0, |line| line.number);
        new.sort_by(|a, b| a.text.cmp(&b.text));
        new.iter_mut().zip(first..).for_each(|(line, number)| line.number = number);
        self.settled = self.told;
    }

    fn copied(&mut self, key: &Blob, from: &NodeId, to: &NodeId) {
        self.report.copied += 1;
        *self.links.entry((from.clone(), to.clone())).or_default() += 1;
        if !self.report.dry_run {
            self.narrate(format!("Copied key '{key}' to {to}"));
        }
    }

    fn end(&mut self, result: Result<(), Failure>) {
        self.report.elapsed_ms = elapsed_ms(self.started);
        self.settle();
        match result {
            Ok(()) => self.report.state = RebalanceState::Complete,
            Err(failure) => {
                self.report.state = RebalanceState::Failed;
                self.report.error = Some(failure);
            }
        }
    }

    /// What to tell a poller that has seen the lines up to `after`.
    pub(crate) fn report(&self, after: u64) -> RebalanceReport {
        let mut report = self.report.clone();
        if report.state == RebalanceState::Running {
            report.elapsed_ms = elapsed_ms(self.started);
        }
        let link = |((from, to), keys): (&(NodeId, NodeId), &u64)| LinkReport {
            from: from.clone(),
            to: to.clone(),
            keys: *keys,
        };
        report.links = self.links.iter().map(link).collect();
        let is_new = |line: &&NarrationLine| line.number > after && line.number <= self.settled;
        report.lines = self.lines.iter().filter(is_new).cloned().collect();
        report
    }
}

fn elapsed_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Cluster {
    /// Starts a rebalance in the background.
    pub(crate) fn rebalance(self: &Arc<Self>, dry_run: bool) -> Result<RebalanceReport, Failure> {
        drop(self.alone()?);
        let held: u64 = self
            .view()
            .nodes
            .values()
            .filter_map(|node| node.opinion(0).last)
            .map(|s| s.size)
            .sum();
        let passes = if dry_run { 1 } else { 2 };
        let replication = self.view().topology.newest().replication.max(1) as u64;
        let job = Job::new(RebalanceState::Running, dry_run, held * passes / replication);
        *self.lock_job() = job;
        let cluster = self.clone();
        tokio::spawn(async move {
            let _alone = cluster.changing.lock().await;
            let result = cluster.run_rebalance(dry_run).await;
            cluster.lock_job().end(result);
        });
        Ok(self.lock_job().report(0))
    }

    pub(crate) fn lock_job(&self) -> std::sync::MutexGuard<'_, Job> {
        self.job.lock().expect("no panic while the lock is held")
    }

    async fn run_rebalance(&self, dry_run: bool) -> Result<(), Failure> {
        self.older_views_unused().await;
        let view = self.view();
        if !dry_run {
            may_run(&view)?;
        }
        let target = view.topology.newest().clone();
        self.copy_pass(&view, &target, dry_run).await?;
        if dry_run {
            return Ok(());
        }
        if view.topology.pending.is_some() {
            if self.lock_job().report.failed > 0 {
                return Err(Failure::new(
                    ErrorName::NotEnoughReplicas,
                    "some copies could not be made, so the change of the ring still waits; nothing was removed",
                )
                .hint("see show, then: rebalance"));
            }
            self.commit(&Event::Final)?;
            self.older_views_unused().await;
        }
        // The view from before the change: a node that left with it is cleared, too.
        self.drop_pass(&view, &target).await
    }

    /// Copies what owners lack; in a dry run only counts, drops too.
    async fn copy_pass(
        &self,
        view: &View,
        target: &Placement,
        dry_run: bool,
    ) -> Result<(), Failure> {
        let range =
            Range { keys_only: true, tombstones: true, page_keys: BATCH_KEYS, ..Range::default() };
        let mut walk = Walk::new(self, view, range);
        let mut wanted: BTreeMap<(NodeId, NodeId), Vec<Blob>> = BTreeMap::new();
        let mut gathered = 0;
        while let Some(group) = walk.next().await {
            let (key, decision) = judge(&group, target);
            self.lock_job().report.scanned += 1;
            if dry_run {
                self.count(&key, &decision);
                continue;
            }
            for to in &decision.copy_to {
                if let Some(from) = &decision.from {
                    wanted.entry((from.clone(), to.clone())).or_default().push(key.clone());
                    gathered += 1;
                }
            }
            if gathered >= BATCH_KEYS {
                self.copy(view, std::mem::take(&mut wanted)).await;
                gathered = 0;
            }
        }
        self.copy(view, wanted).await;
        enough_seen(view, &walk)
    }

    fn count(&self, key: &Blob, decision: &Decision) {
        let mut job = self.lock_job();
        if let Some(from) = &decision.from {
            decision.copy_to.iter().for_each(|to| job.copied(key, from, to));
        }
        job.report.removed += decision.drop_at.len() as u64;
    }

    /// Copies along all links at once, each link a batch after the other.
    async fn copy(&self, view: &View, wanted: BTreeMap<(NodeId, NodeId), Vec<Blob>>) {
        let links = wanted.iter().map(|((from, to), keys)| self.copy_link(view, from, to, keys));
        join_all(links).await;
        self.lock_job().settle();
    }

    async fn copy_link(&self, view: &View, from: &NodeId, to: &NodeId, keys: &[Blob]) {
        let mut rest: VecDeque<Blob> = keys.to_vec().into();
        while !rest.is_empty() {
            let batch: Vec<Blob> = rest.iter().take(CALL_RECORDS).cloned().collect();
            match self.copy_batch(view, from, to, batch).await {
                // A page may be cut short by its byte budget: go on behind the last one copied.
                Ok(copied) if !copied.is_empty() => {
                    let mut job = self.lock_job();
                    copied.iter().for_each(|key| job.copied(key, from, to));
                    rest.retain(|key| !copied.contains(key));
                }
                // Gone from the source meanwhile: whoever wrote last wrote to the owners too.
                Ok(_) => return,
                Err(failure) => {
                    let mut job = self.lock_job();
                    job.report.failed += rest.len() as u64;
                    job.narrate(format!(
                        "Not copied from {from} to {to}: {} keys, {failure}",
                        rest.len()
                    ));
                    return;
                }
            }
        }
    }

    async fn copy_batch(
        &self,
        view: &View,
        from: &NodeId,
        to: &NodeId,
        keys: Vec<Blob>,
    ) -> Result<std::collections::BTreeSet<Blob>, Failure> {
        let (source, target) = (&view.nodes[from], &view.nodes[to]);
        let fetch = async move |client: &ringkv_shared::net::Client| {
            NodeApiClient::fetch(client, keys).await
        };
        let fetched = source.peer.call(BATCH_DEADLINE, fetch).await;
        let records = fetched.map_err(|error| error.into_failure(&source.name()))?.records;
        let copied = records.iter().map(|record| record.key.clone()).collect();
        let apply = async move |client: &ringkv_shared::net::Client| {
            NodeApiClient::apply(client, records).await
        };
        let applied = target.peer.call(BATCH_DEADLINE, apply).await;
        applied.map_err(|error| error.into_failure(&target.name()))?;
        Ok(copied)
    }

    /// Drops copies at nodes that are no owners, where all owners have them.
    async fn drop_pass(&self, view: &View, target: &Placement) -> Result<(), Failure> {
        let range =
            Range { keys_only: true, tombstones: true, page_keys: BATCH_KEYS, ..Range::default() };
        let mut walk = Walk::new(self, view, range);
        let mut wanted: BTreeMap<NodeId, Vec<KeyVersion>> = BTreeMap::new();
        let mut gathered = 0;
        while let Some(group) = walk.next().await {
            let (key, decision) = judge(&group, target);
            self.lock_job().report.scanned += 1;
            if !decision.copy_to.is_empty() {
                continue;
            }
            for Holding { node, version } in decision.drop_at {
                wanted.entry(node).or_default().push(KeyVersion { key: key.clone(), version });
                gathered += 1;
            }
            if gathered >= BATCH_KEYS {
                self.drop_copies(view, std::mem::take(&mut wanted)).await;
                gathered = 0;
            }
        }
        self.drop_copies(view, wanted).await;
        Ok(())
    }

    async fn drop_copies(&self, view: &View, wanted: BTreeMap<NodeId, Vec<KeyVersion>>) {
        let nodes = wanted.into_iter().map(|(node, keys)| async move {
            for batch in keys.chunks(CALL_RECORDS) {
                self.drop_batch(view, &node, batch).await;
            }
        });
        join_all(nodes).await;
        self.lock_job().settle();
    }

    async fn drop_batch(&self, view: &View, node: &NodeId, batch: &[KeyVersion]) {
        let keys = batch.to_vec();
        let call = async move |client: &ringkv_shared::net::Client| {
            NodeApiClient::drop_keys(client, keys).await
        };
        let dropped = view.nodes[node].peer.call(BATCH_DEADLINE, call).await;
        let mut job = self.lock_job();
        match dropped {
            Ok(reply) => {
                job.report.removed += reply.changed;
                if reply.changed == batch.len() as u64 {
                    for key in batch {
                        job.narrate(format!("Removed key '{}' from {node}", key.key));
                    }
                } else {
                    // The node says how many, not which: the others were written to meanwhile.
                    let (removed, of) = (reply.changed, batch.len());
                    job.narrate(format!(
                        "Removed {removed} of {of} keys from {node}, the others changed"
                    ));
                }
            }
            Err(error) => {
                job.report.failed += batch.len() as u64;
                job.narrate(format!("Not removed from {node}: {} keys, it {error}", batch.len()));
            }
        }
    }
}

fn judge(group: &[(NodeId, Record)], target: &Placement) -> (Blob, Decision) {
    let holdings: Vec<Holding> = group
        .iter()
        .map(|(node, record)| Holding { node: node.clone(), version: record.version })
        .collect();
    let key = group[0].1.key.clone();
    let owners = target.owners(key.as_bytes());
    let decision = decide(&holdings, &owners);
    (key, decision)
}

/// A node that is to get keys must be there.
fn may_run(view: &View) -> Result<(), Failure> {
    let Some(pending) = &view.topology.pending else { return Ok(()) };
    let absent = view.nodes.values().find(|node| pending.has(&node.id) && node.is_down());
    match absent {
        Some(node) => Err(Failure::new(
            ErrorName::Unreachable,
            format!("{} is DOWN and has to take part; nothing was moved", node.id),
        )
        .hint(format!("restart {0}, or take it off the ring: removenode {0}", node.id))),
        None => Ok(()),
    }
}

/// With fewer silent nodes than copies, every acknowledged key was seen at some owner.
fn enough_seen(view: &View, walk: &Walk<'_>) -> Result<(), Failure> {
    let current = &view.topology.current;
    let silent: Vec<&str> =
        walk.silent.iter().filter(|id| current.has(id)).map(NodeId::as_str).collect();
    if silent.is_empty() || silent.len() < current.replication {
        return Ok(());
    }
    Err(Failure::new(
        ErrorName::Unreachable,
        format!(
            "{} did not answer and may hold the only copy of some keys; nothing was removed",
            silent.join(" ")
        ),
    )
    .hint("restart it, then: rebalance"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(job: &Job, after: u64) -> String {
        let lines = job.report(after).lines;
        lines.iter().map(|line| format!("{} {}\n", line.number, line.text)).collect()
    }

    #[test]
    fn lines_are_told_in_order_a_batch_at_a_time() {
        let mut job = Job::new(RebalanceState::Running, false, 0);
        ["b", "c", "a"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 0), "");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n");
        ["z", "x"].iter().for_each(|line| job.narrate((*line).to_owned()));
        assert_eq!(told(&job, 2), "3 c\n");
        job.end(Ok(()));
        assert_eq!(told(&job, 2), "3 c\n4 x\n5 z\n");
        job.settle();
        assert_eq!(told(&job, 0), "1 a\n2 b\n3 c\n4 x\n5 z\n");
    }
}
