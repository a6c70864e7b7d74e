//! The ring in force and the one that is to follow.
//!
//! A change of the ring is never a jump. It is *staged*: nothing happens yet, and it can be looked at and
//! taken back. When it is *committed* it is the pending placement; from then on a write goes to the owners of
//! both placements, while reads ask the owners of the current one, who have everything. What the new owners lack is
//! copied; then the change is *finalised*: the pending placement becomes the current one, and only then are old
//! copies dropped. So a key can be read at every moment, and a change that is staged costs nothing.
//!
//! ```text
//!           staged      committed, copy     finalised, drop        or cancelled, drop
//!   reads:  old         old                 new                    old
//!   writes: old         old + new           new                    old
//! ```
//!
//! Invariant: nothing is staged while a change is pending. One change at a time; several wishes that are
//! staged together are one change.

mod differences;
mod route;
mod sorts;

use std::collections::BTreeMap;

use crate::ring::{Owners, Ring, key_position};
use crate::{KeyspaceName, NodeId};

pub use differences::differences;
pub use route::Route;
pub use sorts::{Sort, Sorts};

/// A ring and how many copies to keep on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who is where.
    pub ring: Ring,
    /// N of each keyspace: copies of each key, at least 1. With fewer nodes every node is an owner.
    pub copies: BTreeMap<KeyspaceName, usize>,
}

impl Placement {
    /// A ring on which every keyspace so far, `default`, keeps so many copies.
    #[must_use]
    pub fn new(ring: Ring, n: usize) -> Self {
        Self { ring, copies: BTreeMap::from([(KeyspaceName::default(), n)]) }
    }

    /// N of a keyspace; 1 of one that is not there.
    #[must_use]
    pub fn n(&self, keyspace: &KeyspaceName) -> usize {
        self.copies.get(keyspace).copied().unwrap_or(1)
    }

    /// The same with another N.
    #[must_use]
    pub fn with_n(mut self, keyspace: KeyspaceName, n: usize) -> Self {
        self.copies.insert(keyspace, n);
        self
    }

    /// The owners of a key in preference order.
    #[must_use]
    pub fn owners(&self, keyspace: &KeyspaceName, key: &[u8]) -> Vec<NodeId> {
        self.ring.owners(key, self.n(keyspace))
    }

    /// The owners of a position in preference order, borrowed from the ring.
    #[must_use]
    pub fn preferred(&self, keyspace: &KeyspaceName, position: u64) -> Owners<'_> {
        self.ring.preferred(position, self.n(keyspace))
    }

    /// Whether a node is on this ring.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.ring.members().contains_key(node)
    }

    /// How many owners must answer, when `quorum` are asked for: never more than there are.
    #[must_use]
    pub fn needed(&self, keyspace: &KeyspaceName, quorum: usize) -> usize {
        quorum.min(self.n(keyspace)).min(self.ring.members().len())
    }
}

/// The placements, with the epoch that numbers every change of any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Grows by one with every change.
    pub epoch: u64,
    /// In force for reads.
    pub current: Placement,
    /// Wished for, in force for nothing.
    pub staged: Option<Placement>,
    /// Committed, in force for writes too.
    pub pending: Option<Placement>,
}

/// The owners a write goes to: each once, those of the current placement first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSet {
    /// All of them in preference order.
    pub owners: Vec<NodeId>,
    /// How many of `owners`, from the front, are of the current placement.
    pub current: usize,
    /// The owners of the pending placement, if there is one.
    pub pending: Vec<NodeId>,
}

impl Topology {
    /// An empty ring on which one copy is kept.
    #[must_use]
    pub fn empty(vnodes: u32) -> Self {
        let current = Placement::new(Ring::empty(vnodes), 1);
        Self { epoch: 0, current, staged: None, pending: None }
    }

    /// What the ring is going to be: what is pending or staged, or the current one.
    #[must_use]
    pub fn newest(&self) -> &Placement {
        self.pending.as_ref().or(self.staged.as_ref()).unwrap_or(&self.current)
    }

    /// Stages a placement. One that equals the current again is nothing staged.
    pub fn stage(&mut self, placement: Placement) {
        self.epoch += 1;
        self.staged = (placement != self.current).then_some(placement);
    }

    /// What is staged is to be: writes go there too from now on.
    pub fn commit(&mut self) {
        if let Some(staged) = self.staged.take() {
            self.epoch += 1;
            self.pending = Some(staged);
        }
    }

    /// Takes back what is staged or pending.
    pub fn cancel(&mut self) {
        let (staged, pending) = (self.staged.take(), self.pending.take());
        self.epoch += u64::from(staged.or(pending).is_some());
    }

    /// Puts in force what is pending, or what is staged when there is nothing to copy.
    pub fn finalise(&mut self) {
        if let Some(next) = self.pending.take().or(self.staged.take()) {
            self.epoch += 1;
            self.current = next;
        }
    }

