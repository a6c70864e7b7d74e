//! The whole: clients, who routes, nodes, and what befalls them, run from one seed to the end.

use std::collections::BTreeMap;

use rand::Rng as _;
use ringkv_shared::causal::{Context, Siblings};
use ringkv_shared::protocol::node::{FetchReply, Record, Reign, WriteReply};
use ringkv_shared::ring::Ring;
use ringkv_shared::topology::Placement;
use ringkv_shared::{Blob, NodeId, Version};

use crate::change::Changing;
use crate::history::{History, Read, Write};
use crate::message::Call;
use crate::router::{Quorums, Router, Told};
use crate::upkeep::Upkeep;
use crate::world::{Event, LATE_MAX, Weather, World};

/// What a run is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) quorums: Quorums,
    pub(crate) weather: Weather,
    /// Nodes of the cluster.
    pub(crate) nodes: usize,
    /// Operations of all clients.
    pub(crate) ops: usize,
    /// Of 100 writes, how many say what they have seen.
    pub(crate) with_context: u32,
    /// Of 100 writes, how many are deletes.
    pub(crate) deletes: u32,
    /// Of 100 writes, how many go to a node directly.
    pub(crate) direct: u32,
    /// Faults: crashes, cuts, restarts.
    pub(crate) faults: usize,
    /// Nodes that are not on the ring at first.
    pub(crate) spares: usize,
    /// Changes of the ring.
    pub(crate) changes: usize,
    /// Of 100 of these, how many are done before a request is answered.
    pub(crate) haste: u32,
    /// Microseconds between hand-off, comparison and collection; 0: never.
    pub(crate) upkeep_every: u64,
}

/// A rule that a run breaks, so that an invariant has something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Tombstones are forgotten, and no floor takes their place.
    NoFloor,
    /// What is not an owner's is dropped before all owners have it.
    DropUnchecked,
    /// Every writer counts as having seen all.
    SeenAll,
    /// Writes go to the owners of the ring in force only, though another is pending.
    OneRing,
    /// Requests that were begun before a change are neither waited for nor refused. Each of both rules alone
    /// is enough here.
    NoWait,
    /// A change is put in force before its copies are made.
    Uncopied,
    /// A change is in force as soon as it is wished for.
    Jump,
}

const CLIENTS: usize = 4;
const KEYS: usize = 3;

/// A cluster with its clients.
pub(crate) struct Cluster {
    pub(crate) seed: u64,
    plan: Plan,
    pub(crate) world: World,
    pub(crate) router: Router,
    pub(crate) upkeep: Upkeep,
    pub(crate) changing: Changing,
    pub(crate) history: History,
    /// What each client has seen last of each key.
    seen: BTreeMap<(usize, Blob), Context>,
    /// The client of each operation: a write or a read by its place in the history.
    clients: BTreeMap<(bool, usize), usize>,
    left: usize,
}

impl Cluster {
    pub(crate) fn new(seed: u64, plan: Plan) -> Self {
        let names: Vec<NodeId> =
            (1..=plan.nodes).map(|n| format!("n{n}").parse().unwrap()).collect();
        let spares = (1..=plan.spares).map(|n| format!("s{n}").parse().unwrap());
        let all: Vec<NodeId> = names.iter().cloned().chain(spares).collect();
        let ring = Ring::new(8, names.iter().map(|id| (id.clone(), 1)));
        let router = Router::new(Placement::new(ring, plan.quorums.n), plan.quorums);
        let mut world = World::new(seed, &all, plan.weather);
        (0..CLIENTS).for_each(|client| world.plan(client as u64, Event::Client { client }));
        for _ in 0..plan.faults {
            let at = world.rng.random_range(0..plan.ops as u64 * 1_500);
            world.plan(at, Event::Nemesis);
        }
        if world.chance(50) {
            let at = world.rng.random_range(0..plan.ops as u64 * 1_500);
            world.plan(at, Event::Restart);
        }
        world.plan(1_000, Event::Heartbeat);
        if plan.upkeep_every > 0 {
            world.plan(plan.upkeep_every, Event::Upkeep);
        }
        if plan.changes > 0 {
            world.plan(0, Event::Change);
        }
        let upkeep = Upkeep::new(router.topology.current.clone());
        let changing = Changing::wished(plan.changes, plan.haste);
        let (history, seen, clients) = Default::default();
        let left = plan.ops;
        Self { seed, plan, world, router, upkeep, changing, history, seen, clients, left }
    }

