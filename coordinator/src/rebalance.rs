//! Puts every copy where the ring says, and a staged change in force.
//!
//! 1. Wait until no write is under way that knows only the old placement.
//! 2. *Copy*: walk all keys of each keyspace; what an owner of the newest placement lacks is fetched from
//!    a node that has it and merged there into what it holds, so it can only add what was missing.
//! 3. *Finalise*, when every copy was made: the pending placement is in force, durably.
//! 4. Wait until no request is under way that may have looked at a new owner before it had its copy, and
//!    at the old one has yet to look.
//! 5. *Drop*: walk all keys again; a node that is no owner forgets its copy, but only when every
//!    owner has seen all that it has, and only if the copy is still the one that was seen.
//!
//! An owner that has forgotten the tombstone of a key, since all owners had it, says so when an older copy
//! comes: then that copy is dropped where it came from. So a key that no owner of now knows is offered to them
//! first: somebody who was away for long may have brought it along.
//!
//! It can be stopped anywhere, by a crash too, and run again.
//!
//! # Caveats
//!
//! One key batch at a time a link; no rate limit, no pause. It is told a batch at a time, too. A
//! node that leaves is cleared only by the run that finalises: if that run or the node stops before the drop, its old copies stay on its disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use ringkv_shared::causal::Context;
use ringkv_shared::plan::{Decision, Holding, Preview, decide};
use ringkv_shared::protocol::cluster::RebalanceReport;
use ringkv_shared::protocol::node::{KeyVersion, Record, Via};
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, ErrorName, Failure, KeyspaceName, NodeId};

use crate::cluster::{Cluster, View};
use crate::job::Job;
use crate::plan::{enough_seen, everything, may_run};
use crate::state::Event;
use crate::transfer::{CALL_RECORDS, Way};
use crate::walk::Walk;

/// Keys walked before their copies are made.
const BATCH_KEYS: usize = 1000;

impl Cluster {
    /// Starts a rebalance in the background.
    pub(crate) fn rebalance(self: &Arc<Self>, dry_run: bool) -> Result<RebalanceReport, Failure> {
        let alone = self.alone()?;
        let held: u64 = self
            .view()
            .nodes
            .values()
            .filter_map(|node| node.opinion(0).last)
            .map(|s| s.size)
            .sum();
        let passes = if dry_run { 1 } else { 2 };
        let least = self.view().topology.newest().copies.values().min().copied();
        let replication = least.unwrap_or(1).max(1) as u64;
        *self.lock_job() = Job::start(dry_run, held * passes / replication);
        let cluster = self.clone();
        tokio::spawn(async move {
            let piece = cluster.sync.piece.lock().await;
            let result = cluster.run_rebalance(dry_run).await;
            drop(piece);
            cluster.lock_job().end(result);
            drop(alone);
        });
        Ok(self.lock_job().report(0))
    }

