//! Counts what a rebalance would do, fed key by key.
//!
//! It makes the same decisions as the run, with the same [`decide()`], and makes the copies in thought: so what it
//! counts is what the run does, if nobody writes meanwhile. A copy has the bytes of what its source holds, the
//! key and all values, and [`RECORD_BYTES`] for the rest; one way, from the source.
//!
//! # Caveats
//!
//! A copy that only one other than the owners holds may turn out to be stale, for its tombstone was collected
//! everywhere: that is known only when it is offered, so it is counted as a copy.

use std::collections::BTreeMap;

use super::{Decision, Found, Holding, decide, offered_to};
use crate::protocol::node::Record;
use crate::{KeyspaceName, NodeId};

/// Bytes of a record beside its key and values, about, as it travels.
pub const RECORD_BYTES: u64 = 60;

/// Copies and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Copies.
    pub keys: u64,
    /// Bytes of these.
    pub bytes: u64,
}

impl Load {
    /// So many copies more.
    pub const fn add(&mut self, keys: u64, bytes: u64) {
        self.keys += keys;
        self.bytes += bytes;
    }
}

/// What is counted of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeCount {
    /// Copies held before.
    pub before: Load,
    /// Copies that come.
    pub gets: Load,
    /// Copies that are dropped.
    pub drops: Load,
    /// Keys that it owns by the ring in force, and that somebody holds.
    pub owns: u64,
}

impl NodeCount {
    /// Copies held afterwards.
    #[must_use]
    pub const fn after(&self) -> u64 {
        (self.before.keys + self.gets.keys).saturating_sub(self.drops.keys)
    }
}

/// What is counted of a keyspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceCount {
    /// Keys that somebody holds.
    pub keys: u64,
    /// Of these, keys with one copy now where there should be more.
    pub single_now: u64,
    /// Keys with one copy afterwards.
    pub single_then: u64,
    /// Keys of which not all owners of now have everything.
    pub behind: u64,
}

/// A key as a walk found it, or many that are alike.
#[derive(Clone, Copy, Debug)]
pub struct Walked<'a> {
    /// Its keyspace.
    pub keyspace: &'a KeyspaceName,
    /// Who holds what of it; of many the bytes of all, and the record of any.
    pub found: &'a [Found],
    /// How many keys: 1 of a key that was walked to.
    pub keys: u64,
    /// Its owners by the ring in force.
    pub now: &'a [NodeId],
    /// Of these, who can be asked.
    pub up: &'a [NodeId],
    /// Its owners by the ring that is to be; the same when nothing is changed.
    pub then: &'a [NodeId],
}

/// A copy that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The source.
    pub from: NodeId,
    /// The target.
    pub to: NodeId,
    /// Bytes.
    pub bytes: u64,
}

/// The counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// Whether the ring is to change: then keys that no owner of now holds are offered to these first.
    pub moving: bool,
    /// Copies to be made by link.
    pub links: BTreeMap<(NodeId, NodeId), Load>,
    /// Each node.
    pub nodes: BTreeMap<NodeId, NodeCount>,
    /// Each keyspace.
    pub spaces: BTreeMap<KeyspaceName, SpaceCount>,
}

impl Preview {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(moving: bool) -> Self {
        Self { moving, ..Self::default() }
    }

    /// All copies to be made.
    #[must_use]
    pub fn copies(&self) -> Load {
        let add = |sum: Load, link: &Load| Load {
            keys: sum.keys + link.keys,
            bytes: sum.bytes + link.bytes,
        };
        self.links.values().fold(Load::default(), add)
    }

    /// All copies to be dropped.
    #[must_use]
    pub fn removed(&self) -> u64 {
        self.nodes.values().map(|node| node.drops.keys).sum()
    }

