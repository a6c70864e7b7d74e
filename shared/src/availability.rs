//! What is left of a keyspace when nodes are dead: by arcs of the ring, or key by key.
//!
//! A read needs answers of R of the key's owners, a write of W of them; neither of more than there are. So what a
//! key suffers follows from how many of its owners live:
//!
//! | owners that live | condition |
//! |---|---|
//! | none | lost: no copy is left |
//! | fewer than R | unreadable |
//! | R or more, fewer than W | read-only; never so for a sloppy keyspace while W nodes of any kind live |
//! | one, of several | usable, on its last copy |
//! | else | fine |
//!
//! All positions between two neighbouring tokens have the same owners. So [`Arcs`] looks at each arc once and is
//! exact: shares are sums of arc lengths, not samples. While a change of the ring is pending, a write needs its
//! quorum of the owners of both placements.
//!
//! # Caveats
//!
//! Arcs know who should have a copy, not who has it: a write that too few owners took, or a hint that waits,
//! shows key by key only.

use std::collections::{BTreeMap, BTreeSet};

use crate::topology::{Placement, Topology};
use crate::{Keyspace, NodeId};

/// How a key, or an arc, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing is wrong.
    Fine,
    /// It can be read and written, and one copy is left of several.
    LastCopy,
    /// It can be read and not written.
    ReadOnly,
    /// It cannot be read, and somebody has a copy.
    Unreadable,
    /// No copy is left.
    Lost,
}

/// Shares of the ring, each 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Cannot be read, what is lost included.
    pub unreadable: f64,
    /// No copy is left.
    pub lost: f64,
    /// Can be read and not written.
    pub read_only: f64,
    /// Can be used, with one copy left of several.
    pub last_copy: f64,
}

/// How many answers requests to a keyspace need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Needs {
    read: usize,
    write: usize,
    write_pending: usize,
    sloppy: bool,
}

impl Needs {
    fn of(topology: &Topology, keyspace: &Keyspace) -> Self {
        let (name, Topology { current, pending, .. }) = (&keyspace.name, topology);
        Self {
            read: current.needed(name, keyspace.r),
            write: current.needed(name, keyspace.w),
            write_pending: pending.as_ref().map_or(0, |pending| pending.needed(name, keyspace.w)),
            sloppy: keyspace.sloppy,
        }
    }

    /// The condition with so many of the owners of the current and of the pending placement alive, and so many nodes
    /// in all.
    fn condition(&self, owners: usize, alive: usize, pending: usize, nodes: usize) -> Condition {
        let stands_in = self.sloppy && nodes >= self.write.max(self.write_pending);
        let writable = stands_in || (alive >= self.write && pending >= self.write_pending);
        match alive {
            0 => Condition::Lost,
            _ if alive < self.read => Condition::Unreadable,
            _ if !writable => Condition::ReadOnly,
            1 if owners > 1 => Condition::LastCopy,
            _ => Condition::Fine,
        }
    }
}

/// What becomes of single keys of a keyspace when nodes are dead.
#[derive(Debug)]
pub struct Judge<'a> {
    topology: &'a Topology,
    keyspace: &'a Keyspace,
    needs: Needs,
    dead: &'a BTreeSet<NodeId>,
    /// Nodes of any placement that live.
    nodes: usize,
}

impl<'a> Judge<'a> {
    /// For one keyspace and the nodes that are dead.
    #[must_use]
    pub fn new(topology: &'a Topology, keyspace: &'a Keyspace, dead: &'a BTreeSet<NodeId>) -> Self {
        let needs = Needs::of(topology, keyspace);
        let nodes = members(topology).filter(|node| !dead.contains(*node)).count();
        Self { topology, keyspace, needs, dead, nodes }
    }

    /// The condition of a key that `holders` have a copy of. One that none of them lives with is lost, even if its
    /// owners live: they never got it.
    #[must_use]
    pub fn key(&self, key: &[u8], holders: &BTreeSet<NodeId>) -> Condition {
        let Topology { current, pending, .. } = self.topology;
        let owners = current.owners(&self.keyspace.name, key);
        let next = pending.as_ref().map(|next| next.owners(&self.keyspace.name, key));
        let alive = |owners: &[NodeId]| owners.iter().filter(|o| !self.dead.contains(*o)).count();
        let copies = holders.iter().filter(|holder| !self.dead.contains(*holder)).count();
        let next = next.map_or(0, |next| alive(&next));
        match self.needs.condition(owners.len(), alive(&owners), next, self.nodes) {
            _ if copies == 0 => Condition::Lost,
            // Its owners are dead, and somebody else has it.
            Condition::Lost => Condition::Unreadable,
            Condition::Fine if copies == 1 && owners.len() > 1 => Condition::LastCopy,
            Condition::LastCopy if copies > 1 => Condition::Fine,
            condition => condition,
        }
    }
}

