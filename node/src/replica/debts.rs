//! Debts: which keys other nodes have missed, to be handed over when they are back.
//!
//! A debt is a note of a key, without the value: what is handed over is what is held then. So a key that
//! is written a thousand times while a node is away is one note.
//!
//! Notes are bounded for each node that is owed to, in number, bytes and age. What is beyond is thrown
//! away, and `overflow` says so until all is settled: then anti-entropy has to find what was missed, which it
//! would anyway, later. So a node that never comes back costs a bounded amount, and one that was away
//! for long is not fed key by key what a comparison finds faster.
//!
//! # Caveats
//!
//! A note does not tell which write was missed: one that is made again while the key is on its way is
//! struck off with it. Who hands over has to look out for that, or leave it to anti-entropy.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use ringkv_shared::protocol::node::{Debt, SpaceKey};
use ringkv_shared::{Blob, KeyspaceName, NodeId};

use crate::log::note::Note;

/// The most keys noted for one node: beyond it, to compare is faster than to hand over.
pub const KEYS_MAX: usize = 100_000;
/// The most bytes of notes for one node; long keys meet this bound before the other.
pub const BYTES_MAX: usize = 16 * 1024 * 1024;
/// How old a note may get, in milliseconds: a node that was away for three hours is compared anyway.
pub const AGE_MS_MAX: u64 = 3 * 60 * 60 * 1000;

/// About what a note costs in memory beside its key.
const NOTE_OVERHEAD_BYTES: usize = 48;

// As many keys of usual length as may be noted fit.
const _: () = assert!(KEYS_MAX * (NOTE_OVERHEAD_BYTES + 100) < BYTES_MAX);

/// What becomes of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noting {
    /// It is made.
    New,
    /// It is there.
    Known,
    /// There are too many; it is thrown away.
    Full,
}

/// What is owed to all other nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debts {
    targets: BTreeMap<NodeId, Target>,
}

/// What is owed to one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Target {
    /// When each note was made, in unix milliseconds.
    notes: BTreeMap<SpaceKey, u64>,
    /// How many notes were made at each of these times.
    times: BTreeMap<u64, usize>,
    /// Bytes of the notes, about.
    bytes: usize,
    /// Whether notes were thrown away.
    overflow: bool,
}

fn space_key(keyspace: &KeyspaceName, key: &[u8]) -> SpaceKey {
    SpaceKey { keyspace: keyspace.clone(), key: Blob::from(Bytes::copy_from_slice(key)) }
}

fn bytes_of(key: &SpaceKey) -> usize {
    key.key.len() + NOTE_OVERHEAD_BYTES
}

impl Target {
    fn add(&mut self, key: SpaceKey, at_ms: u64) {
        if self.notes.contains_key(&key) {
            return;
        }
        self.bytes += bytes_of(&key);
        *self.times.entry(at_ms).or_default() += 1;
        self.notes.insert(key, at_ms);
    }

    fn strike(&mut self, key: &SpaceKey) {
        let Some(at_ms) = self.notes.remove(key) else { return };
        self.bytes -= bytes_of(key);
        let same = self.times.get_mut(&at_ms).expect("each note's time is counted");
        *same -= 1;
        if *same == 0 {
            self.times.remove(&at_ms);
        }
    }

    fn strike_all(&mut self, goes: impl Fn(&SpaceKey, u64) -> bool) {
        let gone = self.notes.iter().filter(|(key, at_ms)| goes(key, **at_ms));
        let gone: Vec<SpaceKey> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.strike(key));
    }

    fn is_full(&self, key: &SpaceKey) -> bool {
        self.notes.len() >= KEYS_MAX || self.bytes + bytes_of(key) > BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.notes.is_empty() && !self.overflow
    }
}

impl Debts {
    /// What would become of a note.
    #[must_use]
    pub fn noting(&self, to: &NodeId, keyspace: &KeyspaceName, key: &[u8]) -> Noting {
        let Some(target) = self.targets.get(to) else { return Noting::New };
        let key = space_key(keyspace, key);
        match target.notes.contains_key(&key) {
            true => Noting::Known,
            false if target.is_full(&key) => Noting::Full,
            false => Noting::New,
        }
    }

    /// Notes a key, unless it is noted; says nothing of bounds.
    pub fn owe(&mut self, to: &NodeId, keyspace: &KeyspaceName, key: &[u8], at_ms: u64) {
        let target = self.targets.entry(to.clone()).or_default();
        target.add(space_key(keyspace, key), at_ms);
    }

