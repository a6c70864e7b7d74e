//! Who routes, in the simulation: the machines that the coordinator carries out, carried out by events.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_shared::causal::{Context, Recent};
use ringkv_shared::protocol::node::{
    Claim, ClusterMap, GetReply, ObeysReply, Record, Reign, ReplicaWrite, SizeReply, SpaceKey, Via,
};
use ringkv_shared::quorum::{Get, Put, PutStep, Quorum, ReadState, WriteOutcome};
use ringkv_shared::ring::key_position;
use ringkv_shared::topology::{Placement, Topology, WriteSet};
use ringkv_shared::{Blob, KeyspaceName, NodeId, Version};
use serde_json::json;

use crate::cluster::Broken;
use crate::message::{Call, Outcome, Reply};
use crate::upkeep::{ask, tell};
use crate::world::World;

/// The identity of who routes.
const COORDINATOR: &str = "00000000-0000-4000-8000-000000000001";

/// How the cluster is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quorums {
    pub(crate) n: usize,
    pub(crate) r: usize,
    pub(crate) w: usize,
    pub(crate) sloppy: bool,
}

/// What a client is told.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    Wrote { op: usize, outcome: WriteOutcome },
    Read { op: usize, answer: Box<Option<Option<Record>>> },
}

/// The coordinator.
pub(crate) struct Router {
    pub(crate) quorums: Quorums,
    /// Survives a restart, as the coordinator's log does.
    pub(crate) topology: Topology,
    epoch: u32,
    /// The epoch of the ring that nodes were told last.
    told: u64,
    counter: u64,
    recent: Recent,
    /// Whom it believes to be DOWN.
    down: BTreeSet<NodeId>,
    tickets: BTreeMap<u64, (NodeId, Purpose)>,
    last_ticket: u64,
    writes: BTreeMap<usize, Writing>,
    reads: BTreeMap<usize, Reading>,
    pub(crate) broken: Option<Broken>,
}

/// What a request that was sent is for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Write(usize),
    Read(usize),
    /// Straight from a client.
    Direct(usize),
    /// A repair or a note: nobody waits for it.
    Besides,
}

struct Writing {
    put: Put,
    write: ReplicaWrite,
    /// The epoch of the ring that it was begun under.
    ring: u64,
    waiting: usize,
    answered: bool,
}

struct Reading {
    key: Blob,
    get: Get,
    ring: u64,
    waiting: usize,
    answered: bool,
}

impl Router {
    pub(crate) fn new(placement: Placement, quorums: Quorums) -> Self {
        Self {
            quorums,
            topology: Topology { epoch: 1, current: placement, staged: None, pending: None },
            epoch: 1,
            told: 1,
            counter: 0,
            recent: Recent::new(1),
            down: BTreeSet::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            broken: None,
        }
    }

    pub(crate) fn owners(&self, key: &Blob) -> Vec<NodeId> {
        self.topology.current.owners(&KeyspaceName::default(), key.as_bytes())
    }

    /// Nothing of what it was asked is open any more.
    pub(crate) fn is_idle(&self) -> bool {
        let waits = |(_, purpose): &(NodeId, Purpose)| !matches!(purpose, Purpose::Besides);
        self.writes.is_empty() && self.reads.is_empty() && !self.tickets.values().any(waits)
    }

    /// No write with a number up to this one is under way.
    pub(crate) fn mark(&self) -> Version {
        let open = self.writes.values().filter_map(|open| open.write.record.version.previous());
        open.min().unwrap_or(Version::new(self.epoch, self.counter))
    }

    /// It looks who is there.
    pub(crate) fn heartbeat(&mut self, world: &mut World) {
        self.claim(world);
        self.down = world.replicas.keys().filter(|id| !world.is_there(id)).cloned().collect();
    }

    /// It is killed and started again: who waited for an answer knows only that there is none.
    pub(crate) fn restart(&mut self) -> Vec<Told> {
        self.epoch += 1;
        self.counter = 0;
        self.recent = Recent::new(self.epoch);
        let writes = std::mem::take(&mut self.writes).into_iter().filter(|(_, w)| !w.answered);
        let reads = std::mem::take(&mut self.reads).into_iter().filter(|(_, r)| !r.answered);
        self.tickets.retain(|_, (_, purpose)| matches!(purpose, Purpose::Direct(_)));
        let outcome = WriteOutcome::Unknown;
        let told = writes.map(|(op, _)| Told::Wrote { op, outcome });
        told.chain(reads.map(|(op, _)| Told::Read { op, answer: Box::new(None) })).collect()
    }

    /// A client writes to a node itself, past who routes.
    pub(crate) fn direct(&mut self, world: &mut World, op: usize, to: &NodeId, call: Call) {
        self.send(world, to, Purpose::Direct(op), call);
    }