/// The arcs of the ring of one keyspace, those with the same owners as one.
#[derive(Clone, Debug)]
pub struct Arcs {
    needs: Needs,
    /// Members of any placement; indices below point into it.
    names: Vec<NodeId>,
    /// Owners of the current placement and of the pending one, each ascending, with how long all their arcs are.
    groups: BTreeMap<(Vec<u16>, Vec<u16>), u128>,
}

impl Arcs {
    /// Looks at every arc once: about as many as there are tokens, for each the walk to N owners.
    #[must_use]
    pub fn new(topology: &Topology, keyspace: &Keyspace) -> Self {
        let names: Vec<NodeId> =
            members(topology).cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let (name, Topology { current, pending, .. }) = (&keyspace.name, topology);
        let owners = |placement: &Placement, position: u64| {
            let owners = placement.ring.owners_at(position, placement.n(name));
            let index = |owner: &NodeId| names.binary_search(owner).expect("owners are members");
            let mut owners: Vec<u16> = owners
                .iter()
                .map(|o| u16::try_from(index(o)).expect("1,000 nodes at most"))
                .collect();
            owners.sort_unstable();
            owners
        };
        let mut groups = BTreeMap::new();
        for (length, position) in arcs(std::iter::once(current).chain(pending)) {
            let now = owners(current, position);
            let next = pending.as_ref().map(|next| owners(next, position)).unwrap_or_default();
            *groups.entry((now, next)).or_insert(0) += length;
        }
        Self { needs: Needs::of(topology, keyspace), names, groups }
    }

    /// What is left when these nodes are dead.
    #[must_use]
    pub fn without(&self, dead: &BTreeSet<NodeId>) -> Shares {
        let dead: Vec<bool> = self.names.iter().map(|node| dead.contains(node)).collect();
        let nodes = dead.iter().filter(|dead| !**dead).count();
        let alive = |owners: &[u16]| owners.iter().filter(|o| !dead[usize::from(**o)]).count();
        let mut sums = BTreeMap::new();
        for ((now, next), length) in &self.groups {
            let condition = self.needs.condition(now.len(), alive(now), alive(next), nodes);
            *sums.entry(condition).or_insert(0) += length;
        }
        let sum = |condition| sums.get(&condition).copied().unwrap_or(0);
        Shares {
            unreadable: share(sum(Condition::Unreadable) + sum(Condition::Lost)),
            lost: share(sum(Condition::Lost)),
            read_only: share(sum(Condition::ReadOnly)),
            last_copy: share(sum(Condition::LastCopy)),
        }
    }
}

/// Members of any placement that requests go to, some twice.
fn members(topology: &Topology) -> impl Iterator<Item = &NodeId> {
    let Topology { current, pending, .. } = topology;
    let only_next = pending.iter().flat_map(|next| next.ring.members().keys());
    let only_next = only_next.filter(|node| !current.has(node));
    current.ring.members().keys().chain(only_next)
}

/// The arcs between neighbouring tokens of any of these rings: how long, and a position in it.
pub(crate) fn arcs<'a>(
    placements: impl IntoIterator<Item = &'a Placement>,
) -> impl Iterator<Item = (u128, u64)> {
    let tokens = placements.into_iter().flat_map(|placement| placement.ring.tokens());
    let mut cuts: Vec<u64> = tokens.map(|(token, _)| token).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let starts: Vec<u64> = cuts.last().copied().into_iter().chain(cuts.iter().copied()).collect();
    starts.into_iter().zip(cuts).map(|(from, to)| match to.wrapping_sub(from) {
        // The only token: all the way around.
        0 => (1 << 64, to),
        length => (u128::from(length), to),
    })
}

