//! Keys on the nodes of a ring: what the planner predicts of a change is carried out on them in thought, copy by
//! copy, and then every owner has everything, nobody else has anything, and all counts are as predicted.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use ringkv_shared::plan::{Found, Planned, Preview, RECORD_BYTES, Walked};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::topology::Placement;
use ringkv_shared::{KeyspaceName, NodeId, Version};

use crate::history::{History, Step};

const KEYS: u8 = 16;
/// Bytes of a key and its value.
const BYTES: u64 = 100;

/// Who holds which version of each key.
pub(crate) struct Keys(BTreeMap<u8, BTreeMap<NodeId, u64>>);

impl Keys {
    pub(crate) fn new(placement: &Placement) -> Self {
        let holders = |key| owners(placement, key).into_iter().map(|node| (node, 1)).collect();
        Self((0..KEYS).map(|key| (key, holders(key))).collect())
    }

    /// Some owners miss a write, some nodes have copies that they should not have.
    pub(crate) fn disturb(&mut self, history: &mut History) {
        let members: Vec<NodeId> = history.placement.ring.members().keys().cloned().collect();
        for holders in self.0.values_mut() {
            let newest = holders.values().max().copied().unwrap_or(0);
            match history.rng.random_range(0..6) {
                0 => {
                    let lucky = history.rng.random_range(0..holders.len());
                    *holders.values_mut().nth(lucky).unwrap() = newest + 1;
                }
                1 if holders.len() > 1 => drop(holders.pop_first()),
                2 => {
                    let stray = members[history.rng.random_range(0..members.len())].clone();
                    holders.entry(stray).or_insert(newest);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn change(&mut self, step: &Step) {
        let (mut preview, space) =
            (Preview::new(step.before != step.after), KeyspaceName::default());
        let (before, mut made) = (self.copies(), 0);
        for (key, holders) in &mut self.0 {
            let (now, then) = (owners(&step.before, *key), owners(&step.after, *key));
            let found: Vec<Found> =
                holders.iter().map(|(node, at)| found(*key, node, *at)).collect();
            let walked =
                Walked { keyspace: &space, found: &found, now: &now, up: &now, then: &then };
            for Planned { from, to, bytes } in preview.key(&walked) {
                let copied = holders[&from];
                let there = holders.entry(to).or_insert(copied);
                *there = copied.max(*there);
                made += 1;
                assert_eq!(bytes, BYTES + RECORD_BYTES, "{step}");
            }
            let newest = holders.values().max().copied();
            holders.retain(|node, _| then.contains(node));
            let held: BTreeSet<&NodeId> = holders.keys().collect();
            assert_eq!(held, then.iter().collect(), "{step}: the owners of {key}");
            assert!(holders.values().all(|at| Some(*at) == newest), "{step}: {key} is behind");
        }
        let link_keys: u64 = preview.links.values().map(|link| link.keys).sum();
        assert_eq!((preview.copies().keys, link_keys), (made, made), "{step}");
        assert_eq!(preview.keys(), u64::from(KEYS), "{step}");
        let after = self.copies();
        for (node, count) in &preview.nodes {
            let kept = |copies: &BTreeMap<NodeId, u64>| copies.get(node).copied().unwrap_or(0);
            assert_eq!(count.before.keys, kept(&before), "{step}: {node} before");
            assert_eq!(count.after(), kept(&after), "{step}: {node} after");
        }
        assert!(after.keys().all(|node| preview.nodes.contains_key(node)), "{step}");
    }

    /// How many keys each node holds.
    fn copies(&self) -> BTreeMap<NodeId, u64> {
        let mut copies = BTreeMap::new();
        for node in self.0.values().flat_map(BTreeMap::keys) {
            *copies.entry(node.clone()).or_default() += 1;
        }
        copies
    }
}

fn owners(placement: &Placement, key: u8) -> Vec<NodeId> {
    placement.owners(&KeyspaceName::default(), &[key])
}

fn found(key: u8, node: &NodeId, counter: u64) -> Found {
    let record = Record::new(vec![key].into(), None, Version::new(1, counter));
    Found { node: node.clone(), record, bytes: BYTES }
}