    /// The direct write that a request is.
    pub(crate) fn direct_of(&self, ticket: u64) -> Option<usize> {
        match self.tickets.get(&ticket) {
            Some((_, Purpose::Direct(op))) => Some(*op),
            _ => None,
        }
    }

    /// Begins a write; its number.
    pub(crate) fn write(
        &mut self,
        world: &mut World,
        op: usize,
        key: &Blob,
        value: Option<Blob>,
        seen: Option<&Context>,
    ) -> (Version, Vec<Told>) {
        self.counter += 1;
        let version = Version::new(self.epoch, self.counter);
        let mut record = Record::new(key.clone(), value, version);
        let seen = seen.filter(|_| self.broken != Some(Broken::SeenAll));
        record.context = self.recent.note(key_position(key.as_bytes()), version, seen);
        let members = self.topology.newest().ring.members().keys();
        let set = self.topology.write_set(&KeyspaceName::default(), key.as_bytes());
        let spare = members.filter(|id| self.quorums.sloppy && !set.owners.contains(id));
        let spare: Vec<NodeId> = spare.cloned().collect();
        let (put, steps) = Put::start(self.write_quorums(set), &self.down, spare);
        let write = ReplicaWrite { keyspace: KeyspaceName::default(), record, owe: Vec::new() };
        let ring = self.topology.epoch;
        self.writes.insert(op, Writing { put, write, ring, waiting: 0, answered: false });
        self.carry_out(world, op, steps);
        (version, self.progress(world, op))
    }

    /// The owners that must have a write: of both placements while a change is pending.
    fn write_quorums(&self, set: WriteSet) -> Vec<Quorum> {
        let (space, w) = (KeyspaceName::default(), self.quorums.w);
        let Topology { current, pending, .. } = &self.topology;
        let owners = set.owners[..set.current].to_vec();
        let current = Quorum { owners, needed: current.needed(&space, w) };
        let pending = pending.as_ref().filter(|_| self.broken != Some(Broken::OneRing));
        let pending = pending
            .map(|pending| Quorum { owners: set.pending, needed: pending.needed(&space, w) });
        std::iter::once(current).chain(pending).collect()
    }

    /// Whether what is under way was all begun under the newest ring.
    pub(crate) fn older_rings_unused(&self) -> bool {
        let writes = self.writes.values().map(|writing| writing.ring);
        let rings = writes.chain(self.reads.values().map(|reading| reading.ring));
        rings.into_iter().all(|ring| ring == self.topology.epoch)
    }

    fn reign(&self) -> Reign {
        Reign { coordinator: self.epoch, ring: self.told }
    }

    /// The ring is told: nodes refuse from then on what was sent under an older one.
    pub(crate) fn tell_ring(&mut self, world: &mut World) {
        self.told = self.topology.epoch;
        self.claim(world);
    }

    /// Has all that are there obey, and know the ring; who is away is asked with a later heartbeat.
    fn claim(&self, world: &mut World) {
        let there = world.replicas.keys().filter(|node| world.is_there(node));
        for node in there.cloned().collect::<Vec<_>>() {
            let size: SizeReply = ask(world, &node, "size", json!([]));
            if size.reign == self.reign() {
                continue;
            }
            let claim = Claim {
                node: size.uuid,
                coordinator: COORDINATOR.to_owned(),
                epoch: self.epoch,
                after: Vec::new(),
            };
            let map = ClusterMap { ring_epoch: self.told, lines: "RING 8\n".into() };
            let obeys: ObeysReply = tell(world, &node, "claim", json!([claim]));
            assert_eq!(obeys.reign.coordinator, self.epoch);
            let reply = world.replicas[&node]
                .look_under(&Call::Other("adopt", json!([map])), Some(self.reign()));
            assert!(reply.is_some_and(|reply| reply.outcome == Outcome::Ok));
            world.commit(&node);
        }
    }

    fn carry_out(&mut self, world: &mut World, op: usize, steps: Vec<PutStep>) {
        for step in steps {
            let write = self.writes[&op].write.clone();
            match step {
                PutStep::Send { to, owe, .. } => {
                    self.writes.get_mut(&op).expect("under way").waiting += 1;
                    let write = ReplicaWrite { owe, ..write };
                    self.send(world, &to, Purpose::Write(op), Call::Write(write));
                }
                PutStep::Owe { at, to } => {
                    let key = SpaceKey { keyspace: write.keyspace, key: write.record.key };
                    self.send(world, &at, Purpose::Besides, Call::Owe(to, vec![key]));
                }
            }
        }
    }

    /// Tells the client when the outcome is known, and ends when all have answered.
    fn progress(&mut self, world: &mut World, op: usize) -> Vec<Told> {
        let Some(writing) = self.writes.get_mut(&op) else { return Vec::new() };
        let mut told = Vec::new();
        let outcome = writing.put.outcome();
        let outcome = outcome.or_else(|| (writing.waiting == 0).then(|| writing.put.end()));
        if let Some(outcome) = outcome.filter(|_| !writing.answered) {
            writing.answered = true;
            told.push(Told::Wrote { op, outcome });
        }
        if writing.waiting == 0 {
            let steps = writing.put.rest();
            self.carry_out(world, op, steps);
            self.writes.remove(&op);
        }
        told
    }

