//! Whatever is put, merged, deleted, forgotten, compacted, reopened and crashed: the engine holds
//! what a plain map of siblings holds, and after a crash what it held at or after the last
//! moment that is safe to the policy.

use crate::support::{Map, Rig, options, power_cut};
use bytes::Bytes;
use proptest::prelude::*;
use ringkv_node::disk::SimDisk;
use ringkv_node::log::key;
use ringkv_node::store::Budget;
use ringkv_node::{Condition, Durability, EngineOptions, Reason};
use ringkv_shared::causal::{Context, Siblings};
use ringkv_shared::protocol::node::{Record, Sibling, Via};
use ringkv_shared::{KeyspaceName, Version};

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u8),
    Del(u8),
    /// Merges a value or tombstone of a version, by a writer who had seen another, or says nothing.
    Merge(u8, Option<u8>, u64, Option<u64>),
    /// Merges what is held for a key with another value.
    Sibling(u8, u64),
    /// Forgets a key on the condition that is met (true) or not.
    Forget(u8, bool),
    /// Forgets the keyspace that the odd keys are in.
    ForgetKeyspace,
    Settle,
    /// Compacts while these happen.
    Compact(Vec<Act>),
    Reopen,
    /// Loses power; the number decides what of the unsynced is lost.
    PowerCut(u64),
}

fn write() -> impl Strategy<Value = Act> {
    let key = 0..6_u8;
    let seen = proptest::option::of(0..40_u64);
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Act::Put(k, v)),
        2 => key.clone().prop_map(Act::Del),
        4 => (key.clone(), any::<Option<u8>>(), 1..40_u64, seen).prop_map(|(k, v, c, s)| Act::Merge(k, v, c, s)),
        2 => (key.clone(), 40..60_u64).prop_map(|(k, c)| Act::Sibling(k, c)),
        2 => (key, any::<bool>()).prop_map(|(k, same)| Act::Forget(k, same)),
        1 => Just(Act::ForgetKeyspace),
        1 => Just(Act::Settle),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => write(),
        1 => proptest::collection::vec(write(), 0..12).prop_map(Act::Compact),
        1 => Just(Act::Reopen),
        1 => any::<u64>().prop_map(Act::PowerCut),
    ]
}

fn keyspace() -> KeyspaceName {
    "carts".parse().unwrap()
}

fn raw(k: u8) -> Vec<u8> {
    vec![b'k', k]
}

fn key(k: u8) -> Bytes {
    let keyspace = if k % 2 == 1 { keyspace() } else { KeyspaceName::default() };
    key::stored(&keyspace, raw(k).into())
}

fn value(v: u8) -> Bytes {
    Bytes::from(vec![v; usize::from(v % 5)])
}

fn held(model: &Map, k: u8) -> Siblings<Sibling> {
    model.get(&key(k)).map(Record::held).unwrap_or_default()
}

fn is_live(held: &Siblings<Sibling>) -> bool {
    held.values().iter().any(|(_, sibling)| !sibling.deleted)
}

/// The model's own rule: that of the siblings.
fn model_merge(model: &mut Map, k: u8, copy: &Record) -> bool {
    let mut held = held(model, k);
    let changed = held.merge(&copy.held());
    model.insert(key(k), Record::of(raw(k).into(), &held).unwrap());
    changed
}

/// A write of the node's own replaces everything.
fn model_replace(model: &mut Map, k: u8, value: Option<Bytes>, version: Version) {
    let mut context = held(model, k).context();
    context.join(&Context::before(version));
    let written = Record::new(raw(k).into(), value.map(Into::into), version);
    let context = (!context.is_before(version)).then_some(context);
    model.insert(key(k), Record { context, ..written });
}

