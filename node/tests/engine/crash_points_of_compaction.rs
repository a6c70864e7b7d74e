//! A crash at any step of a compaction leaves a directory from which the same map comes back.

use std::sync::{Arc, Mutex};

use crate::support::{Rig, map_of, options, path, power_cut};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::log::key::stored;
use ringkv_node::{Condition, Durability, EngineOptions, Reason, Step, StepHook};
use ringkv_shared::Version;
use ringkv_shared::causal::Context;
use ringkv_shared::hlc::Stamp;
use ringkv_shared::protocol::node::Record;

/// Power cuts tried at each step.
const CUTS: u64 = 50;

type Crashes = Arc<Mutex<Vec<(Step, Vec<SimDisk>)>>>;

/// At each step, what a killed process and what power cuts leave.
fn recording(disk: &SimDisk) -> (Crashes, StepHook) {
    let crashes = Crashes::default();
    let (log, disk) = (Arc::clone(&crashes), disk.clone());
    let hook = StepHook::new(move |step| {
        let cuts = (0..CUTS).map(|seed| power_cut(&disk, seed));
        let left = std::iter::once(disk.copy()).chain(cuts).collect();
        log.lock().unwrap().push((step, left));
    });
    (crashes, hook)
}

fn fill(rig: &Rig) {
    for n in 0..20 {
        rig.put(&format!("key{}", n % 7), &format!("value {n}"));
    }
    rig.engine.write(Bytes::from_static(b"key3"), None, None).unwrap();
    for (n, keyspace) in [(2, "default"), (3, "carts"), (5, "carts"), (7, "default")] {
        let stored = stored(&keyspace.parse().unwrap(), Bytes::from("both"));
        let copy = Record::new("both".into(), Some("one".into()), Version::new(1, n));
        let copy = Record { context: Some(Context::empty()), ..copy };
        rig.engine.merge([(stored, copy)], None).unwrap();
    }
    for (n, ms) in [(3, 7), (4, 9), (5, 8), (6, 2)] {
        let copy = Record::new("last".into(), Some("wins".into()), Version::new(1, n));
        let stamp = Some(Stamp { ms, count: 0 });
        let copy = Record { context: Some(Context::empty()), stamp, ..copy };
        rig.engine.merge([("last".into(), copy)], None).unwrap();
    }
    assert_eq!(rig.map()[&b"last"[..]].version, Version::new(1, 4));
    let version = rig.map()[&b"key4"[..]].version;
    assert_eq!(rig.forget("key4", version), 1);
}

#[tokio::test]
async fn every_step_recovers_the_same_map() {
    let disk = SimDisk::new(1);
    let (crashes, hook) = recording(&disk);
    let mut rig = Rig::with_hook(&disk, hook).unwrap();
    let mut expected = Vec::new();
    for round in 0..2 {
        rig.put("round", &round.to_string());
        fill(&rig);
        rig.engine.settle().await;
        rig.compactor.compact(Reason::Request).await.unwrap();
        expected.push(rig.map());
    }
    rig.close().await;
    let crashes = std::mem::take(&mut *crashes.lock().unwrap());
    let per_round: Vec<Step> = crashes.iter().map(|(step, _)| *step).collect();
    // The first round deletes a segment; the second also the first one's snapshot.
    assert_eq!(per_round.len(), 7 + 8, "{per_round:?}");
    for (at, (step, left)) in crashes.iter().enumerate() {
        let map = &expected[usize::from(at >= 7)];
        for (cut, disk) in left.iter().enumerate() {
            carries_on(disk, map, &format!("{step:?}, cut {cut}")).await;
        }
    }
}

/// Recovers, compares, writes, compacts and recovers again.
async fn carries_on(disk: &SimDisk, expected: &crate::support::Map, what: &str) {
    let mut rig = Rig::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(&rig.map(), expected, "{what}");
    rig.put("after", "the crash");
    rig.engine.settle().await;
    rig.compactor.compact(Reason::Request).await.unwrap();
    rig.put("after", "the compaction");
    rig.engine.settle().await;
    let map = rig.map();
    rig.close().await;
    assert_eq!(map_of(&power_cut(disk, 1), what), map, "{what}");
}

#[tokio::test]
async fn a_lost_or_damaged_file_is_noticed() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    fill(&rig);
    rig.compactor.compact(Reason::Request).await.unwrap();
    fill(&rig);
    rig.close().await;
    for file in ["data.log", "snap-000001.log", "node.id"] {
        let broken = disk.copy();
        ringkv_node::disk::Disk::remove(&broken, &path(file)).unwrap();
        assert!(Rig::open(&broken).is_err(), "{file}");
    }
    let snapshot = disk.contents(&path("snap-000001.log")).unwrap();
    for length in 0..snapshot.len() {
        let broken = disk.copy();
        broken.set_contents(&path("snap-000001.log"), snapshot[..length].to_vec());
        assert!(Rig::open(&broken).is_err(), "cut at {length}");
    }
}

#[tokio::test]
async fn writes_during_a_compaction_are_kept() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    fill(&rig);
    let engine = rig.engine.clone();
    let writes = async move {
        for n in 0..50 {
            let key = Bytes::from(format!("key{}", n % 9));
            match n % 5 {
                0 => drop(engine.write(key, None, None).unwrap()),
                1 => {
                    let held = engine.get(&key).unwrap();
                    let only = held.map(|held| (key, Condition::Only(held.version)));
                    engine.forget(only).unwrap();
                }
                _ => drop(engine.write(key, Some(Bytes::from(format!("{n}"))), None).unwrap()),
            }
            tokio::task::yield_now().await;
        }
    };
    let (compacted, ()) = tokio::join!(rig.compactor.compact(Reason::Request), writes);
    compacted.unwrap();
    let map = rig.map();
    rig.close().await;
    assert_eq!(map_of(&disk, "after the compaction"), map);
}

/// The first key and then the last are written over and over while pages are copied. Where lines are
/// not synced before they are acknowledged, a crash may take some, but never one and not the next.
#[tokio::test]
async fn no_snapshot_has_a_change_whose_predecessor_can_be_lost() {
    for durability in [Durability::Always, Durability::Interval, Durability::Os] {
        let disk = SimDisk::new(1);
        let mut rig = Rig::with(EngineOptions { durability, ..options(&disk) }).unwrap();
        // More than one page.
        for n in 0..20 {
            rig.put(&format!("key{n:02}"), &"x".repeat(100_000));
        }
        let engine = rig.engine.clone();
        let write_both = || {
            for key in ["key00", "key19"] {
                engine.write(key.into(), Some("small".into()), None).unwrap();
            }
        };
        write_both();
        let writes = async {
            while engine.figures().compactions == 0 {
                write_both();
                tokio::task::yield_now().await;
            }
        };
        let (compacted, ()) = tokio::join!(rig.compactor.compact(Reason::Request), writes);
        compacted.unwrap();
        for seed in 0..CUTS {
            let map = map_of(&power_cut(&disk, seed), "after a power cut");
            let version = |key: &'static str| map[key.as_bytes()].version.counter;
            let (first, last) = (version("key00"), version("key19"));
            assert!(last == first + 1 || last < first, "{durability}, {seed}: {first} {last}");
        }
    }
}
