//! The two walks of a rebalance, key by key: one that copies what owners lack, one that drops what lies where it does
//! not belong. Most keys have neither, or go many at a time: see `bulk`, which leaves to these walks what is not alike.
//!
//! An owner that has forgotten the tombstone of a key, since all owners had it, says so when an older copy
//! comes: then that copy is dropped where it came from. So a key that no owner of now knows is offered to them
//! first: somebody who was away for long may have brought it along.
//!
//! A walk goes in *rounds*: while the keys of one are copied, or dropped, those of the next are gathered. Within a
//! round each link has several batches under way.
//!
//! # Caveats
//!
//! A walk that is left, since somebody paused, begins from the first key when it goes on:
//! what was copied by then is not copied again. A node that is DOWN is not waited for: what it holds and should
//! drop stays there. So does an old copy of a key that was written in each of the walks that drop.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{join, join_all};
use futures::stream;
use ringkv_shared::causal::Context;
use ringkv_shared::change::Task;
use ringkv_shared::pace::{BATCHES_MOST, Limits, Room};
use ringkv_shared::plan::{Decision, Found, Holding, Link, RECORD_BYTES, decide, offered_to};
use ringkv_shared::protocol::node::{KeyVersion, Record, Via};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

use crate::cluster::{Cluster, View};
use crate::job::millis;
use crate::plan::enough_seen;
use crate::transfer::{CALL_RECORDS, Copied, Way};
use crate::walk::{Range, Walk};

/// Copies of a round: a few megabytes of keys.
const ROUND_KEYS: usize = 20_000;
/// How often it walks to drop copies. A key that is written while a walk comes by seems to differ and is passed over:
/// a node that leaves under load would hardly ever be empty in the end.
const DROP_WALKS: usize = 3;
/// The longest it waits before it looks whether it is to be left.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A key to copy and the bytes that it has, as the walk saw it.
type Due = (Blob, u64);

/// The keys to copy of a round.
type Wanted = BTreeMap<Link, Vec<Due>>;

/// The copies to drop of a round.
pub(crate) type Strays = BTreeMap<NodeId, Vec<KeyVersion>>;

/// What a walk has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// To its end.
    All,
    /// It was left: something else is to be done.
    Left,
}

impl Cluster {
    /// Copies what owners of the newest placement lack.
    pub(crate) async fn copy_all(&self, view: &View) -> Result<Walked, Failure> {
        for space in view.keyspaces.keys() {
            if self.copy_space(view, space).await? == Walked::Left {
                return Ok(Walked::Left);
            }
        }
        let mut job = self.lock_job();
        if !job.run.is_cancelled() {
            job.close_ledger();
        }
        Ok(Walked::All)
    }

    /// Walks over keys and copies. Twice where keys were offered to the owners of now first: what they took has to be
    /// copied yet.
    pub(crate) async fn copy_range(&self, view: &View, range: Range) -> Result<Walked, Failure> {
        for _ in 0..2 {
            match self.copy_pass(view, range.clone()).await? {
                None => return Ok(Walked::Left),
                Some(0) => break,
                Some(_) => {}
            }
        }
        Ok(Walked::All)
    }

    /// Says how many keys were offered; `None` when it was left.
    async fn copy_pass(&self, view: &View, range: Range) -> Result<Option<u64>, Failure> {
        let (everybody, space) = (view.everybody(), &range.keyspace.clone());
        let mut walk = Walk::of(self, &everybody, range, None);
        let mut offered = 0;
        let mut round = self.gather(view, space, &mut walk, &mut offered).await;
        while !round.is_empty() {
            let next = self.gather(view, space, &mut walk, &mut offered);
            let (copied, next) = join(self.copy(view, space, round), next).await;
            if copied == Walked::Left || self.has_left(Task::Copy) {
                return Ok(None);
            }
            round = next;
        }
        self.lock_job().settle();
        if self.has_left(Task::Copy) {
            return Ok(None);
        }
        if let Some(lost) = enough_seen(view, space, &walk.silent)? {
            self.lock_job().narrate(lost);
        }
        Ok(Some(offered))
    }

