//! The ring in force and the one that is to follow.
//!
//! A change of the ring is never a jump. It is *staged* as the pending placement; from then on a
//! write goes to the owners of both placements, while reads ask the owners of the current one,
//! who have everything. `rebalance` copies what the new owners lack, then *finalises*: the
//! pending placement becomes the current one, and only then are old copies dropped. So a key can
//! be read at every moment, and a change that is never carried out costs nothing but its writes.
//!
//! ```text
//!   stage                copy                  finalise             drop
//!   reads:  old          old                   new                  new
//!   writes: old + new    old + new             new                  new
//! ```
//!
//! # Caveats
//!
//! Several staged changes become one pending placement; there is no list to take one back from.

use crate::NodeId;
use crate::ring::Ring;

/// A ring and how many copies to keep on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Who is where.
    pub ring: Ring,
    /// N: copies of each key, at least 1. With fewer nodes every node is an owner.
    pub replication: usize,
}

impl Placement {
    /// The owners of a key in preference order.
    #[must_use]
    pub fn owners(&self, key: &[u8]) -> Vec<NodeId> {
        self.ring.owners(key, self.replication)
    }

    /// Whether a node is on this ring.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.ring.members().contains_key(node)
    }

    /// How many nodes must take a write for it to count, when `w` are asked for: never more than
    /// there are owners.
    #[must_use]
    pub fn needed(&self, w: usize) -> usize {
        w.min(self.replication).min(self.ring.members().len())
    }
}

/// Both placements, with the epoch that numbers every change of either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// Grows by one with every change.
    pub epoch: u64,
    /// In force for reads.
    pub current: Placement,
    /// Staged, in force for writes too.
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
        let current = Placement { ring: Ring::new(vnodes, []), replication: 1 };
        Self { epoch: 0, current, pending: None }
    }

    /// What the ring is going to be: the pending placement, or the current one.
    #[must_use]
    pub fn newest(&self) -> &Placement {
        self.pending.as_ref().unwrap_or(&self.current)
    }

    /// Stages a placement. One that equals the current again ends the change.
    pub fn stage(&mut self, placement: Placement) {
        self.epoch += 1;
        self.pending = (placement != self.current).then_some(placement);
    }

    /// Puts the pending placement in force.
    pub fn finalise(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.epoch += 1;
            self.current = pending;
        }
    }

    /// Who takes a write of `key`.
    #[must_use]
    pub fn write_set(&self, key: &[u8]) -> WriteSet {
        let mut owners = self.current.owners(key);
        let current = owners.len();
        let pending = self.pending.as_ref().map(|p| p.owners(key)).unwrap_or_default();
        owners
            .extend(pending.iter().filter(|id| !owners.contains(id)).cloned().collect::<Vec<_>>());
        WriteSet { owners, current, pending }
    }

    /// Whether a node is on either ring.
    #[must_use]
    pub fn has(&self, node: &NodeId) -> bool {
        self.current.has(node) || self.pending.as_ref().is_some_and(|p| p.has(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn topology(nodes: &[&str], replication: usize) -> Topology {
        let ring = Ring::new(8, nodes.iter().map(|name| (id(name), 1)));
        Topology { epoch: 0, current: Placement { ring, replication }, pending: None }
    }

    #[test]
    fn writes_go_to_old_and_new_owners_reads_to_old() {
        let mut topology = topology(&["n1", "n2"], 1);
        let grown = Placement { ring: topology.current.ring.with(id("n3"), 1), replication: 2 };
        topology.stage(grown.clone());
        for key in 0..200u32 {
            let set = topology.write_set(&key.to_be_bytes());
            assert_eq!(set.owners[..set.current], topology.current.owners(&key.to_be_bytes()));
            assert!(set.pending.iter().all(|owner| set.owners.contains(owner)));
            let distinct: std::collections::BTreeSet<_> = set.owners.iter().collect();
            assert_eq!(distinct.len(), set.owners.len());
        }
        topology.finalise();
        assert_eq!((topology.epoch, &topology.current), (2, &grown));
    }

    #[test]
    fn taking_a_change_back_ends_it() {
        let mut topology = topology(&["n1", "n2"], 1);
        let before = topology.current.clone();
        topology.stage(Placement { ring: before.ring.with(id("n3"), 1), replication: 1 });
        topology
            .stage(Placement { ring: topology.newest().ring.without(&id("n3")), replication: 1 });
        assert_eq!((topology.epoch, topology.pending), (2, None));
    }

    #[test]
    fn no_more_acknowledgements_than_owners_are_needed() {
        assert_eq!(topology(&["n1"], 3).current.needed(2), 1);
        assert_eq!(topology(&["n1", "n2", "n3"], 2).current.needed(3), 2);
    }
}
