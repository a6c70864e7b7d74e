//! The walk that copies: what the owners to be lack, round by round, along all links at once.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::future::{join, join_all};
use ringkv_shared::change::Task;
use ringkv_shared::pace::{BATCHES_MOST, Room};
use ringkv_shared::plan::{Decision, Found, Link, RECORD_BYTES, decide, offered_to};
use ringkv_shared::protocol::node::Via;
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, Failure, KeyspaceName, NodeId};
use tokio::time::Instant;

use super::{ROUND_KEYS, Walked, holdings, judge};
use crate::cluster::{Cluster, View};
use crate::plan::enough_seen;
use crate::transfer::{CALL_RECORDS, Copied, Way};
use crate::walk::{Range, Walk};

/// A key to copy and the bytes that it has, as the walk saw it.
type Due = (Blob, u64);

/// The keys to copy of a round.
type Wanted = BTreeMap<Link, Vec<Due>>;

impl Cluster {
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