    /// All keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.spaces.values().map(|space| space.keys).sum()
    }

    /// Counts a key, or many; says which copies will be made of each, in this order. The bytes are those of all.
    pub fn key(&mut self, key: &Walked<'_>) -> Vec<Planned> {
        let Walked { keyspace, found, keys, now, up, then } = *key;
        for owner in now {
            self.node(owner).owns += keys;
        }
        for found in found {
            self.node(&found.node).before.add(keys, found.bytes);
        }
        let behind = !settled(found, now);
        if !behind && now == then && found.len() == now.len() {
            // Nearly all keys are like this: nothing is to be done.
            let space = self.space(keyspace);
            space.keys += keys;
            space.single_then += keys * u64::from(found.len() == 1);
            return Vec::new();
        }
        let mut held = Held::of(found, keys);
        let mut copies = Vec::new();
        if self.moving
            && let Some(owners) = offered_to(&held.holdings, now, up)
        {
            copies = held.copy(&decide(&held.holdings, owners));
        }
        let decision = decide(&held.holdings, then);
        copies.extend(held.copy(&decision));
        for node in &decision.drop_at {
            let bytes = held.bytes_at(node);
            self.node(node).drops.add(keys, bytes);
        }
        for Planned { from, to, bytes } in &copies {
            self.links.entry((from.clone(), to.clone())).or_default().add(keys, *bytes);
        }
        for node in held.came(found) {
            let bytes = held.bytes_at(&node);
            self.node(&node).gets.add(keys, bytes);
        }
        let space = self.space(keyspace);
        space.keys += keys;
        space.single_now += keys * u64::from(found.len() == 1 && now.len() > 1);
        let single_then = held.holdings.len() - decision.drop_at.len() == 1;
        space.single_then += keys * u64::from(single_then);
        space.behind += keys * u64::from(behind);
        copies
    }

    fn node(&mut self, node: &NodeId) -> &mut NodeCount {
        self.nodes.entry(node.clone()).or_default()
    }

    fn space(&mut self, keyspace: &KeyspaceName) -> &mut SpaceCount {
        self.spaces.entry(keyspace.clone()).or_default()
    }
}

/// Whether all these owners hold the same.
fn settled(found: &[Found], owners: &[NodeId]) -> bool {
    let held = |owner: &NodeId| found.iter().find(|found| found.node == *owner);
    let first = owners.first().and_then(held);
    let same = |owner: &NodeId| match (held(owner), first) {
        (Some(held), Some(first)) => held.record.is_same(&first.record),
        _ => false,
    };
    owners.iter().all(same)
}

/// Who holds a key, as copies are made of it.
struct Held {
    keys: u64,
    holdings: Vec<Holding>,
    bytes: BTreeMap<NodeId, u64>,
}

impl Held {
    fn of(found: &[Found], keys: u64) -> Self {
        let holding =
            |found: &Found| Holding { node: found.node.clone(), held: found.record.clone() };
        Self {
            keys,
            holdings: found.iter().map(holding).collect(),
            bytes: found.iter().map(|found| (found.node.clone(), found.bytes)).collect(),
        }
    }

    fn bytes_at(&self, node: &NodeId) -> u64 {
        self.bytes.get(node).copied().unwrap_or(0)
    }

    /// Makes the copies; all sources are as they were before.
    fn copy(&mut self, decision: &Decision) -> Vec<Planned> {
        let before = self.holdings.clone();
        let mut made = Vec::new();
        for (from, to) in &decision.copies {
            let source = before.iter().find(|holding| holding.node == *from);
            let Some(source) = source.map(|holding| holding.held.clone()) else { continue };
            let bytes = self.bytes_at(from);
            self.merge(to, &source, bytes);
            let bytes = bytes + RECORD_BYTES * self.keys;
            made.push(Planned { from: from.clone(), to: to.clone(), bytes });
        }
        made
    }

    fn merge(&mut self, to: &NodeId, source: &Record, bytes: u64) {
        match self.holdings.iter_mut().find(|holding| holding.node == *to) {
            Some(holding) => {
                let merged = Record::merged([&holding.held, source]);
                holding.held = merged.unwrap_or_else(|| source.clone());
            }
            None => {
                // In the order of the nodes, as a walk finds them.
                let at = self.holdings.partition_point(|holding| holding.node < *to);
                self.holdings.insert(at, Holding { node: to.clone(), held: source.clone() });
            }
        }
        let there = self.bytes.entry(to.clone()).or_default();
        *there = (*there).max(bytes);
    }

