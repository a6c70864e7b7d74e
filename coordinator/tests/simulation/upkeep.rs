//! What brings replicas back together, in the simulation: hand-off, comparison by digests and collection,
//! as the machines of [`ringkv_shared::sync`] say.
//!
//! Each call is answered at once and is durable then: what is left to chance is what lies between two
//! pieces of upkeep, and which messages are still on their way.

use std::collections::{BTreeMap, BTreeSet};

use ringkv_shared::merkle::{Digest, leaf_of_key, part_of};
use ringkv_shared::plan::{Holding, decide};
use ringkv_shared::protocol::node::{
    BatchReply, DigestsReply, DumpReply, FetchReply, KeyVersion, OwedReply, Record, SizeReply,
};
use ringkv_shared::sync::{Answers, Audit, Handoff, Leaves, Outcome, Step, collection};
use ringkv_shared::topology::{Placement, Topology};
use ringkv_shared::{Blob, KeyspaceName, NodeId, Version};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::cluster::{Broken, Cluster};
use crate::message::Call;
use crate::world::World;

/// The machines, and what is known for them.
pub(crate) struct Upkeep {
    placement: Placement,
    handoff: Handoff,
    audit: Audit,
    /// Tombstones collected so far, at all owners.
    pub(crate) collected: u64,
    /// Which these were.
    pub(crate) forgotten: BTreeSet<(Blob, Version)>,
    pub(crate) broken: Option<Broken>,
}

impl Upkeep {
    pub(crate) fn new(placement: Placement) -> Self {
        let members = placement.ring.members().keys().cloned();
        let leaves = Leaves::new(&placement.ring, placement.n(&KeyspaceName::default()));
        let audit = Audit::new(members, leaves, false);
        Self {
            placement,
            handoff: Handoff::default(),
            audit,
            collected: 0,
            forgotten: BTreeSet::new(),
            broken: None,
        }
    }

    /// Another ring is in force.
    pub(crate) fn place(&mut self, placement: &Placement) {
        let Self { collected, forgotten, broken, .. } =
            std::mem::replace(self, Self::new(placement.clone()));
        (self.collected, self.forgotten, self.broken) = (collected, forgotten, broken);
    }

    /// Hands over all that can be.
    pub(crate) fn hand_over(&mut self, world: &mut World, topology: &Topology) {
        let members: BTreeSet<NodeId> =
            world.replicas.keys().filter(|node| topology.has(node)).cloned().collect();
        let up: BTreeSet<NodeId> =
            members.iter().filter(|node| world.is_there(node)).cloned().collect();
        let now_ms = world.now / 1000;
        loop {
            let size = |node: &NodeId| ask::<SizeReply>(world, node, "size", json!([]));
            let debts = up.iter().map(|node| (node.clone(), size(node).debts)).collect();
            let steps = self.handoff.next(now_ms, &debts, &up, &members);
            if steps.is_empty() {
                return;
            }
            for step in steps {
                let Step::Deliver { keeper, target } = step else { continue };
                let outcome = deliver(world, topology, &keeper, &target);
                self.handoff.ended(now_ms, &keeper, &target, outcome);
            }
        }
    }

    /// Compares what differs, mends it, and collects what can be: `mark` is the number up to which
    /// no write is under way.
    pub(crate) fn compare(&mut self, world: &mut World, mark: Version) {
        let parts = self.audit.parts(world.now / 1000, &digests(world, None));
        // The others are empty everywhere; there is no need to look at 256 leaves each.
        let used: Vec<u8> =
            Cluster::keys().iter().map(|key| part_of(leaf_of_key(key.as_bytes()))).collect();
        for part in parts.into_iter().filter(|part| used.contains(part)) {
            let found = self.audit.look(part, &digests(world, Some(part)));
            if !found.walk.is_empty() {
                self.mend(world, &found.walk);
            }
            let answers = digests(world, Some(part));
            let found = self.audit.look(part, &answers);
            found.walk.iter().for_each(|leaf| self.audit.walked(*leaf, &answers));
            if found.walk.is_empty() {
                self.audit.in_sync(part, &answers, world.now / 1000);
            }
        }
        for part in self.audit.unswept().into_iter().filter(|part| used.contains(part)) {
            if world.replicas.keys().all(|node| world.is_there(node)) {
                self.sweep(world, part, mark);
            }
        }
    }

    /// Collects what can be of a part, and remembers it when nothing is left.
    fn sweep(&mut self, world: &mut World, part: u8, mark: Version) {
        let answers = digests(world, Some(part));
        let found = self.audit.look(part, &answers);
        let in_sync = found.walk.is_empty();
        let mut all = true;
        for (leaf, digest) in found.alike {
            all &= self.collect(world, leaf, digest, mark);
        }
        if all && in_sync {
            self.audit.swept(part);
        }
    }

    /// Collects what can be of a leaf; true if no tombstone is left there.
    fn collect(&mut self, world: &mut World, leaf: u16, digest: Digest, mark: Version) -> bool {
        let owners = self.audit.leaves().owners(leaf).expect("alike, so it has one set").to_vec();
        let records = dump(world, &owners[0], &[leaf]);
        let tombstones = records.iter().filter(|record| record.deleted).count();
        let Some(collection) = collection(leaf, digest, mark, &records) else {
            return tombstones == 0;
        };
        let gone = records.iter().filter(|record| collection.keys.contains(&record.key));
        let gone = gone.flat_map(|gone| gone.versions().map(|version| (gone.key.clone(), version)));
        self.forgotten.extend(gone);
        world.tell(|| format!("collects {:?} up to {mark}", collection.keys));
        for owner in &owners {
            if self.broken == Some(Broken::NoFloor) {
                let gone = records.iter().filter(|record| collection.keys.contains(&record.key));
                gone.for_each(|record| forget(world, owner, record));
                continue;
            }
            let params = json!([[collection]]);
            self.collected += tell::<BatchReply>(world, owner, "collect", params).changed;
        }
        collection.keys.len() == tombstones
    }

