//! Values beyond the memory budget are read back from the log, wherever compaction has put it;
//! values that expire are gone at once and for good; a picture stays as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Rig, map_of, options, path, power_cut};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::store::Budget;
use ringkv_node::{Clock, Engine, EngineOptions, PageError, PageRequest, Reason, StorageError};
use ringkv_shared::Version;
use ringkv_shared::protocol::node::Record;

const KEYS: u64 = 60;

fn key(n: u64) -> Bytes {
    Bytes::from(format!("key{n:03}"))
}

fn value(n: u64) -> Bytes {
    Bytes::from(format!("value {n} ").repeat(1 + n as usize % 40))
}

fn small(disk: &SimDisk) -> EngineOptions {
    let memory = Some(Budget { bytes: 500, values: None });
    EngineOptions { memory, segment_bytes: 2_000, ..options(disk) }
}

async fn fill(rig: &Rig, round: u64) {
    for n in 0..KEYS {
        rig.engine.write(key(n), Some(value(n + round)), None).unwrap();
        rig.engine.settle().await;
    }
}

fn check(engine: &Engine, round: u64, what: &str) {
    for n in 0..KEYS {
        let entry = engine.get(&key(n)).unwrap().unwrap();
        assert_eq!(entry.value.unwrap().as_bytes(), value(n + round), "{what}: key {n}");
    }
    let figures = engine.figures();
    assert!(figures.tally.resident_bytes <= 2_000, "{what}: {figures:?}");
    assert!(figures.reads.misses > 0, "{what}: {figures:?}");
}

#[tokio::test]
async fn more_than_fits_in_memory_is_read_back() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::with(small(&disk)).unwrap();
    for round in 0..3 {
        fill(&rig, round).await;
        check(&rig.engine, round, "from segments");
        rig.compactor.compact(Reason::Request).await.unwrap();
        check(&rig.engine, round, "from the snapshot");
    }
    fill(&rig, 7).await;
    let map = rig.map();
    rig.close().await;
    let rig = Rig::with(small(&disk)).unwrap();
    check(&rig.engine, 7, "after a restart");
    assert_eq!(rig.map(), map);
    drop(rig);
    assert_eq!(map_of(&disk, "with all in memory"), map);
}

/// Nothing is read back to tell how large values are.
#[tokio::test]
async fn the_sizes_of_values_that_are_not_in_memory_are_known() {
    let disk = SimDisk::new(1);
    let rig = Rig::with(small(&disk)).unwrap();
    fill(&rig, 0).await;
    rig.close().await;
    let rig = Rig::with(small(&disk)).unwrap();
    let evicted = rig.engine.figures().tally;
    assert!(evicted.resident_values < KEYS / 2, "{evicted:?}");
    // A value that would be read back from here is an error.
    let log = path("data-000001.log");
    let broken = vec![b'x'; disk.contents(&log).unwrap().len()];
    disk.set_contents(&log, broken);
    let request = PageRequest { keys_only: true, ..PageRequest::everything() };
    let page = rig.engine.page(&request).unwrap();
    let expected: Vec<u64> = (0..KEYS).map(|n| (key(n).len() + value(n).len()) as u64).collect();
    assert_eq!(page.sizes, expected);
    let all = rig.engine.page(&PageRequest::everything());
    assert!(all.is_err(), "with values they are read back");
}

#[tokio::test]
async fn a_damaged_value_is_an_error_of_its_key_alone() {
    let disk = SimDisk::new(1);
    let rig = Rig::with(small(&disk)).unwrap();
    fill(&rig, 0).await;
    rig.close().await;
    let mut rig = Rig::with(small(&disk)).unwrap();
    let log = path("data-000001.log");
    let mut bytes = disk.contents(&log).unwrap();
    let at = bytes.windows(6).position(|window| window == b"key003").unwrap();
    bytes[at + 20] ^= 1;
    disk.set_contents(&log, bytes);
    let error = rig.engine.get(&key(3)).unwrap_err().to_string();
    assert!(error.contains("data-000001.log: offset"), "{error}");
    assert_eq!(rig.engine.get(&key(2)).unwrap().unwrap().value.unwrap().as_bytes(), value(2));
    let failed = rig.compactor.compact(Reason::Request).await.unwrap_err();
    assert!(matches!(failed, StorageError::Unreadable { .. }), "{failed}");
    rig.engine.write(key(3), Some(value(3)), None).unwrap();
    rig.engine.settle().await;
    rig.compactor.compact(Reason::Request).await.unwrap();
    check(&rig.engine, 0, "after it was written again");
    rig.close().await;
}