    /// The nodes that had nothing of it before.
    fn came(&self, found: &[Found]) -> Vec<NodeId> {
        let had = |holding: &&Holding| !found.iter().any(|found| found.node == holding.node);
        self.holdings.iter().filter(had).map(|holding| holding.node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Ring;
    use crate::topology::Placement;
    use proptest::prelude::*;

    fn ids(text: &str) -> Vec<NodeId> {
        text.chars().map(|c| c.to_string().parse().unwrap()).collect()
    }

    /// As `a2:10`: node, counter, bytes.
    fn found(text: &str) -> Found {
        let (what, bytes) = text.split_once(':').unwrap();
        let version = crate::Version::new(1, what[1..].parse().unwrap());
        let record = Record::new("k".into(), Some("v".into()), version);
        Found { node: what[..1].parse().unwrap(), record, bytes: bytes.parse().unwrap() }
    }

    /// What is held, owners now, who of them is up, owners then; the copies, nodes that drop, and whether it
    /// has one copy now and should have more (`n`), and has one then (`t`).
    #[test]
    fn one_key() {
        let table = [
            ("a1:10", "a", "a", "a", "", "", "t"),
            ("a1:10", "a", "a", "b", "ab70", "a", "t"),
            ("a1:10 b1:10", "ab", "ab", "bc", "bc70", "a", ""),
            ("a1:10 b2:12", "ab", "ab", "ab", "ba72", "", ""),
            ("a1:10", "ab", "ab", "ab", "ab70", "", "n"),
            // Nobody of now has it: it is offered to them, then copied, then dropped there.
            ("c1:5", "a", "a", "b", "ca65 ab65", "ac", "t"),
            ("c1:5", "a", "", "b", "cb65", "c", "t"),
            ("", "a", "a", "b", "", "", ""),
        ];
        for (held, now, up, then, copies, drops, single) in table {
            let held: Vec<Found> = held.split_whitespace().map(found).collect();
            let (now, up, then) = (ids(now), ids(up), ids(then));
            let mut preview = Preview::new(true);
            let space = KeyspaceName::default();
            let key =
                Walked { keyspace: &space, found: &held, keys: 1, now: &now, up: &up, then: &then };
            let planned = if held.is_empty() { Vec::new() } else { preview.key(&key) };
            let told = planned.iter().map(|p| format!("{}{}{}", p.from, p.to, p.bytes));
            assert_eq!(told.collect::<Vec<_>>().join(" "), copies, "{held:?}");
            let dropping = preview.nodes.iter().filter(|(_, node)| node.drops.keys > 0);
            assert_eq!(dropping.map(|(id, _)| id.as_str()).collect::<String>(), drops, "{held:?}");
            let space = preview.spaces.get(&space).copied().unwrap_or_default();
            let counted = (space.single_now, space.single_then);
            let told = (single.matches('n').count() as u64, single.matches('t').count() as u64);
            assert_eq!(counted, told, "{held:?}");
        }
    }

    proptest! {
        /// What was counted is what there is afterwards: each owner of then has each key, nobody else does, and
        /// the sums agree.
        #[test]
        fn the_sums_agree(
            nodes in 1usize..6, then in 1usize..6, n in 1usize..4, n_then in 1usize..4,
            lost in proptest::collection::vec(any::<u8>(), 40),
        ) {
            let ring = |nodes: usize| Ring::new(8, (0..nodes).map(|i| (format!("n{i}").parse().unwrap(), 1)));
            let (now, then) = (Placement::new(ring(nodes), n), Placement::new(ring(then), n_then));
            let space = KeyspaceName::default();
            let mut preview = Preview::new(now != then);
            let (mut planned, mut expected) = (0u64, BTreeMap::<NodeId, u64>::new());
            for (key, lost) in (0u8..40).zip(&lost) {
                let (owned, next) = (now.owners(&space, &[key]), then.owners(&space, &[key]));
                let kept = owned.iter().enumerate().filter(|(i, _)| *i == 0 || usize::from(*lost) % 4 != *i);
                let found: Vec<Found> = kept.map(|(_, node)| Found {
                    node: node.clone(),
                    record: Record::new(vec![key].into(), None, crate::Version::new(1, 1)),
                    bytes: u64::from(key),
                }).collect();
                let walked = Walked { keyspace: &space, found: &found, keys: 1, now: &owned, up: &owned, then: &next };
                planned += preview.key(&walked).len() as u64;
                next.into_iter().for_each(|node| *expected.entry(node).or_default() += 1);
            }
            let after: BTreeMap<NodeId, u64> = preview.nodes.iter()
                .map(|(id, node)| (id.clone(), node.after())).filter(|(_, keys)| *keys > 0).collect();
            prop_assert_eq!(after, expected);
            prop_assert_eq!(preview.copies().keys, planned);
            prop_assert_eq!(preview.nodes.values().map(|node| node.gets.keys).sum::<u64>(), planned);
        }
    }
}