    /// The keys of the next round; none at the end, or when it is to be left.
    async fn gather(
        &self,
        view: &View,
        space: &KeyspaceName,
        walk: &mut Walk<'_>,
        offered: &mut u64,
    ) -> Wanted {
        let target = view.topology.newest();
        let (mut wanted, mut gathered) = (Wanted::new(), 0);
        while gathered < ROUND_KEYS
            && let Some(found) = walk.next_found().await
        {
            let (key, mut decision) = judge(&found, target, space);
            let offer = view.offer(&found, space);
            if let Some(owners) = &offer {
                decision = decide(&holdings(&found), owners);
                *offered += 1;
            }
            if self.note_turn(space, &key, &decision, offer.is_some()) == Walked::Left {
                return Wanted::new();
            }
            for link in decision.copies {
                let bytes = found.iter().find(|found| found.node == link.0).map_or(0, |f| f.bytes);
                wanted.entry(link).or_default().push((key.clone(), bytes + RECORD_BYTES));
                gathered += 1;
            }
        }
        wanted
    }

    /// What was planned for a key and is not needed has arrived. One that is offered first has its turn in the
    /// second walk.
    fn note_turn(
        &self,
        space: &KeyspaceName,
        key: &Blob,
        decision: &Decision,
        offered: bool,
    ) -> Walked {
        let mut job = self.lock_job();
        job.report.scanned += 1;
        if !offered {
            let arrived = job.ledger.arrived(space, key, &decision.copies);
            arrived.iter().for_each(|link| job.arrived(link));
        }
        if job.run.has_left(Task::Copy) { Walked::Left } else { Walked::All }
    }

    /// Copies along all links at once.
    async fn copy(&self, view: &View, space: &KeyspaceName, wanted: Wanted) -> Walked {
        let links = wanted.iter().map(|(link, keys)| self.copy_link(view, space, link, keys));
        let walked = join_all(links).await;
        self.lock_job().settle();
        all_of(walked)
    }

    async fn copy_link(
        &self,
        view: &View,
        space: &KeyspaceName,
        link: &Link,
        keys: &[Due],
    ) -> Walked {
        let way = Way { view, space, from: &link.0, to: &link.1, via: Via::Move };
        let rest = Mutex::new(keys);
        all_of(
            join_all((0..BATCHES_MOST).map(|hand| self.copy_batches(way, link, &rest, hand))).await,
        )
    }

