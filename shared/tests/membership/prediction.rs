//! Keys on the nodes of a ring. A change is predicted first, and then carried out on them as a rebalance does it:
//! pass by pass, each key decided anew by what is held by then. Afterwards every owner has everything, nobody else
//! has anything, and the copies over each link and at each node are as predicted.

use std::collections::{BTreeMap, BTreeSet};

use rand::Rng as _;
use ringkv_shared::plan::{Found, Holding, Preview, RECORD_BYTES, Walked, decide, offered_to};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::topology::Placement;
use ringkv_shared::{KeyspaceName, NodeId, Version};

use crate::history::{History, Step};

const KEYS: u8 = 10;
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
            match history.rng.random_range(0..8) {
                0 => {
                    let lucky = history.rng.random_range(0..holders.len());
                    *holders.values_mut().nth(lucky).unwrap() = newest + 1;
                }
                1 if holders.len() > 1 => drop(holders.pop_first()),
                2 | 3 => {
                    let stray = members[history.rng.random_range(0..members.len())].clone();
                    holders.entry(stray).or_insert(newest);
                }
                // One node has it, and need not be an owner.
                4 => {
                    let stray = members[history.rng.random_range(0..members.len())].clone();
                    *holders = BTreeMap::from([(stray, newest)]);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn change(&mut self, step: &Step) {
        let (preview, before) = (self.predict(step), self.copies());
        let mut links = BTreeMap::new();
        let mut offered = true;
        // What was offered to the owners of now has to be copied on.
        while std::mem::take(&mut offered) {
            for (key, holders) in &mut self.0 {
                offered |= copy(step, *key, holders, &mut links);
            }
        }
        for (key, holders) in &mut self.0 {
            let drops = decide(&holdings(*key, holders), &owners(&step.after, *key)).drop_at;
            holders.retain(|node, _| !drops.contains(node));
        }
        self.are_in_place(step);
        let predicted = preview.links.iter().map(|(link, load)| (link.clone(), load.keys));
        assert_eq!(links, predicted.collect(), "{step}: copies by link");
        let bytes = links.values().sum::<u64>() * (BYTES + RECORD_BYTES);
        assert_eq!(preview.copies().bytes, bytes, "{step}");
        let after = self.copies();
        let nodes: BTreeSet<&NodeId> =
            preview.nodes.keys().chain(before.keys()).chain(after.keys()).collect();
        for node in nodes {
            let count = preview.nodes[node];
            let kept = |copies: &BTreeMap<NodeId, u64>| copies.get(node).copied().unwrap_or(0);
            let (predicted, counted) =
                ((count.before.keys, count.after()), (kept(&before), kept(&after)));
            assert_eq!(predicted, counted, "{step}: {node} before and after");
        }
    }

    fn predict(&self, step: &Step) -> Preview {
        let (mut preview, space) =
            (Preview::new(step.before != step.after), KeyspaceName::default());
        for (key, holders) in &self.0 {
            let (now, then) = (owners(&step.before, *key), owners(&step.after, *key));
            let found =
                |holding: Holding| Found { node: holding.node, record: holding.held, bytes: BYTES };
            let found: Vec<Found> = holdings(*key, holders).into_iter().map(found).collect();
            preview.key(&Walked {
                keyspace: &space,
                found: &found,
                keys: 1,
                now: &now,
                up: &now,
                then: &then,
            });
        }
        preview
    }

    /// Every owner has the newest, nobody else has anything.
    fn are_in_place(&self, step: &Step) {
        for (key, holders) in &self.0 {
            let owners = owners(&step.after, *key).into_iter().collect();
            assert_eq!(holders.keys().cloned().collect::<BTreeSet<_>>(), owners, "{step}: {key}");
            let versions: BTreeSet<&u64> = holders.values().collect();
            assert_eq!(versions.len(), 1, "{step}: {key} is behind somewhere");
        }
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

/// A pass over one key; says whether it was offered to the owners of now, who knew nothing of it.
fn copy(
    step: &Step,
    key: u8,
    holders: &mut BTreeMap<NodeId, u64>,
    links: &mut BTreeMap<(NodeId, NodeId), u64>,
) -> bool {
    let held = holdings(key, holders);
    let now = owners(&step.before, key);
    let moving = step.before != step.after;
    let offered = offered_to(&held, &now, &now).filter(|_| moving).map(<[NodeId]>::to_vec);
    let targets = offered.clone().unwrap_or_else(|| owners(&step.after, key));
    for (from, to) in decide(&held, &targets).copies {
        let copied = holders[&from];
        let there = holders.entry(to.clone()).or_insert(copied);
        *there = copied.max(*there);
        *links.entry((from, to)).or_default() += 1;
    }
    offered.is_some()
}

fn holdings(key: u8, holders: &BTreeMap<NodeId, u64>) -> Vec<Holding> {
    let holding = |(node, counter): (&NodeId, &u64)| Holding {
        node: node.clone(),
        held: Record::new(vec![key].into(), None, Version::new(1, *counter)),
    };
    holders.iter().map(holding).collect()
}