/// Of the whole ring, 0 to 1.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn share(length: u128) -> f64 {
    length as f64 / 2f64.powi(64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use proptest::prelude::*;

    fn id(i: usize) -> NodeId {
        format!("n{i}").parse().unwrap()
    }

    fn topology(nodes: usize, n: usize, pending: Option<(usize, usize)>) -> Topology {
        let placement = |(nodes, n): (usize, usize)| {
            Placement::new(Ring::new(8, (0..nodes).map(|i| (id(i), 1))), n)
        };
        let (current, pending) = (placement((nodes, n)), pending.map(placement));
        Topology { epoch: 0, current, staged: None, pending }
    }

    fn keyspace(r: usize, w: usize, sloppy: bool) -> Keyspace {
        Keyspace { r, w, sloppy, ..Keyspace::new(crate::KeyspaceName::default()) }
    }

    /// N, R, W, sloppy; then what becomes of a key with 0, 1, 2, 3 of its owners dead, in a cluster of four.
    #[test]
    fn what_a_key_suffers() {
        #[rustfmt::skip]
        let table = [
            ((1, 1, 1, false), "fine lost"),
            ((2, 1, 1, false), "fine last lost"),
            ((2, 1, 2, false), "fine read-only lost"),
            ((2, 2, 1, false), "fine unreadable lost"),
            ((3, 2, 2, false), "fine fine unreadable lost"),
            ((3, 1, 2, false), "fine fine read-only lost"),
            ((3, 1, 3, false), "fine read-only read-only lost"),
            ((3, 1, 1, false), "fine fine last lost"),
            ((3, 1, 2, true),  "fine fine last lost"),
            ((3, 1, 3, true),  "fine fine read-only lost"),
            // R and W of more than there are mean all.
            ((2, 3, 3, false), "fine unreadable lost"),
        ];
        for ((n, r, w, sloppy), expected) in table {
            let (topology, keyspace) = (topology(4, n, None), keyspace(r, w, sloppy));
            let owners = topology.current.owners(&keyspace.name, b"apple");
            let words: Vec<&str> = (0..=n)
                .map(|dead| {
                    let dead = owners[..dead].iter().cloned().collect();
                    let holders = owners.iter().cloned().collect();
                    match Judge::new(&topology, &keyspace, &dead).key(b"apple", &holders) {
                        Condition::Fine => "fine",
                        Condition::LastCopy => "last",
                        Condition::ReadOnly => "read-only",
                        Condition::Unreadable => "unreadable",
                        Condition::Lost => "lost",
                    }
                })
                .collect();
            assert_eq!(words.join(" "), expected, "N={n} R={r} W={w} sloppy {sloppy}");
        }
    }

    #[test]
    fn a_key_is_where_its_copies_are() {
        let (topology, keyspace) = (topology(4, 2, None), keyspace(1, 1, false));
        let owners = topology.current.owners(&keyspace.name, b"apple");
        let other = (0..4).map(id).find(|node| !owners.contains(node)).unwrap();
        let key = |dead: &[&NodeId], holders: &[&NodeId]| {
            let set = |nodes: &[&NodeId]| nodes.iter().copied().cloned().collect::<BTreeSet<_>>();
            Judge::new(&topology, &keyspace, &set(dead)).key(b"apple", &set(holders))
        };
        let [a, b] = [&owners[0], &owners[1]];
        assert_eq!(key(&[], &[a]), Condition::LastCopy, "the other owner never got it");
        assert_eq!(key(&[a], &[a]), Condition::Lost, "the other owner has nothing to read");
        assert_eq!(key(&[a, b], &[a, &other]), Condition::Unreadable, "nobody asks who has it");
        assert_eq!(key(&[a], &[a, b, &other]), Condition::Fine, "two copies are left");
    }

    #[test]
    fn an_empty_ring_loses_nothing() {
        let (topology, keyspace) = (Topology::empty(8), keyspace(1, 1, false));
        assert_eq!(Arcs::new(&topology, &keyspace).without(&BTreeSet::new()), Shares::default());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Arcs say the same as each of many positions asked by itself, as far as positions are many enough.
        #[test]
        fn shares_are_those_of_positions(
            nodes in 1usize..7, n in 1usize..5, r in 1usize..4, w in 1usize..4, sloppy: bool,
            grown in proptest::option::of((1usize..8, 1usize..5)), dead in 0u8..128,
        ) {
            let (topology, keyspace) = (topology(nodes, n, grown), keyspace(r, w, sloppy));
            let dead: BTreeSet<NodeId> = (0..8).filter(|i| dead >> i & 1 == 1).map(id).collect();
            let shares = Arcs::new(&topology, &keyspace).without(&dead);
            let judge = Judge::new(&topology, &keyspace, &dead);
            const POSITIONS: u32 = 2000;
            let mut counts = BTreeMap::new();
            for key in 0..POSITIONS {
                let key = key.to_be_bytes();
                let holders = topology.current.owners(&keyspace.name, &key).into_iter().collect();
                *counts.entry(judge.key(&key, &holders)).or_insert(0u32) += 1;
            }
            let count = |condition| f64::from(counts.get(&condition).copied().unwrap_or(0)) / f64::from(POSITIONS);
            // Five times the deviation of so many draws, 0.011 at most each.
            let near = |a: f64, b: f64| (a - b).abs() < 0.056;
            let (lost, unreadable) = (count(Condition::Lost), count(Condition::Unreadable));
            prop_assert!(near(shares.lost, lost), "{shares:?} {counts:?}");
            prop_assert!(near(shares.unreadable, lost + unreadable), "{shares:?} {counts:?}");
            prop_assert!(near(shares.read_only, count(Condition::ReadOnly)), "{shares:?} {counts:?}");
            prop_assert!(near(shares.last_copy, count(Condition::LastCopy)), "{shares:?} {counts:?}");
        }

        /// All arcs together are the ring, and each position's owners are those of its arc.
        #[test]
        fn arcs_are_the_whole_ring(nodes in 1usize..7, n in 1usize..5, grown in 1usize..8) {
            let topology = topology(nodes, n, Some((grown, n)));
            let placements = [&topology.current, topology.pending.as_ref().unwrap()];
            prop_assert_eq!(arcs(placements).map(|(length, _)| length).sum::<u128>(), 1 << 64);
            for (length, to) in arcs(placements) {
                let from = to.wrapping_sub(u64::try_from(length - 1).unwrap_or(u64::MAX));
                for placement in placements {
                    prop_assert_eq!(placement.ring.owners_at(from, n), placement.ring.owners_at(to, n));
                }
            }
        }
    }
}