    /// Begins a read.
    pub(crate) fn read(&mut self, world: &mut World, op: usize, key: &Blob) -> Vec<Told> {
        let Quorums { n, r, w, sloppy } = self.quorums;
        let quorum = Quorum { owners: self.owners(key), needed: r };
        let get = Get::new(quorum, r > 1 && r + w > n && !sloppy);
        let (key, ring) = (key.clone(), self.topology.epoch);
        self.reads.insert(op, Reading { key, get, ring, waiting: 0, answered: false });
        self.ask(world, op);
        self.settle(world, op)
    }

    fn ask(&mut self, world: &mut World, op: usize) {
        loop {
            let reading = self.reads.get_mut(&op).expect("under way");
            let nodes = reading.get.ask();
            if nodes.is_empty() {
                return;
            }
            for node in nodes {
                let reading = self.reads.get_mut(&op).expect("under way");
                if self.down.contains(&node) {
                    reading.get.reply(&node, None);
                } else {
                    reading.waiting += 1;
                    let call = Call::Get(reading.key.clone());
                    self.send(world, &node, Purpose::Read(op), call);
                }
            }
        }
    }

    fn settle(&mut self, world: &mut World, op: usize) -> Vec<Told> {
        let Some(reading) = self.reads.get_mut(&op) else { return Vec::new() };
        let mut told = Vec::new();
        let known = reading.get.state() != ReadState::Open || reading.waiting == 0;
        if known && !reading.answered {
            reading.answered = true;
            let enough = reading.get.state() == ReadState::Enough;
            told.push(Told::Read { op, answer: Box::new(enough.then(|| reading.get.merged())) });
        }
        if reading.waiting == 0 {
            let repairs = reading.get.repairs();
            self.reads.remove(&op);
            for (record, node) in repairs
                .into_iter()
                .flat_map(|(record, to)| to.into_iter().map(move |n| (record.clone(), n)))
            {
                self.send(world, &node, Purpose::Besides, Call::Apply(vec![record], Via::Repair));
            }
        }
        told
    }

    fn send(&mut self, world: &mut World, to: &NodeId, purpose: Purpose, call: Call) {
        self.last_ticket += 1;
        self.tickets.insert(self.last_ticket, (to.clone(), purpose));
        let reign = Some(self.reign());
        let unfenced = matches!(purpose, Purpose::Direct(_)) || self.broken == Some(Broken::NoWait);
        let reign = reign.filter(|_| !unfenced);
        world.send(to, self.last_ticket, call, reign);
    }

    /// A reply, or none in time. What comes a second time is not heard.
    pub(crate) fn heard(&mut self, world: &mut World, ticket: u64, reply: &Reply) -> Vec<Told> {
        let Some((node, purpose)) = self.tickets.remove(&ticket) else { return Vec::new() };
        world.tell(|| format!("#{ticket} <- {node} {:?} {}", reply.outcome, reply.result));
        match purpose {
            Purpose::Write(op) => {
                let writing = self.writes.get_mut(&op).expect("it waits for this");
                writing.waiting -= 1;
                let steps = writing.put.answer(&node, reply.outcome);
                self.carry_out(world, op, steps);
                self.progress(world, op)
            }
            Purpose::Read(op) => {
                let reading = self.reads.get_mut(&op).expect("it waits for this");
                reading.waiting -= 1;
                let record = reply.ok().map(|got: GetReply| record_of(&reading.key, got));
                reading.get.reply(&node, record);
                self.ask(world, op);
                self.settle(world, op)
            }
            Purpose::Direct(op) => {
                let outcome = match reply.outcome {
                    Outcome::Ok => WriteOutcome::Done,
                    Outcome::Unknown | Outcome::Pending => WriteOutcome::Unknown,
                    Outcome::Refused | Outcome::Unreachable => WriteOutcome::NotApplied,
                };
                vec![Told::Wrote { op, outcome }]
            }
            Purpose::Besides => Vec::new(),
        }
    }

    pub(crate) fn late(&mut self, world: &mut World, ticket: u64) -> Vec<Told> {
        self.heard(world, ticket, &Reply::failed(Outcome::Unknown))
    }
}

/// What a node holds, from its reply; `None`: nothing.
pub(crate) fn record_of(key: &Blob, reply: GetReply) -> Option<Record> {
    let GetReply { value, version, expires, stamp, context, siblings, .. } = reply;
    let (key, deleted, version) = (key.clone(), value.is_none(), version?);
    Some(Record { key, value, deleted, version, expires, stamp, context, siblings })
}
