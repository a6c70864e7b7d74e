//! Whom a node obeys is as safe as a write: through restarts, compactions, power cuts and failures of the disk at
//! every operation. What was answered is never forgotten, and what is found was said once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::io::ErrorKind;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use ringkv_node::disk::SimDisk;
use ringkv_node::log::record::{Op, Record as Line};
use ringkv_node::replica::{Disobeyed, Obeys};
use ringkv_node::{Condition, EngineOptions, NotDone, Refused};
use ringkv_shared::causal::Context;
use ringkv_shared::limits::MAP_BYTES_MAX;
use ringkv_shared::merkle;
use ringkv_shared::protocol::node::{Collection, Reign, SpaceKey};
use ringkv_shared::{KeyspaceName, NodeId, Version};
use support::{Rig, options, power_cut};
use uuid::Uuid;

/// Power cuts tried after each run.
const CUTS: u64 = 3;

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

/// Whom the node obeys, and how much n2 is owed.
type Seen = (Obeys, usize);

type Ask = fn(&Rig) -> Result<(), NotDone>;

fn n2() -> NodeId {
    "n2".parse().unwrap()
}

fn seen(rig: &Rig) -> Seen {
    (rig.engine.obeys(), rig.engine.owed(&n2(), None).keys.len())
}

/// A map that is over a sector of a disk, so that what follows does not write it a second time.
fn map(ring: u64) -> String {
    format!("RING {ring}\n{}\n", "x".repeat(1000))
}

/// What a coordinator asks, or another one after it; in this order all is done.
fn steps() -> Vec<Ask> {
    vec![
        |rig| rig.engine.claim(A, 1, &[]).map(drop),
        |rig| rig.engine.adopt(1, &map(1)).map(drop),
        |rig| {
            let key = SpaceKey { keyspace: "users".parse().unwrap(), key: "k".into() };
            rig.engine.owe(&n2(), &[key]).map_err(NotDone::Refused)
        },
        |rig| rig.engine.claim(A, 2, &[]).map(drop),
        |rig| rig.engine.adopt(5, &map(5)).map(drop),
        |rig| rig.engine.adopt(6, &map(6)).map(drop),
        |rig| rig.engine.claim(B, 3, &[A]).map(drop),
        |rig| rig.engine.adopt(4, &map(4)).map(drop),
        |rig| rig.engine.release(),
        |rig| rig.engine.claim(A, 1, &[]).map(drop),
        |rig| rig.engine.adopt(1, &map(1)).map(drop),
        |rig| rig.engine.adopt(2, &map(2)).map(drop),
    ]
}

/// What there was after each step that was begun, and how many of them were answered.
struct Trace {
    seen: Vec<Seen>,
    answered: usize,
    whole: bool,
}

/// All steps, with a compaction after every third, until something fails.
async fn work(disk: &SimDisk) -> Trace {
    let mut trace = Trace { seen: vec![(Obeys::default(), 0)], answered: 0, whole: false };
    let small = EngineOptions { segment_bytes: 3_000, ..options(disk) };
    let Ok(mut rig) = Rig::with(small) else { return trace };
    for (number, step) in steps().into_iter().enumerate() {
        let before = seen(&rig);
        if let Err(refused) = step(&rig) {
            assert!(matches!(refused, NotDone::Refused(_)), "{refused:?}");
            assert_eq!(seen(&rig), before, "what was refused changed something");
            return trace;
        }
        trace.seen.push(seen(&rig));
        if !rig.settles().await {
            return trace;
        }
        trace.answered = trace.seen.len() - 1;
        if number % 3 == 2 && !matches!(rig.compacts().await, Ok(true)) {
            rig.kill().await;
            return trace;
        }
    }
    rig.kill().await;
    trace.whole = true;
    trace
}

/// A restart finds what was answered or something that was asked later; and keeps it.
async fn check(disk: &SimDisk, trace: &Trace, what: &str) {
    for seed in 0..CUTS {
        let disk = power_cut(disk, seed);
        let rig = Rig::open(&disk).unwrap_or_else(|error| panic!("{what}, cut {seed}: {error}"));
        let found = seen(&rig);
        let allowed = &trace.seen[trace.answered..];
        assert!(allowed.contains(&found), "{what}, cut {seed}: {found:?}, not one of {allowed:?}");
        rig.engine.settle().await;
        rig.kill().await;
        let again = Rig::open(&power_cut(&disk, seed)).unwrap();
        assert_eq!(seen(&again), found, "{what}, cut {seed} after the restart");
    }
}

#[tokio::test]
async fn the_power_goes_at_any_operation() {
    let disk = SimDisk::new(0);
    assert!(work(&disk).await.whole);
    let operations = disk.count(None);
    assert!(operations > 60, "only {operations}");
    for n in 0..operations {
        let disk = SimDisk::new(n);
        disk.power_off_after(n);
        let trace = work(&disk).await;
        check(&disk, &trace, &format!("power off after {n}")).await;
    }
}

