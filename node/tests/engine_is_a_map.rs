//! Whatever is put, merged, deleted, forgotten, compacted, reopened and crashed: the engine holds
//! what a plain map with versions holds, and after a crash what it held at or after the last
//! moment that is safe to the policy.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_node::disk::SimDisk;
use ringkv_node::store::Budget;
use ringkv_node::{Durability, EngineOptions, Entry, Reason};
use ringkv_shared::Version;
use support::{Map, Rig, options, power_cut};

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u8),
    Del(u8),
    /// Merges a value or tombstone of a version.
    Merge(u8, Option<u8>, u64),
    /// Forgets a key at the version stored (true) or at another.
    Forget(u8, bool),
    Settle,
    /// Compacts while these happen.
    Compact(Vec<Act>),
    Reopen,
    /// Loses power; the number decides what of the unsynced is lost.
    PowerCut(u64),
}

fn write() -> impl Strategy<Value = Act> {
    let key = 0..6_u8;
    prop_oneof![
        4 => (key.clone(), any::<u8>()).prop_map(|(k, v)| Act::Put(k, v)),
        2 => key.clone().prop_map(Act::Del),
        3 => (key.clone(), any::<Option<u8>>(), 1..40_u64).prop_map(|(k, v, c)| Act::Merge(k, v, c)),
        2 => (key, any::<bool>()).prop_map(|(k, same)| Act::Forget(k, same)),
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

fn key(k: u8) -> Bytes {
    Bytes::from(vec![b'k', k])
}

fn value(v: u8) -> Bytes {
    Bytes::from(vec![v; usize::from(v % 5)])
}

/// The model's own rule, written a second time on purpose.
fn model_write(model: &mut Map, key: Bytes, value: Option<Bytes>, version: Version) -> bool {
    let newer = model.get(&key).is_none_or(|(_, stored)| *stored < version);
    if newer {
        model.insert(key, (value, version));
    }
    newer
}

async fn step(engine: &ringkv_node::Engine, model: &mut Map, act: &Act) {
    match act {
        Act::Put(k, v) => {
            let outcome = engine.write(key(*k), Some(value(*v)), None).unwrap();
            assert!(model_write(model, key(*k), Some(value(*v)), outcome.version));
        }
        Act::Del(k) => {
            let existed = model.get(&key(*k)).is_some_and(|(value, _)| value.is_some());
            let outcome = engine.write(key(*k), None, None).unwrap();
            assert_eq!(outcome.existed, existed);
            assert!(model_write(model, key(*k), None, outcome.version));
        }
        Act::Merge(k, v, counter) => {
            // One version stands for one value: the same number always brings the same.
            let version =
                Version::new(1 + u32::from(v.unwrap_or(0)) + u32::from(v.is_some()), *counter);
            let changed = engine
                .merge([(key(*k), Entry { value: v.map(value), version, expires: None })])
                .unwrap()
                == 1;
            assert_eq!(changed, model_write(model, key(*k), v.map(value), version));
        }
        Act::Forget(k, same) => {
            let stored = model.get(&key(*k)).map_or(Version::new(0, 0), |(_, version)| *version);
            let version = if *same { stored } else { stored.next() };
            let expected = *same && model.remove(&key(*k)).is_some();
            assert_eq!(engine.forget([(key(*k), version)]).unwrap() == 1, expected);
        }
        Act::Settle => engine.settle().await,
        Act::Compact(_) | Act::Reopen | Act::PowerCut(_) => unreachable!("not a write"),
    }
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
    assert_eq!(&support::map_of(&disk, "at the end"), model.now());
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
