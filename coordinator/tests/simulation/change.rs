//! Changes of the ring, in the simulation: wished for at random, and carried out as [`Run`] says, in small steps
//! between the requests of clients, crashes, and restarts of who routes.
//!
//! What a step does is durable when it is done: that the coordinator's log has it first, and a node what it was
//! told, is tested elsewhere. What the log would say survives a restart; how far a task has come does not.

use std::collections::BTreeSet;

use rand::Rng as _;
use rand::seq::IndexedRandom as _;
use ringkv_shared::change::{Mark, Run, Task};
use ringkv_shared::plan::decide;
use ringkv_shared::protocol::cluster::Stage;
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{Blob, KeyspaceName, NodeId};

use crate::cluster::{Broken, Cluster};
use crate::upkeep::{copy, forget, holdings};

/// What is wished for, and carried out.
#[derive(Default)]
pub(crate) struct Changing {
    /// How many more are wished for.
    wishes: usize,
    /// Of 100, how many are done in haste.
    haste: u32,
    /// Microseconds between its steps.
    pub(crate) pace: u64,
    /// How many were put in force.
    pub(crate) finalised: usize,
    /// A change has ended, and old copies are to be dropped. Durable, as the placements are.
    clearing: bool,
    /// It rests. Durable.
    paused: bool,
    /// How far it is; who restarts begins anew with what is durable.
    run: Option<Run>,
    /// Keys that have yet to have their turn in the task of now.
    todo: Option<Vec<Blob>>,
}

impl Changing {
    /// So many changes are wished for.
    pub(crate) fn wished(wishes: usize, haste: u32) -> Self {
        Self { wishes, haste, pace: 1_000, ..Self::default() }
    }

    /// Whether nothing is being changed.
    pub(crate) fn is_over(&self, topology: &Topology) -> bool {
        self.stage(topology) == Stage::Idle
    }

    fn stage(&self, topology: &Topology) -> Stage {
        match topology {
            _ if self.clearing => Stage::Clearing,
            Topology { pending: Some(_), .. } => Stage::Copying,
            Topology { staged: Some(_), .. } => Stage::Staged,
            _ => Stage::Idle,
        }
    }

    /// Who carries it out was killed, and started again.
    pub(crate) fn restart(&mut self) {
        (self.run, self.todo) = (None, None);
    }
}

impl Cluster {
    /// One small step of what is to be changed.
    pub(crate) fn change(&mut self) {
        let stage = self.changing.stage(&self.router.topology);
        if stage == Stage::Idle && self.changing.run.is_none() {
            return self.wish();
        }
        let begun = Run::begin(stage, self.changing.paused);
        let mut run = self.changing.run.take().unwrap_or(begun);
        self.meddle(&mut run);
        let task = run.next();
        let done = match task {
            Task::Count | Task::Release => true,
            Task::Log(mark) => {
                self.log(mark);
                true
            }
            Task::Tell => self.tell_all(),
            Task::Copy | Task::Drop => self.next_key(task),
            Task::Rest => false,
            Task::End(_) => {
                // Clients have a while to meet what it has left behind.
                self.changing.pace = self.world.rng.random_range(0..30_000);
                return;
            }
        };
        if done {
            self.changing.todo = None;
            run.did(task, true);
        }
        self.changing.run = Some(run);
    }

    /// Stages a change, if one is wished for.
    fn wish(&mut self) {
        if self.changing.wishes == 0 {
            return;
        }
        self.changing.wishes -= 1;
        // Done before a request is answered, or with many in between.
        self.changing.pace = if self.world.chance(self.changing.haste) { 100 } else { 3_000 };
        let mut next = self.router.topology.current.clone();
        for _ in 0..self.world.rng.random_range(1..=3) {
            next = self.another(next);
        }
        self.world.tell(|| format!("the ring is to be {:?}", next.ring.members()));
        self.router.topology.stage(next);
        if self.router.broken == Some(Broken::Jump) {
            self.log(Mark::Final);
        }
    }

