//! Random changes of a ring, one after the other.

use std::fmt;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use ringkv_shared::ring::{Ring, Seat};
use ringkv_shared::topology::Placement;
use ringkv_shared::{KeyspaceName, NodeId, Zone};

/// Few, so that owners change often; balance is looked at elsewhere.
const VNODES: u32 = 4;
const NODES_MAX: usize = 9;

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Join(NodeId),
    Leave(NodeId),
    Replace { old: NodeId, new: NodeId },
    Heavier(NodeId),
    Lighter(NodeId),
    Rezone(NodeId),
    Copies,
}

/// A change with the placements around it.
pub(crate) struct Step {
    pub(crate) seed: u64,
    pub(crate) number: usize,
    pub(crate) change: Change,
    pub(crate) before: Placement,
    pub(crate) after: Placement,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, number, change, before, .. } = self;
        let n = before.n(&KeyspaceName::default());
        write!(
            f,
            "seed {seed}, step {number}: {change:?} with N={n} on {:?}",
            before.ring.members()
        )
    }
}

pub(crate) struct History {
    seed: u64,
    number: usize,
    pub(crate) rng: StdRng,
    pub(crate) placement: Placement,
    /// How many nodes there ever were: names are not used again.
    named: usize,
}

impl History {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let placement = Placement::new(Ring::empty(VNODES), 1);
        let mut history = Self { seed, number: 0, rng, placement, named: 0 };
        for _ in 0..history.rng.random_range(1..=4) {
            history.apply(&Change::Join(history.next_name()));
        }
        history
    }

    pub(crate) fn step(&mut self) -> Step {
        let before = self.placement.clone();
        let change = self.choose();
        self.apply(&change);
        self.number += 1;
        let (seed, number, after) = (self.seed, self.number, self.placement.clone());
        Step { seed, number, change, before, after }
    }

    fn choose(&mut self) -> Change {
        let members: Vec<NodeId> = self.placement.ring.members().keys().cloned().collect();
        let node = members[self.rng.random_range(0..members.len())].clone();
        let weight = self.placement.ring.members()[&node].weight;
        match self.rng.random_range(0..8) {
            0 | 1 if members.len() < NODES_MAX => Change::Join(self.next_name()),
            2 | 3 if members.len() > 1 => Change::Leave(node),
            4 => Change::Replace { old: node, new: self.next_name() },
            5 if weight > 1 => Change::Lighter(node),
            5 => Change::Heavier(node),
            6 => Change::Rezone(node),
            _ => Change::Copies,
        }
    }

    fn next_name(&self) -> NodeId {
        format!("n{}", self.named + 1).parse().unwrap()
    }

    fn apply(&mut self, change: &Change) {
        let zone = self.zone();
        let Placement { ring, .. } = &self.placement;
        let seat = |node: &NodeId| ring.members()[node].clone();
        let ring = match change {
            Change::Join(node) => {
                self.named += 1;
                let weight = self.rng.random_range(1..=3);
                ring.with(node.clone(), Seat { weight, zone, of: None })
            }
            Change::Leave(node) => ring.without(node),
            Change::Replace { old, new } => {
                self.named += 1;
                ring.replaced(old, new.clone())
            }
            Change::Heavier(node) => {
                let before = seat(node);
                let weight = before.weight + self.rng.random_range(1..=2);
                ring.with(node.clone(), Seat { weight, ..before })
            }
            Change::Lighter(node) => {
                let before = seat(node);
                let weight = self.rng.random_range(1..before.weight);
                ring.with(node.clone(), Seat { weight, ..before })
            }
            Change::Rezone(node) => ring.with(node.clone(), Seat { zone, ..seat(node) }),
            Change::Copies => {
                let n = self.rng.random_range(1..=5);
                self.placement = self.placement.clone().with_n(KeyspaceName::default(), n);
                return;
            }
        };
        self.placement.ring = ring;
    }

    /// One of three, or none.
    fn zone(&mut self) -> Option<Zone> {
        let zones = ["a", "b", "c"];
        zones.get(self.rng.random_range(0..4)).map(|zone| zone.parse().unwrap())
    }
}
