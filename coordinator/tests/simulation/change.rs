//! Changes of the ring, in the simulation: wished for at random, carried out in small steps between the
//! requests of clients, crashes, and restarts of who routes.
//!
//! What a step does is durable when it is done: that the coordinator's log has it first, and a node what it was
//! told, is tested elsewhere. Which stage the change is in survives a restart; how far it has come in it does not.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use ringkv_shared::plan::decide;
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, KeyspaceName, NodeId};

use crate::cluster::{Broken, Cluster};
use crate::upkeep::{copy, forget, holdings};

/// A change that is wished for, or carried out.
#[derive(Default)]
pub(crate) struct Changing {
    /// How many more are wished for.
    wishes: usize,
    /// Microseconds between its steps.
    pub(crate) pace: u64,
    /// How many were put in force.
    pub(crate) finalised: usize,
    /// A change has ended, and old copies are to be dropped. Durable, as the placements are.
    clearing: bool,
    /// Nodes know the ring as it is; who restarts does not know that they do.
    told: bool,
    /// Keys that are yet to be copied, or looked at for old copies.
    todo: Vec<Blob>,
}

impl Changing {
    /// So many changes are wished for.
    pub(crate) fn wished(wishes: usize) -> Self {
        Self { wishes, pace: 1_000, ..Self::default() }
    }

    /// Whether nothing is being changed.
    pub(crate) fn is_over(&self, topology: &ringkv_shared::topology::Topology) -> bool {
        !self.clearing && topology.pending.is_none()
    }

    /// Who carries it out was killed, and started again.
    pub(crate) fn restart(&mut self) {
        self.told = false;
    }
}

impl Cluster {
    /// One small step of what is to be changed.
    pub(crate) fn change(&mut self) {
        if self.changing.is_over(&self.router.topology) {
            return self.wish();
        }
        let waits = !self.router.older_rings_unused();
        if waits && self.router.broken != Some(Broken::NoWait) {
            return;
        }
        if !self.changing.told {
            (self.changing.told, self.changing.todo) = (true, Self::keys());
            return self.router.tell_ring(&mut self.world);
        }
        if self.router.topology.pending.is_some() { self.carry() } else { self.clear() }
    }

    /// Commits a change, if one is wished for.
    fn wish(&mut self) {
        if self.changing.wishes == 0 {
            return;
        }
        self.changing.wishes -= 1;
        // Done before a request is answered, or with many in between.
        self.changing.pace = if self.world.chance(50) { 100 } else { 3_000 };
        let mut next = self.router.topology.current.clone();
        for _ in 0..self.world.rng.random_range(1..=3) {
            next = self.another(next);
        }
        self.world.tell(|| format!("the ring is to be {:?}", next.ring.members().keys()));
        let topology = &mut self.router.topology;
        topology.stage(next);
        topology.commit();
        if self.router.broken == Some(Broken::Jump) {
            topology.finalise();
            self.changing.finalised += 1;
            self.changing.clearing = true;
        }
        self.changing.told = false;
    }

    /// One node more, one less, another in its seat, or another weight; never fewer than copies.
    fn another(&mut self, placement: Placement) -> Placement {
        let Placement { ring, copies } = placement;
        let on: Vec<NodeId> = ring.members().keys().cloned().collect();
        let off = self.world.replicas.keys().filter(|node| !on.contains(node));
        let off: Vec<NodeId> = off.cloned().collect();
        let rng = &mut self.world.rng;
        let old = on.choose(rng).expect("nobody takes the last off").clone();
        let new = off.choose(rng).cloned();
        let n = copies[&KeyspaceName::default()];
        let ring = match (rng.random_range(0..4), new) {
            (0, Some(new)) => ring.with(new, 1),
            (1, Some(new)) if ring.sits_for(&new).is_none() => ring.replaced(&old, new),
            (2, _) => ring.with(old, rng.random_range(1..4)),
            (_, Some(new)) if on.len() == n => ring.with(new, 1),
            (_, None) if on.len() == n => ring.with(old, 2),
            _ => ring.without(&old),
        };
        Placement { ring, copies }
    }

    /// Copies one key, or puts the change in force when all are copied. Now and then it is taken back.
    fn carry(&mut self) {
        let topology = &self.router.topology;
        let pending = topology.pending.clone().expect("one is pending");
        if self.world.chance(3) {
            self.world.tell(|| "the change is taken back".to_owned());
            return self.end(false);
        }
        let members: BTreeSet<NodeId> = self.world.replicas.keys().cloned().collect();
        let takes_part = |node: &&NodeId| self.router.topology.has(node);
        if !members.iter().filter(takes_part).all(|node| self.world.is_there(node)) {
            return;
        }
        let early = self.router.broken == Some(Broken::Uncopied);
        match self.changing.todo.pop().filter(|_| !early) {
            Some(key) => self.copy_key(&key, &pending),
            None => {
                self.world.tell(|| "the change is in force".to_owned());
                self.end(true);
            }
        }
    }

    fn end(&mut self, finalise: bool) {
        let topology = &mut self.router.topology;
        if finalise {
            topology.finalise()
        } else {
            topology.cancel()
        }
        self.changing.finalised += usize::from(finalise);
        (self.changing.clearing, self.changing.told) = (true, false);
        self.upkeep.place(&self.router.topology.current);
    }

    fn copy_key(&mut self, key: &Blob, target: &Placement) {
        let owners = target.owners(&KeyspaceName::default(), key.as_bytes());
        let held = holdings(&self.world, key);
        for (from, to) in decide(&held, &owners).copies {
            copy(&mut self.world, key, &from, &to, "move");
        }
    }

    /// Drops old copies of one key where all owners have it; over, when all keys were looked at.
    fn clear(&mut self) {
        let Some(key) = self.changing.todo.pop() else {
            self.world.tell(|| "old copies are dropped".to_owned());
            self.changing.clearing = false;
            return;
        };
        let owners = self.router.topology.current.owners(&KeyspaceName::default(), key.as_bytes());
        if !owners.iter().all(|owner| self.world.is_there(owner)) {
            return;
        }
        let held = holdings(&self.world, &key);
        let decision = decide(&held, &owners);
        if decision.copies.is_empty() {
            for stray in held.iter().filter(|h| decision.drop_at.contains(&h.node)) {
                forget(&mut self.world, &stray.node, &stray.held);
            }
        }
    }
}