    pub(crate) fn lock_job(&self) -> std::sync::MutexGuard<'_, Job> {
        self.job.lock().expect("no panic while the lock is held")
    }

    async fn run_rebalance(&self, dry_run: bool) -> Result<(), Failure> {
        if !dry_run {
            let view = self.view();
            may_run(&view, view.topology.newest(), &Preview::default())?;
            if self.view().topology.staged.is_some() {
                self.commit(&Event::Commit)?;
            }
        }
        self.adopted().await?;
        let view = self.view();
        let target = view.topology.newest().clone();
        for space in view.keyspaces.keys() {
            if self.copy_pass(&view, &target, space, dry_run).await? > 0 {
                self.copy_pass(&view, &target, space, dry_run).await?;
            }
        }
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
        } else {
            self.publish_again();
        }
        self.adopted().await?;
        // The view from before the change: a node that left with it is cleared, too.
        for space in view.keyspaces.keys() {
            self.drop_pass(&view, &target, space).await;
        }
        self.commit(&Event::Done)?;
        Ok(())
    }

    /// Copies what owners lack; in a dry run only counts, drops too. Says how many keys were offered to the owners
    /// of now first: those that they took have to be copied yet.
    async fn copy_pass(
        &self,
        view: &View,
        target: &Placement,
        space: &KeyspaceName,
        dry_run: bool,
    ) -> Result<u64, Failure> {
        let mut walk = Walk::new(self, view, everything(space));
        let mut wanted: BTreeMap<(NodeId, NodeId), Vec<Blob>> = BTreeMap::new();
        let (mut gathered, mut offered) = (0, 0);
        while let Some(group) = walk.next().await {
            let (key, mut decision) = judge(&group, target, space);
            self.lock_job().report.scanned += 1;
            if dry_run {
                self.count(space, &key, &decision);
                continue;
            }
            if let Some(owners) = view.unknown_to(&group, space) {
                decision = decide(&holdings(&group), &owners);
                offered += 1;
            }
            for link in decision.copies {
                wanted.entry(link).or_default().push(key.clone());
                gathered += 1;
            }
            if gathered >= BATCH_KEYS {
                self.copy(view, space, std::mem::take(&mut wanted)).await;
                gathered = 0;
            }
        }
        self.copy(view, space, wanted).await;
        if let Some(lost) = enough_seen(view, space, &walk.silent)? {
            self.lock_job().narrate(lost);
        }
        Ok(offered)
    }

    fn count(&self, space: &KeyspaceName, key: &Blob, decision: &Decision) {
        let mut job = self.lock_job();
        decision.copies.iter().for_each(|(from, to)| job.copied(space, key, from, to));
        job.report.removed += decision.drop_at.len() as u64;
    }

    /// Copies along all links at once, each link a batch after the other.
    async fn copy(
        &self,
        view: &View,
        space: &KeyspaceName,
        wanted: BTreeMap<(NodeId, NodeId), Vec<Blob>>,
    ) {
        let links =
            wanted.iter().map(|((from, to), keys)| self.copy_link(view, space, (from, to), keys));
        join_all(links).await;
        self.lock_job().settle();
    }

    async fn copy_link(
        &self,
        view: &View,
        space: &KeyspaceName,
        (from, to): (&NodeId, &NodeId),
        keys: &[Blob],
    ) {
        let way = Way { view, space, from, to, via: Via::Move };
        for batch in keys.chunks(CALL_RECORDS) {
            // What is gone from the source meanwhile: whoever wrote last wrote to the owners too.
            let copied = self.transfer(way, batch).await;
            let mut job = self.lock_job();
            match copied {
                Ok(copied) => {
                    job.report.failed += copied.refused.len() as u64;
                    for key in &copied.refused {
                        job.narrate(format!("Not copied from {from} to {to}: {key} is too large"));
                    }
                    let there = |key: &&Blob| !copied.stale.contains(key);
                    let keys = copied.records.iter().map(|record| &record.key).filter(there);
                    keys.for_each(|key| job.copied(space, key, from, to));
                    // Another owner may have said so first.
                    if copied.dropped == copied.stale.len() as u64 {
                        copied.stale.iter().for_each(|key| job.removed(space, key, from));
                    }
                }
                Err(failure) => {
                    let rest = batch.len();
                    job.report.failed += rest as u64;
                    job.narrate(format!("Not copied from {from} to {to}: {rest} keys, {failure}"));
                    return;
                }
            }
        }
    }

    /// Drops copies at nodes that are no owners, where all owners have them.
    async fn drop_pass(&self, view: &View, target: &Placement, space: &KeyspaceName) {
        let mut walk = Walk::new(self, view, everything(space));
        let mut wanted: BTreeMap<NodeId, Vec<KeyVersion>> = BTreeMap::new();
        let mut gathered = 0;
        while let Some(group) = walk.next().await {
            let (key, decision) = judge(&group, target, space);
            self.lock_job().report.scanned += 1;
            if !decision.copies.is_empty() {
                continue;
            }
            for (node, record) in &group {
                if decision.drop_at.contains(node) {
                    let forget = key_version(&key, record, &decision.seen);
                    wanted.entry(node.clone()).or_default().push(forget);
                    gathered += 1;
                }
            }
            if gathered >= BATCH_KEYS {
                self.drop_copies(view, space, std::mem::take(&mut wanted)).await;
                gathered = 0;
            }
        }
        self.drop_copies(view, space, wanted).await;
    }

    async fn drop_copies(
        &self,
        view: &View,
        space: &KeyspaceName,
        wanted: BTreeMap<NodeId, Vec<KeyVersion>>,
    ) {
        let nodes = wanted.into_iter().map(|(node, keys)| async move {
            for batch in keys.chunks(CALL_RECORDS) {
                self.drop_batch(view, space, &node, batch).await;
            }
        });
        join_all(nodes).await;
        self.lock_job().settle();
    }

    async fn drop_batch(
        &self,
        view: &View,
        space: &KeyspaceName,
        node: &NodeId,
        batch: &[KeyVersion],
    ) {
        let dropped = self.forget(&view.nodes[node], space, batch.to_vec()).await;
        let mut job = self.lock_job();
        match dropped {
            Ok(removed) if removed == batch.len() as u64 => {
                batch.iter().for_each(|key| job.removed(space, &key.key, node));
            }
            Ok(removed) => {
                job.report.removed += removed;
                // The node says how many, not which: the others were written to meanwhile.
                let of = batch.len();
                job.narrate(format!(
                    "Removed {removed} of {of} keys from {node}, the others changed"
                ));
            }
            Err(error) => {
                job.report.failed += batch.len() as u64;
                job.narrate(format!("Not removed from {node}: {} keys, {error}", batch.len()));
            }
        }
    }
}

fn judge(group: &[(NodeId, Record)], target: &Placement, space: &KeyspaceName) -> (Blob, Decision) {
    let key = group[0].1.key.clone();
    let owners = target.owners(space, key.as_bytes());
    let decision = decide(&holdings(group), &owners);
    (key, decision)
}

fn holdings(group: &[(NodeId, Record)]) -> Vec<Holding> {
    let holding =
        |(node, held): &(NodeId, Record)| Holding { node: node.clone(), held: held.clone() };
    group.iter().map(holding).collect()
}

impl View {
    /// The owners of now that are up, when none of them holds anything of a key that others do: it may have been
    /// deleted, and they know.
    fn unknown_to(&self, group: &[(NodeId, Record)], space: &KeyspaceName) -> Option<Vec<NodeId>> {
        self.topology.pending.as_ref()?;
        let mut owners = self.topology.current.owners(space, group[0].1.key.as_bytes());
        let known = group.iter().any(|(node, _)| owners.contains(node));
        owners.retain(|owner| self.nodes.get(owner).is_some_and(|node| !node.is_down()));
        (!known && !owners.is_empty()).then_some(owners)
    }
}

/// What a node may forget of a key: what it was seen with, if `seen` by all owners.
fn key_version(key: &Blob, record: &Record, seen: &Context) -> KeyVersion {
    let context = (!record.is_plain()).then(|| seen.clone());
    KeyVersion { key: key.clone(), version: record.version, context }
}