    /// Copies what owners lack, and drops what others have when all owners have seen it.
    fn mend(&self, world: &mut World, leaves: &[u16]) {
        let nodes: Vec<NodeId> =
            world.replicas.keys().filter(|node| world.is_there(node)).cloned().collect();
        let mut held: BTreeMap<Blob, Vec<Holding>> = BTreeMap::new();
        for node in &nodes {
            for record in dump(world, node, leaves) {
                let holding = Holding { node: node.clone(), held: record.clone() };
                held.entry(record.key).or_default().push(holding);
            }
        }
        for (key, holdings) in held {
            let owners = self.placement.owners(&KeyspaceName::default(), key.as_bytes());
            let decision = decide(&holdings, &owners);
            let lacking = decision.copies.iter().filter(|(_, to)| nodes.contains(to));
            let copies: Vec<_> =
                lacking.filter(|_| self.broken != Some(Broken::DropUnchecked)).collect();
            for (from, to) in copies {
                copy(world, &key, from, to, "sync");
            }
            let drops = decision.copies.is_empty() || self.broken == Some(Broken::DropUnchecked);
            if drops {
                for stray in holdings.iter().filter(|h| decision.drop_at.contains(&h.node)) {
                    forget(world, &stray.node, &stray.held);
                }
            }
        }
    }
}

/// One page of what a keeper owes.
fn deliver(world: &mut World, topology: &Topology, keeper: &NodeId, target: &NodeId) -> Outcome {
    let owed: OwedReply = ask(world, keeper, "owed", json!([target]));
    if owed.keys.is_empty() {
        return Outcome::Empty;
    }
    let keys: Vec<Blob> = owed.keys.iter().map(|owed| owed.key.clone()).collect();
    let records = fetch(world, keeper, &keys);
    world.tell(|| format!("{keeper} hands over {keys:?} to {target}"));
    let reply: BatchReply = tell(world, target, "apply", json!([records, null, "hint"]));
    let _: serde_json::Value = tell(world, keeper, "paid", json!([target, owed.keys]));
    for record in &records {
        let owners = topology.write_set(&KeyspaceName::default(), record.key.as_bytes()).owners;
        if !owners.contains(keeper) || reply.deleted.contains(&record.key) {
            forget(world, keeper, record);
        }
    }
    Outcome::Delivered(owed.keys.len() as u64)
}

/// Who holds what of a key, of those that are there.
pub(crate) fn holdings(world: &World, key: &Blob) -> Vec<Holding> {
    let there = world.replicas.keys().filter(|node| world.is_there(node));
    let holding = |node: &NodeId| {
        let held = fetch(world, node, std::slice::from_ref(key)).pop()?;
        Some(Holding { node: node.clone(), held })
    };
    there.filter_map(holding).collect()
}

/// Copies what a node has of a key to another one.
pub(crate) fn copy(world: &mut World, key: &Blob, from: &NodeId, to: &NodeId, via: &str) {
    for record in fetch(world, from, std::slice::from_ref(key)) {
        world.tell(|| format!("copies {key} from {from} to {to}"));
        let reply: BatchReply = tell(world, to, "apply", json!([[record], null, via]));
        if !reply.deleted.is_empty() {
            forget(world, from, &record);
        }
    }
}

/// A call that changes nothing.
pub(crate) fn ask<T: DeserializeOwned>(
    world: &World,
    node: &NodeId,
    method: &'static str,
    params: serde_json::Value,
) -> T {
    let reply = world.replicas[node].look(&Call::Other(method, params));
    reply.and_then(|reply| reply.ok()).expect("it is there, and answers")
}

/// A call that changes something, durable when it returns.
pub(crate) fn tell<T: DeserializeOwned>(
    world: &mut World,
    node: &NodeId,
    method: &'static str,
    params: serde_json::Value,
) -> T {
    let reply = ask(world, node, method, params);
    world.commit(node);
    reply
}

fn digests(world: &World, part: Option<u8>) -> Answers {
    let there = world.replicas.keys().filter(|node| world.is_there(node));
    let answer = |node: &NodeId| {
        let reply: DigestsReply = ask(world, node, "digests", json!([null, part]));
        let digests = reply.digests.iter().map(|digest| digest.parse().expect("a digest"));
        (node.clone(), digests.collect())
    };
    there.map(answer).collect()
}

fn dump(world: &World, node: &NodeId, leaves: &[u16]) -> Vec<Record> {
    let params = json!({"tombstones": true, "leaves": leaves});
    ask::<DumpReply>(world, node, "dump", params).items
}

fn fetch(world: &World, node: &NodeId, keys: &[Blob]) -> Vec<Record> {
    ask::<FetchReply>(world, node, "fetch", json!([keys])).records
}

/// Drops a copy, if it is still this one.
pub(crate) fn forget(world: &mut World, node: &NodeId, record: &Record) {
    world.tell(|| format!("{node} is to forget {}", record.key));
    let context = Some(record.seen());
    let key = KeyVersion { key: record.key.clone(), version: record.version, context };
    let _: BatchReply = tell(world, node, "drop", json!([[key]]));
}