    /// Runs until all clients have done all they wanted and have been told.
    pub(crate) fn run(&mut self) {
        while self.left > 0 || !self.router.is_idle() {
            self.step();
        }
    }

    /// Mends everything and lets what is under way end.
    pub(crate) fn heal(&mut self) {
        self.world.heal();
        self.router.heartbeat(&mut self.world);
        let until = self.world.now + 20_000 + LATE_MAX;
        while self.world.now < until || !self.changing.is_over(&self.router.topology) {
            self.step();
        }
    }

    fn step(&mut self) {
        let event = self.world.next().expect("there is a heartbeat at least");
        let told = match event {
            Event::Call { to, ticket, call, reign } => {
                self.arrive(&to, ticket, &call, reign);
                Vec::new()
            }
            Event::Upkeep => {
                self.upkeep();
                self.world.plan(self.plan.upkeep_every, Event::Upkeep);
                Vec::new()
            }
            Event::Restart => {
                self.world.tell(|| "who routes is killed, and started again".to_owned());
                self.changing.restart();
                self.router.restart()
            }
            Event::Change => {
                self.change();
                self.world.plan(self.changing.pace, Event::Change);
                Vec::new()
            }
            Event::Commit { node } => {
                self.world.commit(&node);
                Vec::new()
            }
            Event::Reply { ticket, reply, .. } => {
                self.router.heard(&mut self.world, ticket, &reply)
            }
            Event::Late { ticket } => self.router.late(&mut self.world, ticket),
            Event::Client { client } => self.act(client),
            Event::Nemesis => {
                self.world.fault();
                Vec::new()
            }
            Event::Heartbeat => {
                self.router.heartbeat(&mut self.world);
                self.world.plan(5_000, Event::Heartbeat);
                Vec::new()
            }
        };
        told.into_iter().for_each(|told| self.hear(told));
    }

    /// From now on a rule is broken.
    pub(crate) fn break_rule(&mut self, broken: Broken) {
        self.router.broken = Some(broken);
        self.upkeep.broken = Some(broken);
    }

    /// Hands over, compares, mends, collects.
    pub(crate) fn upkeep(&mut self) {
        self.upkeep.hand_over(&mut self.world, &self.router.topology);
        // Who changes the ring looks at all keys itself.
        if self.changing.is_over(&self.router.topology) {
            self.upkeep.compare(&mut self.world, self.router.mark());
        }
    }

    fn act(&mut self, client: usize) -> Vec<Told> {
        if self.left == 0 {
            return Vec::new();
        }
        self.left -= 1;
        let key = Blob::from(format!("k{}", self.world.rng.random_range(0..KEYS)));
        if self.world.chance(30) {
            return self.read(client, key);
        }
        if self.world.chance(self.plan.direct) {
            return self.write_to_node(client, key);
        }
        let value =
            (!self.world.chance(self.plan.deletes)).then(|| Blob::from(format!("v{}", self.left)));
        self.write(client, key, value)
    }

    fn write_to_node(&mut self, client: usize, key: Blob) -> Vec<Told> {
        let members = self.router.topology.current.ring.members();
        let nodes: Vec<NodeId> = members.keys().cloned().collect();
        let node = nodes[self.world.rng.random_range(0..nodes.len())].clone();
        let value = Blob::from(format!("d{}", self.left));
        let op = self.history.writes.len();
        self.clients.insert((true, op), client);
        self.world.tell(|| format!("client {client} writes {key} = {value} to {node} itself"));
        let (version, seen) = (Version::default(), Some(Context::empty()));
        let write =
            Write { key: key.clone(), deletes: false, version, seen, told: None, answers: 0 };
        self.history.writes.push(write);
        self.router.direct(&mut self.world, op, &node, Call::Put(key, value));
        Vec::new()
    }

