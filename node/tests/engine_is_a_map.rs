//! Whatever is put, merged, deleted, forgotten, compacted and reopened: the engine holds what a
//! plain map with versions holds.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;
use support::{Map, Rig, dir};

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
            let outcome = engine.write(key(*k), Some(value(*v)), None);
            assert!(model_write(model, key(*k), Some(value(*v)), outcome.version));
        }
        Act::Del(k) => {
            let existed = model.get(&key(*k)).is_some_and(|(value, _)| value.is_some());
            let outcome = engine.write(key(*k), None, None);
            assert_eq!(outcome.existed, existed);
            assert!(model_write(model, key(*k), None, outcome.version));
        }
        Act::Merge(k, v, counter) => {
            // One version stands for one value: the same number always brings the same.
            let version =
                Version::new(1 + u32::from(v.unwrap_or(0)) + u32::from(v.is_some()), *counter);
            let changed = engine.merge(key(*k), v.map(value), version);
            assert_eq!(changed, model_write(model, key(*k), v.map(value), version));
        }
        Act::Forget(k, same) => {
            let stored = model.get(&key(*k)).map_or(Version::new(0, 0), |(_, version)| *version);
            let version = if *same { stored } else { stored.next() };
            let expected = *same && model.remove(&key(*k)).is_some();
            assert_eq!(engine.forget(key(*k), version), expected);
        }
        Act::Settle => engine.settle().await,
        Act::Compact(_) | Act::Reopen => unreachable!("not a write"),
    }
}

async fn play(acts: &[Act]) {
    let home = dir();
    let mut rig = Rig::open(home.path()).unwrap();
    let mut model = Map::new();
    for act in acts {
        match act {
            Act::Compact(writes) => {
                let engine = rig.engine.clone();
                let others = async {
                    for write in writes {
                        step(&engine, &mut model, write).await;
                        tokio::task::yield_now().await;
                    }
                };
                let (compacted, ()) = tokio::join!(rig.compactor.compact(), others);
                compacted.unwrap();
            }
            Act::Reopen => {
                rig.close().await;
                rig = Rig::open(home.path()).unwrap();
            }
            write => step(&rig.engine, &mut model, write).await,
        }
        assert_eq!(rig.map(), model);
    }
    rig.close().await;
    assert_eq!(Rig::open(home.path()).unwrap().map(), model);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_holds_what_the_model_holds(acts in proptest::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(&acts));
    }
}