    /// One node more, one less, another in its seat, or another weight; never fewer than copies.
    fn another(&mut self, placement: Placement) -> Placement {
        let Placement { ring, copies } = placement;
        let on: Vec<NodeId> = ring.members().keys().cloned().collect();
        let off = self.world.replicas.keys().filter(|node| !on.contains(node));
        let off: Vec<NodeId> = off.cloned().collect();
        let rng = &mut self.world.rng;
        let old = on.choose(rng).expect("nobody takes the last off").clone();
        let new = off.choose(rng).filter(|new| ring.sits_for(new).is_none()).cloned();
        let n = copies[&KeyspaceName::default()];
        let ring = match (rng.random_range(0..4), new) {
            (0, Some(new)) => ring.with(new, 1),
            (1, Some(new)) => ring.replaced(&old, new),
            (2, _) => ring.with(old, rng.random_range(1..4)),
            (_, Some(new)) if on.len() == n => ring.with(new, 1),
            (_, None) if on.len() == n => ring.with(old, 2),
            _ => ring.without(&old),
        };
        Placement { ring, copies }
    }

    /// People change their minds.
    fn meddle(&mut self, run: &mut Run) {
        let refused = match self.world.rng.random_range(0..100) {
            0 => run.cancel(),
            1 => run.pause(),
            2..30 if run.rests() => run.resume(),
            _ => return,
        };
        // It may be too late for that.
        let _ = refused;
    }

    /// What the log would say.
    fn log(&mut self, mark: Mark) {
        self.world.tell(|| format!("{mark}"));
        let topology = &mut self.router.topology;
        match mark {
            Mark::Commit => topology.commit(),
            Mark::Cancel => topology.cancel(),
            Mark::Final => topology.finalise(),
            Mark::Pause | Mark::Resume => self.changing.paused = mark == Mark::Pause,
            Mark::Done => self.changing.clearing = false,
        }
        if matches!(mark, Mark::Final | Mark::Cancel) {
            (self.changing.clearing, self.changing.paused) = (true, false);
            self.changing.finalised += usize::from(mark == Mark::Final);
            self.upkeep.place(&self.router.topology.current);
        }
    }

    /// Tells the nodes, once nobody works from an older ring.
    fn tell_all(&mut self) -> bool {
        if !self.router.older_rings_unused() && self.router.broken != Some(Broken::NoWait) {
            return false;
        }
        self.router.tell_ring(&mut self.world);
        true
    }

    /// Has one more key its turn; true if there is none left.
    fn next_key(&mut self, task: Task) -> bool {
        let cancelled = self.router.topology.pending.is_none() && task == Task::Copy;
        if !cancelled && task == Task::Copy && !self.all_take_part() {
            return false;
        }
        let Some(key) = self.changing.todo.get_or_insert_with(Self::keys).pop() else {
            return true;
        };
        match task {
            Task::Copy if self.router.broken == Some(Broken::Uncopied) => {}
            Task::Copy => self.copy_key(&key),
            _ => self.drop_key(&key),
        }
        false
    }

    /// Whether all who are on either ring are there.
    fn all_take_part(&self) -> bool {
        let members: BTreeSet<&NodeId> = self.world.replicas.keys().collect();
        let mut members = members.into_iter().filter(|node| self.router.topology.has(node));
        members.all(|node| self.world.is_there(node))
    }

    fn copy_key(&mut self, key: &Blob) {
        let target = self.router.topology.newest();
        let owners = target.owners(&KeyspaceName::default(), key.as_bytes());
        let held = holdings(&self.world, key);
        for (from, to) in decide(&held, &owners).copies {
            if self.world.is_there(&to) {
                copy(&mut self.world, key, &from, &to, "move");
            }
        }
    }

    /// Drops old copies of a key where all owners have it.
    fn drop_key(&mut self, key: &Blob) {
        let owners = self.router.topology.current.owners(&KeyspaceName::default(), key.as_bytes());
        let held = holdings(&self.world, key);
        let decision = decide(&held, &owners);
        if decision.copies.is_empty() {
            for stray in held.iter().filter(|h| decision.drop_at.contains(&h.node)) {
                forget(&mut self.world, &stray.node, &stray.held);
            }
        }
    }
}