    /// A request arrives. What a node numbers itself replaces what it holds then, and all that it numbered
    /// before.
    fn arrive(&mut self, to: &NodeId, ticket: u64, call: &Call, reign: Option<Reign>) {
        let direct = self.router.direct_of(ticket);
        let seen = match call {
            Call::Put(key, _) => self.held(to, key).map(|record| record.seen()).unwrap_or_default(),
            _ => Context::empty(),
        };
        let reply = self.world.arrive(to, ticket, call, reign);
        let Some(op) = direct else { return };
        if let Some(reply) = reply.and_then(|reply| reply.ok::<WriteReply>()) {
            let write = &mut self.history.writes[op];
            let seen = seen.and_before(reply.version);
            (write.version, write.seen) = (reply.version, Some(seen));
        }
    }

    fn write(&mut self, client: usize, key: Blob, value: Option<Blob>) -> Vec<Told> {
        let seen = self
            .world
            .chance(self.plan.with_context)
            .then(|| self.seen.get(&(client, key.clone())).cloned().unwrap_or_default());
        let op = self.history.writes.len();
        self.clients.insert((true, op), client);
        self.world.tell(|| format!("client {client} writes {key} = {value:?}, has seen {seen:?}"));
        let (version, told) =
            self.router.write(&mut self.world, op, &key, value.clone(), seen.as_ref());
        let write = Write { key, deletes: value.is_none(), version, seen, told: None, answers: 0 };
        self.history.writes.push(write);
        told
    }

    fn read(&mut self, client: usize, key: Blob) -> Vec<Told> {
        let op = self.history.reads.len();
        self.clients.insert((false, op), client);
        self.world.tell(|| format!("client {client} reads {key}"));
        let read = Read { key: key.clone(), began: self.world.now, answer: None, answers: 0 };
        self.history.reads.push(read);
        self.router.read(&mut self.world, op, &key)
    }

    /// A client is told, and goes on.
    fn hear(&mut self, told: Told) {
        self.world.tell(|| format!("told: {told:?}"));
        let client = match told {
            Told::Wrote { op, outcome } => {
                let write = &mut self.history.writes[op];
                write.told = Some((self.world.now, outcome));
                write.answers += 1;
                self.clients[&(true, op)]
            }
            Told::Read { op, answer } => {
                let client = self.clients[&(false, op)];
                let read = &mut self.history.reads[op];
                read.answers += 1;
                read.answer = (*answer).map(|record| record.map(|r| r.seen()).unwrap_or_default());
                if let Some(seen) = read.answer.clone() {
                    self.seen.insert((client, read.key.clone()), seen);
                }
                client
            }
        };
        let pause = self.world.rng.random_range(0..2_000);
        self.world.plan(pause, Event::Client { client });
    }

    /// What a node holds for a key, if it runs.
    pub(crate) fn held(&self, node: &NodeId, key: &Blob) -> Option<Record> {
        let reply = self.world.replicas[node].look(&Call::Fetch(vec![key.clone()]))?;
        reply.ok::<FetchReply>().expect("it answers").records.into_iter().next()
    }

    /// Of each key the versions that nothing has replaced, all nodes taken together.
    pub(crate) fn everywhere(&self) -> BTreeMap<Blob, Vec<Version>> {
        let held = |key: Blob| {
            let mut all = Siblings::default();
            let members = self.router.topology.current.ring.members().keys();
            for record in members.filter_map(|node| self.held(node, &key)) {
                all.merge(&record.versions_held());
            }
            (key, all.values().iter().map(|(version, ())| *version).collect())
        };
        Self::keys().into_iter().map(held).collect()
    }

    pub(crate) fn keys() -> Vec<Blob> {
        (0..KEYS).map(|n| Blob::from(format!("k{n}"))).collect()
    }

    /// What happened, and how to see it again.
    pub(crate) fn story(&self) -> String {
        let lines = self.world.story.as_deref().unwrap_or_default();
        let shown = lines.len().saturating_sub(400);
        format!(
            "seed {seed}, {plan:?}\nlast of {} lines:\n{}\n\nagain: SEED={seed} cargo test -p ringkv-coordinator --test simulation",
            lines.len(),
            lines[shown..].join("\n"),
            seed = self.seed,
            plan = self.plan,
        )
    }
}
