//! The two walks of a rebalance: one that copies what owners lack, one that drops what lies where it does not
//! belong.
//!
//! An owner that has forgotten the tombstone of a key, since all owners had it, says so when an older copy
//! comes: then that copy is dropped where it came from. So a key that no owner of now knows is offered to them
//! first: somebody who was away for long may have brought it along.
//!
//! # Caveats
//!
//! One batch at a time a link. A walk that is left, since somebody paused, begins from the first key when it goes on:
//! what was copied by then is not copied again. A node that is DOWN is not waited for: what it holds and should
//! drop stays there. So does an old copy of a key that was written in each of the walks that drop.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use ringkv_shared::causal::Context;
use ringkv_shared::change::Task;
use ringkv_shared::pace::{Limits, Room};
use ringkv_shared::plan::{Decision, Found, Holding, Link, RECORD_BYTES, decide, offered_to};
use ringkv_shared::protocol::node::{KeyVersion, Record, Via};
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

use crate::cluster::{Cluster, View};
use crate::job::millis;
use crate::plan::{enough_seen, everything};
use crate::transfer::{CALL_RECORDS, Copied, Way};
use crate::walk::Walk;

/// Copies gathered before they are made.
const BATCH_KEYS: usize = 1000;
/// How often it walks to drop copies. A key that is written while a walk comes by seems to differ and is passed over:
/// a node that leaves under load would hardly ever be empty in the end.
const DROP_WALKS: usize = 3;
/// The longest it waits before it looks whether it is to be left.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A key to copy and the bytes that it has, as the walk saw it.
type Wanted = BTreeMap<Link, Vec<(Blob, u64)>>;

/// What a walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// To its end.
    All,
    /// It was left: something else is to be done.
    Left,
}

impl Cluster {
    /// Copies what owners of the newest placement lack. Twice where keys were offered to the owners of now first: what
    /// they took has to be copied yet.
    pub(crate) async fn copy_all(&self, view: &View) -> Result<Walked, Failure> {
        for space in view.keyspaces.keys() {
            for _ in 0..2 {
                match self.copy_pass(view, space).await? {
                    None => return Ok(Walked::Left),
                    Some(0) => break,
                    Some(_) => {}
                }
            }
        }
        let mut job = self.lock_job();
        if !job.run.is_cancelled() {
            job.close_ledger();
        }
        Ok(Walked::All)
    }

    /// Says how many keys were offered; `None` when it was left.
    async fn copy_pass(&self, view: &View, space: &KeyspaceName) -> Result<Option<u64>, Failure> {
        let target = view.topology.newest();
        let everybody = view.everybody();
        let mut walk = Walk::of(self, &everybody, everything(space), None);
        let mut wanted = Wanted::new();
        let (mut gathered, mut offered) = (0, 0);
        while let Some(found) = walk.next_found().await {
            let (key, mut decision) = judge(&found, target, space);
            let offer = view.offer(&found, space);
            if let Some(owners) = &offer {
                decision = decide(&holdings(&found), owners);
                offered += 1;
            }
            self.note_turn(space, &key, &decision, offer.is_some());
            for link in decision.copies {
                let bytes = found.iter().find(|found| found.node == link.0).map_or(0, |f| f.bytes);
                wanted.entry(link).or_default().push((key.clone(), bytes + RECORD_BYTES));
                gathered += 1;
            }
            if gathered >= BATCH_KEYS {
                self.copy(view, space, std::mem::take(&mut wanted)).await;
                gathered = 0;
                if self.has_left(Task::Copy) {
                    return Ok(None);
                }
            }
        }
        self.copy(view, space, wanted).await;
        if self.has_left(Task::Copy) {
            return Ok(None);
        }
        if let Some(lost) = enough_seen(view, space, &walk.silent)? {
            self.lock_job().narrate(lost);
        }
        Ok(Some(offered))
    }