#[tokio::test]
async fn any_operation_fails_once() {
    for error in [ErrorKind::Other, ErrorKind::StorageFull] {
        let mut n = 1;
        loop {
            let disk = SimDisk::new(n);
            disk.fail_nth(n, None, error);
            let trace = work(&disk).await;
            if disk.count(None) < n {
                break;
            }
            disk.clear_faults();
            check(&disk, &trace, &format!("{error} at {n}")).await;
            n += 1;
        }
    }
}

/// The longest map, all of it escaped, fits a line, and comes back from log and snapshot.
#[tokio::test]
async fn the_longest_map_is_kept() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let longest = format!("{}\n", "% ".repeat(MAP_BYTES_MAX / 2 - 1) + " ");
    assert_eq!(longest.len(), MAP_BYTES_MAX);
    rig.engine.claim(A, 1, &[]).unwrap();
    rig.engine.adopt(1, &longest).unwrap();
    rig.engine.settle().await;
    for what in ["from the log", "from a snapshot"] {
        let found = Rig::open(&power_cut(&disk, 1)).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(found.engine.obeys().map().unwrap().as_ref(), longest, "{what}");
        assert!(rig.compacts().await.unwrap());
    }
    rig.close().await;
}

/// What was answered to the coordinator before stands before the claim in the log.
#[tokio::test]
async fn what_the_coordinator_before_was_answered_stays() {
    let disk = SimDisk::new(3);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 1, &[]).unwrap();
    let written = rig.put("key", "of the first");
    rig.engine.claim(B, 2, &[A]).unwrap();
    rig.engine.settle().await;
    rig.kill().await;
    let found = Rig::open(&power_cut(&disk, 1)).unwrap();
    assert_eq!(found.map()[&b"key"[..]].version, written.version);
    assert_eq!(found.engine.obeys().coordinator(), Some(B));
    let stale = Disobeyed::Stale(Reign { coordinator: 2, ring: 0 });
    assert_eq!(found.engine.admit_under(Reign { coordinator: 1, ring: 99 }), Err(stale));
}

/// From now on all writes of k before 1.9 count as replaced.
fn raise_floor(rig: &Rig) {
    let (leaf, keys) = (merkle::leaf_of_key(b"k"), Vec::new());
    let collection =
        Collection { leaf, digest: "0".into(), floor: Context::up_to(Version::new(1, 9)), keys };
    rig.engine.collect(&KeyspaceName::default(), &[collection]).unwrap();
    let old = Line::new(Bytes::from("k"), Op::write(None), Version::new(1, 5));
    assert!(rig.engine.take(old, &[]).unwrap().superseded, "there is a floor");
}

#[tokio::test]
async fn a_node_that_holds_anything_is_not_released() {
    let disk = SimDisk::new(4);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 7, &[]).unwrap();
    let version = rig.put("key", "value").version;
    let key = ringkv_node::log::key::stored(&"users".parse().unwrap(), Bytes::from("gone"));
    let deleted = rig.engine.write(key.clone(), None, None).unwrap().version;
    let holds = |keys, tombstones| Err(NotDone::Holds { keys, tombstones });
    assert_eq!(rig.engine.release(), holds(1, 1));
    rig.forget("key", version);
    assert_eq!(rig.engine.release(), holds(0, 1));
    rig.engine.forget([(key, Condition::Only(deleted))]).unwrap();
    let owed = SpaceKey { keyspace: KeyspaceName::default(), key: "missed".into() };
    rig.engine.owe(&n2(), &[owed]).unwrap();
    raise_floor(&rig);
    assert_eq!(rig.engine.obeys().coordinator(), Some(A), "nothing was changed");
    rig.engine.release().unwrap();
    assert_eq!(seen(&rig), (Obeys::default(), 0));
    let write = |n| Line::new(Bytes::from("k"), Op::write(None), Version::new(1, n));
    assert!(!rig.engine.take(write(5), &[]).unwrap().superseded, "the floor is gone, too");
    rig.forget("k", Version::new(1, 5));
    rig.engine.release().unwrap();
    let another = rig.engine.claim(B, 1, &[]).unwrap();
    assert_eq!(another.coordinator(), Some(B));
    rig.close().await;
}

/// On a full disk a claim has the room that deletes have; where nothing can be written nobody new is obeyed.
#[tokio::test]
async fn a_claim_that_cannot_be_written_down_is_refused() {
    let disk = SimDisk::new(5);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 1, &[]).unwrap();
    rig.engine.settle().await;
    disk.set_capacity(disk.used());
    let mut value = vec![0; 100_000];
    StdRng::seed_from_u64(1).fill_bytes(&mut value);
    let value = Bytes::from(value);
    let refused = (0..200).find_map(|n: u64| {
        let written = rig.engine.write(Bytes::from(n.to_string()), Some(value.clone()), None);
        written.err()
    });
    assert_eq!(refused, Some(Refused::DiskFull));
    rig.engine.claim(A, 2, &[]).unwrap();
    disk.set_read_only(true);
    let all = "x".repeat(MAP_BYTES_MAX - 1) + "\n";
    assert!(matches!(rig.engine.adopt(1, &all), Err(NotDone::Refused(_))));
    assert_eq!(rig.engine.obeys().reign(), Reign { coordinator: 2, ring: 0 });
    rig.engine.claim(A, 2, &[]).unwrap();
}