async fn step(engine: &ringkv_node::Engine, model: &mut Map, act: &Act) {
    match act {
        Act::Put(k, v) => {
            let outcome = engine.write(key(*k), Some(value(*v)), None).unwrap();
            model_replace(model, *k, Some(value(*v)), outcome.version);
        }
        Act::Del(k) => {
            let existed = is_live(&held(model, *k));
            let outcome = engine.write(key(*k), None, None).unwrap();
            assert_eq!((outcome.existed, outcome.siblings), (existed, 0));
            model_replace(model, *k, None, outcome.version);
        }
        Act::Merge(k, v, counter, seen) => {
            // One version stands for one write: the same number always brings the same, and who says what
            // he has seen has seen what is less.
            let epoch = 1 + u32::from(v.unwrap_or(0)) + u32::from(v.is_some());
            let version = Version::new(2 * epoch + u32::from(seen.is_some()), *counter);
            let copy = Record::new(raw(*k).into(), v.map(|v| value(v).into()), version);
            let seen = seen.map(|_| Version::new(epoch, counter / 2));
            let context = seen.map(Context::up_to).filter(|seen| !seen.is_before(version));
            merge(engine, model, *k, Record { context, ..copy });
        }
        Act::Sibling(k, counter) => {
            let version = Version::new(1000, *counter);
            let copy = Record::new(raw(*k).into(), Some("sibling".into()), version);
            let copy = Record { context: Some(Context::empty()), ..copy };
            let mut both = held(model, *k);
            both.merge(&copy.held());
            merge(engine, model, *k, Record::of(raw(*k).into(), &both).unwrap());
        }
        Act::Forget(k, same) => {
            let Some(stored) = model.get(&key(*k)) else { return };
            let condition = match (same, stored.siblings.is_empty()) {
                (true, true) => Condition::Only(stored.version),
                (true, false) => Condition::Within(stored.seen()),
                (false, true) => Condition::Only(stored.version.next()),
                (false, false) => Condition::Within(stored.past()),
            };
            assert_eq!(engine.forget([(key(*k), condition)]).unwrap() == 1, *same);
            if *same {
                model.remove(&key(*k));
            }
        }
        Act::ForgetKeyspace => {
            let before = model.len();
            model.retain(|stored, _| key::is_default(stored));
            let forgotten = engine.forget_keyspace(&keyspace()).unwrap();
            assert_eq!(forgotten, (before - model.len()) as u64);
        }
        Act::Settle => engine.settle().await,
        Act::Compact(_) | Act::Reopen | Act::PowerCut(_) => unreachable!("not a write"),
    }
}

fn merge(engine: &ringkv_node::Engine, model: &mut Map, k: u8, copy: Record) {
    let expected = model_merge(model, k, &copy);
    assert_eq!(engine.merge([(key(k), copy)], Some(Via::Sync)).unwrap().changed == 1, expected);
}

/// The maps since the last that is safe, oldest first; the last is the present one.
struct Model {
    maps: Vec<Map>,
    durability: Durability,
}

impl Model {
    fn now(&self) -> &Map {
        self.maps.last().unwrap()
    }

    async fn step(&mut self, engine: &ringkv_node::Engine, act: &Act) {
        let mut map = self.now().clone();
        step(engine, &mut map, act).await;
        self.maps.push(map);
        if matches!(act, Act::Settle) && self.durability == Durability::Always {
            self.all_safe();
        }
    }

    fn all_safe(&mut self) {
        self.maps.drain(..self.maps.len() - 1);
    }

    /// What a crash left must be one of them.
    fn recovered(&mut self, map: Map) {
        assert!(self.maps.contains(&map), "recovered {map:?}, expected one of {:?}", self.maps);
        self.maps = vec![map];
    }
}

fn open(disk: &SimDisk, durability: Durability) -> Rig {
    // Segments of a few lines, and hardly a value in memory.
    let memory = Some(Budget { bytes: 6, values: None });
    Rig::with(EngineOptions { durability, segment_bytes: 400, memory, ..options(disk) }).unwrap()
}

async fn play(durability: Durability, acts: &[Act]) {
    let mut disk = SimDisk::new(1);
    let mut rig = open(&disk, durability);
    let mut model = Model { maps: vec![Map::new()], durability };
    for act in acts {
        match act {
            Act::Compact(writes) => {
                let engine = rig.engine.clone();
                let others = async {
                    for write in writes {
                        model.step(&engine, write).await;
                        tokio::task::yield_now().await;
                    }
                };
                let (compacted, ()) = tokio::join!(rig.compactor.compact(Reason::Request), others);
                compacted.unwrap();
            }
            Act::Reopen => {
                rig.close().await;
                rig = open(&disk, durability);
                model.all_safe();
            }
            Act::PowerCut(seed) => {
                let left = power_cut(&disk, *seed);
                // The old process goes on with the old disk, where nobody looks any more.
                (disk, rig) = (left.clone(), open(&left, durability));
                model.recovered(rig.map());
            }
            write => model.step(&rig.engine, write).await,
        }
        assert_eq!(&rig.map(), model.now());
    }
    rig.close().await;
    assert_eq!(&crate::support::map_of(&disk, "at the end"), model.now());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_holds_what_the_model_holds(
        durability in prop_oneof![Just(Durability::Always), Just(Durability::Os)],
        acts in proptest::collection::vec(act(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(durability, &acts));
    }
}