    /// What was planned for a key and is not needed has arrived. One that is offered first has its turn in the
    /// second walk.
    fn note_turn(&self, space: &KeyspaceName, key: &Blob, decision: &Decision, offered: bool) {
        let mut job = self.lock_job();
        job.report.scanned += 1;
        if !offered {
            let arrived = job.ledger.arrived(space, key, &decision.copies);
            arrived.iter().for_each(|link| job.arrived(link));
        }
    }

    /// Copies along all links at once, each link a batch after the other.
    async fn copy(&self, view: &View, space: &KeyspaceName, wanted: Wanted) {
        let links = wanted.iter().map(|(link, keys)| self.copy_link(view, space, link, keys));
        join_all(links).await;
        self.lock_job().settle();
    }

    async fn copy_link(
        &self,
        view: &View,
        space: &KeyspaceName,
        link: &Link,
        mut keys: &[(Blob, u64)],
    ) {
        let way = Way { view, space, from: &link.0, to: &link.1, via: Via::Move };
        while !keys.is_empty() {
            let size = batch_size(keys, self.lock_job().pace.room(&self.limits()));
            let (batch, rest) = keys.split_at(size);
            if self.wait_for_turn(batch.iter().map(|(_, bytes)| bytes).sum()).await == Walked::Left
            {
                return;
            }
            let batch: Vec<Blob> = batch.iter().map(|(key, _)| key.clone()).collect();
            let started = Instant::now();
            // What is gone from the source meanwhile: whoever wrote last wrote to the owners too.
            let copied = self.transfer(way, &batch).await;
            match copied {
                Ok(copied) => self.note_copied(space, link, &batch, &copied),
                Err(failure) => {
                    let keys = keys.iter().map(|(key, _)| key);
                    self.note_failed(space, link, keys, &failure);
                    return;
                }
            }
            let rest_for = self.lock_job().pace.rest(started.elapsed());
            self.hold_back(rest_for).await;
            keys = rest;
        }
    }

    fn note_copied(&self, space: &KeyspaceName, link: &Link, batch: &[Blob], copied: &Copied) {
        let mut job = self.lock_job();
        let (from, to) = link;
        for key in batch {
            job.tried(space, key, link);
        }
        job.report.failed += copied.refused.len() as u64;
        for key in &copied.refused {
            job.narrate(format!("Not copied from {from} to {to}: {key} is too large"));
        }
        let records = copied.records.iter().map(|record| &record.key);
        let made: Vec<&Blob> = records.filter(|key| !copied.stale.contains(key)).collect();
        job.copied(space, &made, link, copied.changed, copied.bytes / 2);
        // What was gone or deleted meanwhile.
        (made.len() + copied.refused.len()..batch.len()).for_each(|_| job.arrived(link));
        // Another owner may have said so first.
        if copied.dropped == copied.stale.len() as u64 {
            copied.stale.iter().for_each(|key| job.removed(space, key, from));
        }
    }