/// A clock that is moved by hand.
#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn what_expired_is_gone_for_every_reader_and_for_good() {
    let (disk, clock) = (SimDisk::new(1), Arc::new(Hands::default()));
    let timed = || EngineOptions { clock: Arc::clone(&clock) as _, ..options(&disk) };
    let mut rig = Rig::with(timed()).unwrap();
    let version = rig.engine.put_until(key(1), value(1), 1_000, None).unwrap().version;
    rig.engine.put_until(key(2), value(2), 2_000, None).unwrap();
    rig.put("stays", "here");
    clock.0.store(999, Ordering::Relaxed);
    let entry = rig.engine.get(&key(1)).unwrap().unwrap();
    assert_eq!((entry.value, entry.expires), (Some(value(1).into()), Some(1_000)));
    assert_eq!(rig.engine.sweep(), 0);
    clock.0.store(1_000, Ordering::Relaxed);
    let tombstone = Record::new(key(1).into(), None, version);
    assert_eq!(rig.engine.get(&key(1)).unwrap(), Some(tombstone.clone()));
    assert_eq!(rig.map()[&key(1)], tombstone);
    rig.compactor.compact(Reason::Request).await.unwrap();
    assert_eq!(rig.engine.sweep(), 1);
    assert_eq!(rig.engine.sweep(), 0);
    assert_eq!(rig.engine.figures().tombstones, 1);
    clock.0.store(0, Ordering::Relaxed);
    assert_eq!(rig.engine.get(&key(1)).unwrap(), Some(tombstone), "a clock that goes back");
    let again = Record::new(key(1).into(), Some(value(1).into()), version);
    let again = Record { expires: Some(1_000), ..again };
    assert_eq!(
        rig.engine.merge([(key(1), again)], None).unwrap().changed,
        0,
        "the same write again"
    );
    let older = Version::new(version.epoch, 0);
    let older = Record::new(key(1).into(), Some(value(9).into()), older);
    assert_eq!(rig.engine.merge([(key(1), older)], None).unwrap().changed, 0, "an older one");
    let map = rig.map();
    rig.close().await;
    let rig = Rig::with(timed()).unwrap();
    assert_eq!(rig.map(), map);
    assert_eq!(rig.engine.get(&key(2)).unwrap().unwrap().expires, Some(2_000));
    assert!(!rig.engine.write(key(1), None, None).unwrap().existed);
    rig.close().await;
}

#[tokio::test]
async fn a_picture_stays_while_writes_and_compactions_go_on() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::with(small(&disk)).unwrap();
    fill(&rig, 0).await;
    let last = rig.map().values().map(|record| record.version).max().unwrap();
    let id = rig.engine.freeze().unwrap();
    let request = PageRequest {
        tombstones: false,
        at: Some((id, last)),
        keys_max: usize::MAX,
        bytes_max: usize::MAX,
        ..PageRequest::everything()
    };
    let before = rig.engine.page(&request).unwrap().entries;
    for round in 1..3 {
        fill(&rig, round).await;
        rig.compactor.compact(Reason::Request).await.unwrap();
        rig.engine.write(key(round), None, None).unwrap();
        assert_eq!(rig.engine.page(&request).unwrap().entries, before, "round {round}");
    }
    rig.engine.thaw(id);
    assert!(matches!(rig.engine.page(&request), Err(PageError::Picture(_))));
    rig.compactor.compact(Reason::Request).await.unwrap();
    let map = rig.map();
    rig.close().await;
    assert!(disk.contents(&path("data-000001.log")).is_none(), "old files go in the end");
    assert_eq!(map_of(&power_cut(&disk, 1), "after the pictures"), map);
}
