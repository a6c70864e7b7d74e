//! Whichever operation of the disk fails, or is the last before the power goes: after the restart
//! every acknowledged write is there, in order, siblings too, and nothing that never was written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::ErrorKind;

use bytes::Bytes;
use ringkv_node::disk::{Operation, SimDisk};
use ringkv_node::log::key::stored;
use ringkv_node::{Condition, EngineOptions, NodeError, StorageError};
use ringkv_shared::causal::Context;
use ringkv_shared::protocol::node::{Record, Via};
use ringkv_shared::{KeyspaceName, Version};
use support::{Map, Rig, options, power_cut};

/// Power cuts tried after each run.
const CUTS: u64 = 3;

/// What a client of a node saw.
struct Trace {
    /// The map after each write that was begun; the first is the map before.
    maps: Vec<Map>,
    /// How many of these writes were acknowledged.
    acknowledged: usize,
    /// What ended the node before its time.
    failure: Option<StorageError>,
}

fn keyspace() -> KeyspaceName {
    "carts".parse().unwrap()
}

/// Ten groups of writes with a compaction in between, until something fails.
async fn work(disk: &SimDisk, before: Map) -> Trace {
    let mut trace = Trace { maps: vec![before], acknowledged: 0, failure: None };
    let small = EngineOptions { segment_bytes: 9_000, ..options(disk) };
    let mut rig = match Rig::with(small) {
        Ok(rig) => rig,
        Err(error) => return Trace { failure: Some(error), ..trace },
    };
    for group in 0..10_u64 {
        for n in 0..=group % 3 {
            // Over a sector, so that what follows does not write it a second time.
            let value = format!("value {group} {n} {:1000}", "");
            let key = Bytes::from(format!("key{}", (group + n) % 4));
            trace.write(&rig, key, Some(value.into()));
        }
        if group % 4 == 3 {
            trace.write(&rig, Bytes::from_static(b"key1"), None);
        }
        trace.merge(&rig, group);
        if group % 5 == 4 {
            trace.forget(&rig);
        }
        if !rig.settles().await {
            trace.failure = rig.ended().await.err();
            return trace;
        }
        trace.acknowledged = trace.maps.len() - 1;
        if group % 4 == 2 {
            match rig.compacts().await {
                Ok(true) => continue,
                Ok(false) => trace.failure = rig.ended().await.err(),
                Err(error) => {
                    rig.kill().await;
                    trace.failure = Some(error);
                }
            }
            return trace;
        }
    }
    trace.failure = rig.try_close().await.err();
    trace
}

impl Trace {
    /// Writes; what is refused must not have been applied.
    fn write(&mut self, rig: &Rig, key: Bytes, value: Option<Bytes>) {
        let written = rig.engine.write(key, value, None);
        self.wrote(rig, written.is_ok());
    }

    /// Two writers who knew nothing of each other, in a keyspace; each line by itself.
    fn merge(&mut self, rig: &Rig, group: u64) {
        let key = format!("cart{}", group % 3);
        for (n, seen) in [(2, group.saturating_sub(1)), (3, group.saturating_sub(2))] {
            let version = Version::new(1, 10 * group + n);
            let copy =
                Record::new(key.as_str().into(), Some(format!("{group} {n}").into()), version);
            let context = Some(Context::up_to(Version::new(1, 10 * seen)));
            let stored = stored(&keyspace(), Bytes::from(key.clone()));
            let merged = rig.engine.merge([(stored, Record { context, ..copy })], Some(Via::Hint));
            self.wrote(rig, merged.is_ok());
        }
    }

    /// Forgets a key with several values, and then the keyspace.
    fn forget(&mut self, rig: &Rig) {
        let several = |(_, held): &(&Bytes, &Record)| !held.siblings.is_empty();
        let map = rig.map();
        if let Some((key, held)) = map.iter().find(several) {
            let condition = Condition::Within(held.seen());
            let forgotten = rig.engine.forget([(key.clone(), condition)]);
            self.wrote(rig, forgotten.is_ok());
        }
        let forgotten = rig.engine.forget_keyspace(&keyspace());
        self.wrote(rig, forgotten.is_ok());
    }