    /// A keyspace is there from now on, with so many copies: nothing is in it, so that needs no stage.
    pub fn add_keyspace(&mut self, name: &KeyspaceName, n: usize) {
        for placement in self.placements() {
            placement.copies.insert(name.clone(), n);
        }
    }

    /// A keyspace is there no more. A change that was for it alone ends.
    pub fn remove_keyspace(&mut self, name: &KeyspaceName) {
        for placement in self.placements() {
            placement.copies.remove(name);
        }
        let Self { epoch, current, staged, pending } = self;
        for next in [staged, pending] {
            if next.as_ref() == Some(&*current) {
                *next = None;
                *epoch += 1;
            }
        }
    }

    fn placements(&mut self) -> impl Iterator<Item = &mut Placement> {
        std::iter::once(&mut self.current).chain(&mut self.staged).chain(&mut self.pending)
    }

    /// Who is asked for a key at a position: a lookup on each ring, and nothing is copied.
    #[must_use]
    pub fn route(&self, keyspace: &KeyspaceName, position: u64) -> Route<'_> {
        let pending = self.pending.as_ref().map(|next| next.preferred(keyspace, position));
        Route { current: self.current.preferred(keyspace, position), pending }
    }

    /// Who takes a write of `key`.
    #[must_use]
    pub fn write_set(&self, keyspace: &KeyspaceName, key: &[u8]) -> WriteSet {
        let route = self.route(keyspace, key_position(key));
        WriteSet {
            owners: route.owners().cloned().collect(),
            current: route.current.len(),
            pending: route.pending.as_ref().map(Owners::to_vec).unwrap_or_default(),
        }
    }

    /// Whether a node is on any of the rings.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.current.has(node) || self.newest().has(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: std::ops::Range<u32> = 0..200;

    fn space() -> KeyspaceName {
        KeyspaceName::default()
    }

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn topology(nodes: &[&str], replication: usize) -> Topology {
        let ring = Ring::new(8, nodes.iter().map(|name| (id(name), 1)));
        let current = Placement::new(ring, replication);
        Topology { epoch: 0, current, staged: None, pending: None }
    }

    #[test]
    fn writes_go_to_old_and_new_owners_reads_to_old() {
        let mut topology = topology(&["n1", "n2"], 1);
        let grown = Placement::new(topology.current.ring.with(id("n3"), 1), 2);
        topology.stage(grown.clone());
        assert_eq!(
            topology.write_set(&space(), b"k").pending,
            [],
            "what is staged takes no writes"
        );
        topology.commit();
        for key in KEYS {
            let set = topology.write_set(&space(), &key.to_be_bytes());
            assert_eq!(
                set.owners[..set.current],
                topology.current.owners(&space(), &key.to_be_bytes())
            );
            assert!(set.pending.iter().all(|owner| set.owners.contains(owner)));
            let distinct: std::collections::BTreeSet<_> = set.owners.iter().collect();
            assert_eq!(distinct.len(), set.owners.len());
        }
        topology.finalise();
        assert_eq!((topology.epoch, &topology.current), (3, &grown));
    }

    #[test]
    fn taking_a_change_back_ends_it() {
        let mut topology = topology(&["n1", "n2"], 1);
        let before = topology.current.clone();
        topology.stage(Placement::new(before.ring.with(id("n3"), 1), 1));
        topology.stage(Placement::new(topology.newest().ring.without(&id("n3")), 1));
        assert_eq!((topology.epoch, &topology.staged), (2, &None));
        topology.stage(Placement::new(before.ring.with(id("n3"), 1), 1));
        topology.commit();
        topology.cancel();
        assert_eq!((topology.epoch, &topology.pending, &topology.current), (5, &None, &before));
        topology.cancel();
        assert_eq!(topology.epoch, 5, "there was nothing to take back");
    }

    #[test]
    fn no_more_acknowledgements_than_owners_are_needed() {
        assert_eq!(topology(&["n1"], 3).current.needed(&space(), 2), 1);
        assert_eq!(topology(&["n1", "n2", "n3"], 2).current.needed(&space(), 3), 2);
    }

    #[test]
    fn keyspaces_come_and_go_in_both_placements() {
        let (clicks, mut topology) = ("clicks".parse().unwrap(), topology(&["n1", "n2"], 1));
        topology.stage(Placement::new(topology.current.ring.with(id("n3"), 1), 1));
        topology.add_keyspace(&clicks, 2);
        assert_eq!((topology.current.n(&clicks), topology.newest().n(&clicks)), (2, 2));
        topology.finalise();
        assert_eq!(topology.current.n(&clicks), 2, "a change that was staged before keeps it");
        topology.stage(topology.current.clone().with_n(clicks.clone(), 1));
        assert_eq!((topology.current.n(&clicks), topology.newest().n(&clicks)), (2, 1));
        topology.remove_keyspace(&clicks);
        assert_eq!((topology.epoch, &topology.staged), (4, &None));
        assert_eq!(topology.current.copies.len(), 1);
    }
}