    /// One of several hands that take batches of what is left of a link, one after the other.
    async fn copy_batches(
        &self,
        way: Way<'_>,
        link: &Link,
        rest: &Mutex<&[Due]>,
        hand: usize,
    ) -> Walked {
        let take = |size| {
            let mut rest = rest.lock().expect("no panic while the lock is held");
            let (batch, left) = rest.split_at(size_of_batch(&rest, size));
            *rest = left;
            batch
        };
        loop {
            let room = self.lock_job().pace.room(&self.limits());
            if hand >= room.batches {
                return Walked::All;
            }
            let batch = take(Some(room));
            if batch.is_empty() {
                return Walked::All;
            }
            if self.wait_for_turn(batch.iter().map(|(_, bytes)| bytes).sum()).await == Walked::Left
            {
                take(None);
                return Walked::Left;
            }
            let keys: Vec<Blob> = batch.iter().map(|(key, _)| key.clone()).collect();
            let started = Instant::now();
            // What is gone from the source meanwhile: whoever wrote last wrote to the owners too.
            match self.transfer(way, &keys).await {
                Ok(copied) => self.note_copied(way.space, link, &keys, &copied),
                Err(failure) => {
                    // Asked first: it may go on as soon as the failure is seen, while others have not failed yet.
                    let left = self.has_left(Task::Copy);
                    // Nobody tries the others.
                    let all: Vec<&Blob> =
                        batch.iter().chain(take(None)).map(|(key, _)| key).collect();
                    self.note_failed(way.space, link, all.into_iter(), &failure);
                    return if left { Walked::Left } else { Walked::All };
                }
            }
            let rest_for = self.lock_job().pace.rest(started.elapsed());
            self.hold_back(rest_for).await;
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

    pub(crate) fn limits(&self) -> Limits {
        let settings = self.settings();
        Limits { rate: settings.rebalance_rate(), slow: settings.yield_above() }
    }

    pub(crate) fn has_left(&self, task: Task) -> bool {
        self.lock_job().run.has_left(task)
    }

    /// Waits until a batch of so many bytes may go.
    pub(crate) async fn wait_for_turn(&self, bytes: u64) -> Walked {
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
    pub(crate) async fn hold_back(&self, wait: Duration) -> Walked {
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
                if !self.drop_space(view, space).await {
                    break;
                }
            }
        }
    }

    /// Says whether it is worth while to walk once more: copies were passed over, and all nodes answered.
    pub(crate) async fn drop_range(&self, view: &View, range: Range) -> bool {
        let (everybody, space) = (view.everybody(), &range.keyspace.clone());
        let mut walk = Walk::of(self, &everybody, range, None);
        let mut passed_over = false;
        let mut round = self.gather_strays(view, space, &mut walk, &mut passed_over).await;
        while !round.is_empty() {
            let next = self.gather_strays(view, space, &mut walk, &mut passed_over);
            ((), round) = join(self.drop_copies(view, space, round), next).await;
        }
        self.lock_job().settle();
        passed_over && walk.silent.is_empty()
    }

    /// What is to be dropped in the next round; nothing at the end.
    async fn gather_strays(
        &self,
        view: &View,
        space: &KeyspaceName,
        walk: &mut Walk<'_>,
        passed_over: &mut bool,
    ) -> Strays {
        let target = &view.topology.current;
        let (mut wanted, mut gathered) = (Strays::new(), 0);
        while gathered < ROUND_KEYS
            && let Some(found) = walk.next_found().await
        {
            self.lock_job().report.scanned += 1;
            let strays = strays_of(&found, target, space);
            *passed_over |= strays.is_none();
            for (node, forget) in strays.into_iter().flatten() {
                wanted.entry(node).or_default().push(forget);
                gathered += 1;
            }
        }
        wanted
    }

    pub(crate) async fn drop_copies(&self, view: &View, space: &KeyspaceName, wanted: Strays) {
        let nodes = wanted.iter().map(|(node, keys)| self.drop_at(view, space, node, keys));
        join_all(nodes).await;
        self.lock_job().settle();
    }

    async fn drop_at(&self, view: &View, space: &KeyspaceName, node: &NodeId, keys: &[KeyVersion]) {
        let batches =
            keys.chunks(CALL_RECORDS).map(|keys| self.drop_batch(view, space, node, keys));
        let batches: Vec<_> = batches.collect();
        stream::iter(batches).buffer_unordered(BATCHES_MOST).collect::<()>().await;
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

/// Left, if one of them was.
fn all_of(walked: Vec<Walked>) -> Walked {
    if walked.contains(&Walked::Left) { Walked::Left } else { Walked::All }
}

/// How many of these keys a batch has: what there is room for and one at least, or all.
fn size_of_batch(keys: &[Due], room: Option<Room>) -> usize {
    let Some(room) = room else { return keys.len() };
    let mut bytes = 0;
    let fits = keys.iter().take(room.keys.min(CALL_RECORDS)).take_while(|(_, size)| {
        bytes += size;
        bytes <= room.bytes
    });
    fits.count().max(1).min(keys.len())
}

fn judge(found: &[Found], target: &Placement, space: &KeyspaceName) -> (Blob, Decision) {
    let key = found[0].record.key.clone();
    let owners = target.preferred(space, key_position(key.as_bytes()));
    let alike = found.iter().all(|other| other.record.is_same(&found[0].record));
    if alike && found.len() == owners.len() && found.iter().all(|f| owners.contains(&f.node)) {
        // Nearly all keys are like this: nothing is to be done.
        return (key, Decision::default());
    }
    let decision = decide(&holdings(found), &owners.to_vec());
    (key, decision)
}

/// What may be dropped of a key, and where; `None` if something had to be, but an owner lacks something.
pub(crate) fn strays_of(
    found: &[Found],
    target: &Placement,
    space: &KeyspaceName,
) -> Option<Vec<(NodeId, KeyVersion)>> {
    let (key, decision) = judge(found, target, space);
    if !decision.copies.is_empty() {
        return decision.drop_at.is_empty().then(Vec::new);
    }
    let strays = found.iter().filter(|found| decision.drop_at.contains(&found.node));
    let forget =
        |found: &Found| (found.node.clone(), key_version(&key, &found.record, &decision.seen));
    Some(strays.map(forget).collect())
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
        let position = key_position(found[0].record.key.as_bytes());
        let owners = self.topology.current.preferred(space, position);
        if found.iter().any(|found| owners.contains(&found.node)) {
            return None;
        }
        let owners = owners.to_vec();
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
            let room = Room { keys: room_keys, batches: 1, bytes };
            assert_eq!(size_of_batch(&keys, Some(room)), expected, "{room:?}");
        }
        assert_eq!((size_of_batch(&keys, None), size_of_batch(&[], None)), (5, 0));
    }
}