    fn wrote(&mut self, rig: &Rig, admitted: bool) {
        let map = rig.map();
        if admitted {
            self.maps.push(map);
        } else {
            assert_eq!(Some(&map), self.maps.last());
        }
    }

    /// Whether the map is one that a restart may find; it may have more than was acknowledged.
    fn check(&self, found: &Map, what: &str) {
        let allowed = &self.maps[self.acknowledged..];
        assert!(allowed.contains(found), "{what}: found {found:?}, expected one of {allowed:?}");
    }
}

/// Restarts, writes and cuts the power: what the restart showed may not be lost by then.
async fn goes_on(disk: &SimDisk, trace: &Trace, what: &str) {
    let rig = Rig::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    trace.check(&rig.map(), what);
    rig.put("after", "the restart");
    rig.engine.settle().await;
    let map = rig.map();
    for seed in 0..CUTS {
        let what = format!("{what}, cut {seed} after the restart");
        assert_eq!(support::map_of(&power_cut(disk, seed), &what), map, "{what}");
    }
    rig.close().await;
    assert_eq!(support::map_of(disk, what), map, "{what}");
}

async fn check(disk: &SimDisk, trace: &Trace, what: &str) {
    for seed in 0..CUTS {
        let what = format!("{what}, cut {seed}");
        goes_on(&power_cut(disk, seed), trace, &what).await;
    }
}

async fn fails_at(n: u64, kind: Option<Operation>, error: ErrorKind) -> bool {
    let what = format!("{error} at {n} of {kind:?}");
    let disk = SimDisk::new(n);
    disk.fail_nth(n, kind, error);
    let trace = work(&disk, Map::new()).await;
    let happened = disk.count(kind) >= n;
    disk.clear_faults();
    if let Some(failure) = trace.failure.as_ref() {
        assert!(happened, "{what}: {failure}");
        assert!(matches!(failure, StorageError::Io { .. }), "{what}: {failure}");
    }
    check(&disk, &trace, &what).await;
    goes_on(&disk, &trace, &what).await;
    happened
}

#[tokio::test]
async fn an_operation_fails_once() {
    for error in [ErrorKind::Other, ErrorKind::StorageFull] {
        let mut n = 1;
        while fails_at(n, None, error).await {
            n += 1;
        }
        assert!(n > 80, "only {n} operations");
    }
}

#[tokio::test]
async fn a_failed_sync_ends_the_node() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    disk.fail_nth(1, Some(Operation::Sync), ErrorKind::Other);
    rig.put("key", "value");
    let failure = rig.ended().await.unwrap_err();
    assert_eq!(NodeError::from(failure).exit_code(), 74);
    assert_eq!(disk.count(Some(Operation::Sync)), 4, "it is never tried again");
}

/// The last line of a stop in good order says that the log need not be copied. It must not be
/// believed if it may not be on the disk, which shows where it lies in two sectors.
#[tokio::test]
async fn a_farewell_whose_sync_failed_is_not_believed() {
    for length in 330..380 {
        let disk = SimDisk::new(length);
        let rig = Rig::open(&disk).unwrap();
        let value = "x".repeat(length as usize);
        rig.put("key", &value);
        rig.engine.settle().await;
        disk.fail_nth(1, Some(Operation::Sync), ErrorKind::Other);
        rig.try_close().await.unwrap_err();
        let rig = Rig::open(&disk).unwrap();
        rig.put("after", &value);
        rig.put("and after", &value);
        rig.engine.settle().await;
        let map = rig.map();
        for seed in 0..CUTS {
            let what = format!("length {length}, cut {seed}");
            assert_eq!(support::map_of(&power_cut(&disk, seed), &what), map, "{what}");
        }
    }
}

#[tokio::test]
async fn the_power_goes_at_any_operation() {
    let disk = SimDisk::new(0);
    assert!(work(&disk, Map::new()).await.failure.is_none());
    for n in 0..disk.count(None) {
        let disk = SimDisk::new(n);
        disk.power_off_after(n);
        let trace = work(&disk, Map::new()).await;
        check(&disk, &trace, &format!("power off after {n}")).await;
    }
}