    /// Strikes a key off.
    pub fn pay(&mut self, to: &NodeId, keyspace: &KeyspaceName, key: &[u8]) {
        self.at(to, |target| target.strike(&space_key(keyspace, key)));
    }

    /// Strikes all off, and the overflow.
    pub fn pay_all(&mut self, to: &NodeId) {
        self.targets.remove(to);
    }

    /// Throws away what was noted before a time.
    pub fn overflow(&mut self, to: &NodeId, before_ms: u64) {
        let target = self.targets.entry(to.clone()).or_default();
        target.overflow = true;
        if target.times.first_key_value().is_some_and(|(oldest, _)| *oldest < before_ms) {
            target.strike_all(|_, at_ms| at_ms < before_ms);
        }
    }

    /// A keyspace is gone, with all its keys.
    pub fn forget(&mut self, keyspace: &KeyspaceName) {
        self.targets.values_mut().for_each(|t| t.strike_all(|key, _| key.keyspace == *keyspace));
        self.targets.retain(|_, target| !target.is_empty());
    }

    fn at(&mut self, to: &NodeId, change: impl FnOnce(&mut Target)) {
        let Some(target) = self.targets.get_mut(to) else { return };
        change(target);
        if target.is_empty() {
            self.targets.remove(to);
        }
    }

    /// Whether a key is noted.
    #[must_use]
    pub fn is_owed(&self, to: &NodeId, key: &SpaceKey) -> bool {
        self.targets.get(to).is_some_and(|target| target.notes.contains_key(key))
    }

    /// Whether anything is to be told about a node.
    #[must_use]
    pub fn has(&self, to: &NodeId) -> bool {
        self.targets.contains_key(to)
    }

    /// Whether any key of a keyspace is noted.
    #[must_use]
    pub fn has_of(&self, keyspace: &KeyspaceName) -> bool {
        let first = space_key(keyspace, &[]);
        let of = |target: &Target| {
            let next = target.notes.range(&first..).next();
            next.is_some_and(|(key, _)| key.keyspace == *keyspace)
        };
        self.targets.values().any(of)
    }

    /// The keyspaces of all keys that are noted, each once for every key.
    pub fn keyspaces(&self) -> impl Iterator<Item = &KeyspaceName> {
        self.targets.values().flat_map(|target| target.notes.keys().map(|key| &key.keyspace))
    }

    /// Whether notes for a node were thrown away.
    #[must_use]
    pub fn is_overflown(&self, to: &NodeId) -> bool {
        self.targets.get(to).is_some_and(|target| target.overflow)
    }

    /// Nodes for which there are notes from before a time.
    #[must_use]
    pub fn outdated(&self, before_ms: u64) -> Vec<NodeId> {
        let oldest = |target: &Target| target.times.first_key_value().map(|(at_ms, _)| *at_ms);
        let old = |target| oldest(target).is_some_and(|oldest| oldest < before_ms);
        let old = self.targets.iter().filter(|(_, target)| old(target));
        old.map(|(to, _)| to.clone()).collect()
    }