    fn note_failed<'a>(
        &self,
        space: &KeyspaceName,
        link: &Link,
        keys: impl ExactSizeIterator<Item = &'a Blob>,
        failure: &Failure,
    ) {
        let mut job = self.lock_job();
        let (count, (from, to)) = (keys.len(), link);
        job.report.failed += count as u64;
        keys.for_each(|key| job.tried(space, key, link));
        job.narrate(format!("Not copied from {from} to {to}: {count} keys, {failure}"));
    }

    fn limits(&self) -> Limits {
        let settings = self.settings();
        Limits { rate: settings.rebalance_rate(), slow: settings.yield_above() }
    }

    fn has_left(&self, task: Task) -> bool {
        self.lock_job().run.has_left(task)
    }

    /// Waits until a batch of so many bytes may go.
    async fn wait_for_turn(&self, bytes: u64) -> Walked {
        if self.has_left(Task::Copy) {
            return Walked::Left;
        }
        let limits = self.limits();
        let wait = {
            let mut job = self.lock_job();
            let now = job.elapsed();
            job.pace.look(now, &limits, || self.latency.p99(Instant::now()));
            job.pace.take(now, &limits, bytes)
        };
        self.hold_back(wait).await
    }

    /// Waits, and counts that; not on when it is to be left, or when another limit is set.
    async fn hold_back(&self, wait: Duration) -> Walked {
        let (until, limits) = (Instant::now() + wait, self.limits());
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(LOOK_UP);
            if left.is_zero() || self.limits() != limits {
                return Walked::All;
            }
            tokio::time::sleep(left).await;
            let mut job = self.lock_job();
            job.waited += left;
            job.report.waited_ms = millis(job.waited);
            if job.run.has_left(Task::Copy) {
                return Walked::Left;
            }
        }
    }

    /// Drops copies at nodes that are no owners, where all owners have them.
    pub(crate) async fn drop_all(&self, view: &View) {
        for space in view.keyspaces.keys() {
            for _ in 0..DROP_WALKS {
                if !self.drop_pass(view, space).await {
                    break;
                }
            }
        }
    }

    /// Says whether it is worth while to walk once more: copies were passed over, and all nodes answered.
    async fn drop_pass(&self, view: &View, space: &KeyspaceName) -> bool {
        let target = &view.topology.current;
        let everybody = view.everybody();
        let mut walk = Walk::of(self, &everybody, everything(space), None);
        let mut wanted: BTreeMap<NodeId, Vec<KeyVersion>> = BTreeMap::new();
        let (mut gathered, mut passed_over) = (0, false);
        while let Some(found) = walk.next_found().await {
            let (key, decision) = judge(&found, target, space);
            self.lock_job().report.scanned += 1;
            if !decision.copies.is_empty() {
                passed_over |= !decision.drop_at.is_empty();
                continue;
            }
            for Found { node, record, .. } in &found {
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
        passed_over && walk.silent.is_empty()
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
        let Some(at) = view.anybody(node) else { return };
        let dropped = self.forget(at, space, batch.to_vec()).await;
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

/// How many of these keys a batch may have; at least one.
fn batch_size(keys: &[(Blob, u64)], room: Room) -> usize {
    let mut bytes = 0;
    let fits = keys.iter().take(room.keys.min(CALL_RECORDS)).take_while(|(_, size)| {
        bytes += size;
        bytes <= room.bytes
    });
    fits.count().max(1)
}

fn judge(found: &[Found], target: &Placement, space: &KeyspaceName) -> (Blob, Decision) {
    let key = found[0].record.key.clone();
    let owners = target.owners(space, key.as_bytes());
    let decision = decide(&holdings(found), &owners);
    (key, decision)
}

fn holdings(found: &[Found]) -> Vec<Holding> {
    let holding = |found: &Found| Holding { node: found.node.clone(), held: found.record.clone() };
    found.iter().map(holding).collect()
}

impl View {
    /// The owners of now that are up, when the ring is to change and none of them holds anything of a key that
    /// others do: it may have been deleted, and they know.
    fn offer(&self, found: &[Found], space: &KeyspaceName) -> Option<Vec<NodeId>> {
        self.topology.pending.as_ref()?;
        let owners = self.topology.current.owners(space, found[0].record.key.as_bytes());
        let up = self.up(&owners);
        offered_to(&holdings(found), &owners, &up).map(<[NodeId]>::to_vec)
    }
}

/// What a node may forget of a key: what it was seen with, if `seen` by all owners.
fn key_version(key: &Blob, record: &Record, seen: &Context) -> KeyVersion {
    let context = (!record.is_plain()).then(|| seen.clone());
    KeyVersion { key: key.clone(), version: record.version, context }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_what_there_is_room_for_and_one_key_at_least() {
        let keys: Vec<(Blob, u64)> = (0..5u8).map(|i| (vec![i].into(), 100)).collect();
        for (room_keys, bytes, expected) in
            [(500, u64::MAX, 5), (3, u64::MAX, 3), (500, 250, 2), (500, 300, 3), (500, 1, 1)]
        {
            let room = Room { keys: room_keys, bytes };
            assert_eq!(batch_size(&keys, room), expected, "{room:?}");
        }
    }
}
