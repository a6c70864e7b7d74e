//! Whichever operation of the disk fails, or is the last before the power goes: after the restart
//! every acknowledged write is there, in order, siblings too, and nothing that never was written. So it
//! is with what is owed to other nodes, and what was collected stays away.

use std::io::ErrorKind;

use crate::support::{Map, Rig, options, power_cut};
use bytes::Bytes;
use ringkv_node::disk::{Operation, SimDisk};
use ringkv_node::log::key::stored;
use ringkv_node::log::record::{Op, Record as Line};
use ringkv_node::{Condition, EngineOptions, NodeError, StorageError};
use ringkv_shared::causal::Context;
use ringkv_shared::merkle;
use ringkv_shared::protocol::node::{Collection, Record, SpaceKey, Via};
use ringkv_shared::{KeyspaceName, NodeId, Version};

/// Power cuts tried after each run.
const CUTS: u64 = 3;

/// A key whose tombstone is collected.
const GONE: Bytes = Bytes::from_static(b"gone");

/// The map, and the keys that n2 is owed.
type Seen = (Map, Vec<SpaceKey>);

/// What a client of a node saw.
struct Trace {
    /// What there was after each line of each operation that was begun; the first is what was before.
    seen: Vec<Seen>,
    /// How many of these writes were acknowledged.
    acknowledged: usize,
    /// What ended the node before its time.
    failure: Option<StorageError>,
}

fn keyspace() -> KeyspaceName {
    "carts".parse().unwrap()
}

/// Ten groups of writes with a compaction in between, until something fails.
async fn work(disk: &SimDisk) -> Trace {
    let before = (Map::new(), Vec::new());
    let mut trace = Trace { seen: vec![before], acknowledged: 0, failure: None };
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
        match group % 4 {
            0 => trace.write_owed(&rig, GONE, group),
            1 => trace.collect(&rig, group),
            2 => trace.pay(&rig),
            _ => trace.write(&rig, Bytes::from_static(b"key1"), None),
        }
        trace.merge(&rig, group);
        if group % 5 == 4 {
            trace.forget(&rig);
        }
        if !rig.settles().await {
            trace.failure = rig.ended().await.err();
            return trace;
        }
        trace.acknowledged = trace.seen.len() - 1;
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

    /// Deletes a key with a number of a coordinator, which n2 misses: two lines in one step.
    fn write_owed(&mut self, rig: &Rig, key: Bytes, group: u64) {
        let version = Version::new(1, 10 + 100 * group);
        let owed = self.seen.last().unwrap().1.clone();
        let written = rig.engine.take(Line::new(key, Op::Del, version), &[n2()]);
        if written.is_ok() {
            self.seen.push((rig.map(), owed));
        }
        self.wrote(rig, written.is_ok());
    }

    /// Collects its tombstone.
    fn collect(&mut self, rig: &Rig, group: u64) {
        let leaf = merkle::leaf_of_key(&GONE);
        let part = merkle::part_of(leaf);
        let digests = rig.engine.digests(&KeyspaceName::default(), Some(part));
        let digest = digests[usize::from(leaf as u8)].to_string();
        let (floor, keys) = (Context::up_to(Version::new(1, 100 * group)), vec![GONE.into()]);
        let collection = Collection { leaf, digest, floor, keys };
        let collected = rig.engine.collect(&KeyspaceName::default(), &[collection]);
        self.wrote(rig, collected.is_ok());
    }

    fn pay(&mut self, rig: &Rig) {
        let paid = rig.engine.paid(&n2(), &rig.engine.owed(&n2(), None).keys);
        self.wrote(rig, paid.is_ok());
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
        let seen = seen(rig);
        if admitted {
            self.seen.push(seen);
        } else {
            assert_eq!(Some(&seen), self.seen.last());
        }
    }

    /// Whether a tombstone was acknowledged that is not found: then there must be a floor.
    fn is_collected(&self, found: &Seen) -> bool {
        let has = |seen: &Seen| seen.0.contains_key(&GONE);
        !has(found) && self.seen[..=self.acknowledged].iter().any(has)
    }

    /// Whether it is what a restart may find; it may be more than was acknowledged.
    fn check(&self, found: &Seen, what: &str) {
        let allowed = &self.seen[self.acknowledged..];
        assert!(allowed.contains(found), "{what}: found {found:?}, expected one of {allowed:?}");
    }
}

fn n2() -> NodeId {
    "n2".parse().unwrap()
}

fn seen(rig: &Rig) -> Seen {
    (rig.map(), rig.engine.owed(&n2(), None).keys)
}

/// Restarts, writes and cuts the power: what the restart showed may not be lost by then.
async fn goes_on(disk: &SimDisk, trace: &Trace, what: &str) {
    let rig = Rig::open(disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = seen(&rig);
    trace.check(&found, what);
    if trace.is_collected(&found) {
        let old = Line::new(GONE, Op::write(None), Version::new(1, 5));
        assert!(rig.engine.take(old, &[]).unwrap().superseded, "{what}: an old write came back");
    }
    rig.put("after", "the restart");
    rig.engine.settle().await;
    let map = rig.map();
    for seed in 0..CUTS {
        let what = format!("{what}, cut {seed} after the restart");
        assert_eq!(crate::support::map_of(&power_cut(disk, seed), &what), map, "{what}");
    }
    rig.close().await;
    assert_eq!(crate::support::map_of(disk, what), map, "{what}");
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
    let trace = work(&disk).await;
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
            assert_eq!(crate::support::map_of(&power_cut(&disk, seed), &what), map, "{what}");
        }
    }
}

#[tokio::test]
async fn the_power_goes_at_any_operation() {
    let disk = SimDisk::new(0);
    assert!(work(&disk).await.failure.is_none());
    for n in 0..disk.count(None) {
        let disk = SimDisk::new(n);
        disk.power_off_after(n);
        let trace = work(&disk).await;
        check(&disk, &trace, &format!("power off after {n}")).await;
    }
}