    /// Up to `max` keys owed to a node behind a key, in order; and whether there are more.
    #[must_use]
    pub fn owed(&self, to: &NodeId, after: Option<&SpaceKey>, max: usize) -> (Vec<SpaceKey>, bool) {
        let Some(target) = self.targets.get(to) else { return (Vec::new(), false) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut keys = target.notes.range::<SpaceKey, _>((from, Bound::Unbounded));
        let page = keys.by_ref().take(max).map(|(key, _)| key.clone()).collect();
        (page, keys.next().is_some())
    }

    /// What is owed to whom.
    #[must_use]
    pub fn summary(&self) -> Vec<Debt> {
        let debt = |(to, target): (&NodeId, &Target)| Debt {
            to: to.clone(),
            keys: target.notes.len() as u64,
            bytes: target.bytes as u64,
            since_ms: target.times.first_key_value().map_or(0, |(oldest, _)| *oldest),
            overflow: target.overflow,
        };
        self.targets.iter().map(debt).collect()
    }

    /// Up to `max` notes for nodes and keys behind these, in order, as lines of a snapshot say them.
    #[must_use]
    pub fn page(&self, after: Option<&(NodeId, Option<SpaceKey>)>, max: usize) -> Vec<Note> {
        let from = after.map_or(Bound::Unbounded, |(to, _)| Bound::Included(to));
        let targets = self.targets.range::<NodeId, _>((from, Bound::Unbounded));
        let all = targets.flat_map(|(to, target)| {
            let begun = after.filter(|(begun, _)| begun == to);
            let overflow = (target.overflow && begun.is_none())
                .then(|| Note::Overflow { to: to.clone(), before_ms: 0 });
            let from = begun.and_then(|(_, key)| key.as_ref());
            let from = from.map_or(Bound::Unbounded, Bound::Excluded);
            let notes = target.notes.range::<SpaceKey, _>((from, Bound::Unbounded));
            let notes = notes.map(|(key, at_ms)| Note::Owed {
                to: to.clone(),
                keyspace: key.keyspace.clone(),
                key: key.key.clone().into_bytes(),
                at_ms: *at_ms,
            });
            overflow.into_iter().chain(notes)
        });
        all.take(max).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> NodeId {
        text.parse().unwrap()
    }

    fn name(text: &str) -> KeyspaceName {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_key_twice_is_one_note_of_the_first_time() {
        let (mut debts, n2, users) = (Debts::default(), id("n2"), name("users"));
        assert_eq!(debts.noting(&n2, &users, b"a"), Noting::New);
        debts.owe(&n2, &users, b"a", 70);
        debts.owe(&n2, &users, b"a", 90);
        debts.owe(&n2, &name("default"), b"a", 80);
        assert_eq!(debts.noting(&n2, &users, b"a"), Noting::Known);
        let [debt] = &debts.summary()[..] else { panic!("one node") };
        assert_eq!((debt.keys, debt.since_ms, debt.overflow), (2, 70, false));
        debts.pay(&n2, &users, b"a");
        debts.pay(&n2, &users, b"a");
        assert_eq!((debts.summary()[0].keys, debts.summary()[0].since_ms), (1, 80));
        debts.forget(&name("default"));
        assert_eq!(debts, Debts::default());
    }

    #[test]
    fn there_is_a_bound_of_keys_for_each_node() {
        let (mut debts, n2, users) = (Debts::default(), id("n2"), name("users"));
        for n in 0..KEYS_MAX {
            debts.owe(&n2, &users, format!("{n}").as_bytes(), 1);
        }
        assert_eq!(debts.noting(&n2, &users, b"one more"), Noting::Full);
        assert_eq!(debts.noting(&n2, &users, b"77"), Noting::Known);
        assert_eq!(debts.noting(&id("n3"), &users, b"one more"), Noting::New);
        debts.pay(&n2, &users, b"77");
        assert_eq!(debts.noting(&n2, &users, b"one more"), Noting::New);
    }

    #[test]
    fn there_is_a_bound_of_bytes() {
        let (mut debts, n2, users) = (Debts::default(), id("n2"), name("users"));
        let mut noted = 0;
        while debts.noting(&n2, &users, format!("{noted:01000}").as_bytes()) == Noting::New {
            debts.owe(&n2, &users, format!("{noted:01000}").as_bytes(), 1);
            noted += 1;
        }
        assert_eq!(noted, BYTES_MAX / (1000 + NOTE_OVERHEAD_BYTES));
        assert_eq!(debts.noting(&n2, &users, b"short"), Noting::New);
    }

    #[test]
    fn an_overflow_stays_until_all_is_paid() {
        let (mut debts, n2, users) = (Debts::default(), id("n2"), name("users"));
        debts.owe(&n2, &users, b"old", 70);
        debts.owe(&n2, &users, b"new", 90);
        assert_eq!((debts.outdated(70), debts.outdated(71)), (vec![], vec![n2.clone()]));
        debts.overflow(&n2, 90);
        let [debt] = &debts.summary()[..] else { panic!("one node") };
        assert_eq!((debt.keys, debt.since_ms, debt.overflow), (1, 90, true));
        debts.pay(&n2, &users, b"new");
        assert!(debts.has(&n2) && debts.is_overflown(&n2));
        debts.pay_all(&n2);
        assert_eq!(debts, Debts::default());
    }

    #[test]
    fn pages_are_in_the_order_of_keyspaces_and_keys() {
        let (mut debts, n2) = (Debts::default(), id("n2"));
        for (keyspace, key) in [("b", "1"), ("a", "2"), ("a", "1"), ("c", "0")] {
            debts.owe(&n2, &name(keyspace), key.as_bytes(), 1);
        }
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = debts.owed(&n2, after.as_ref(), 3);
            after = page.last().cloned();
            all.extend(page);
            if !more {
                break;
            }
        }
        let all: Vec<_> = all.iter().map(|k| format!("{}/{:?}", k.keyspace, k.key)).collect();
        let expected = [("a", "1"), ("a", "2"), ("b", "1"), ("c", "0")];
        assert_eq!(all, expected.map(|(space, key)| format!("{space}/{:?}", Blob::from(key))));
        assert_eq!(debts.owed(&id("n3"), None, 3), (vec![], false));
    }
}
