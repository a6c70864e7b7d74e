//! Whom a node obeys is never forgotten once it was answered: through restarts, compactions, power cuts and failures
//! of the disk at every operation. What is found was said once, and a file that does not say it any more is refused.

use std::io::ErrorKind;

use crate::support::{Rig, options, path, power_cut};
use bytes::Bytes;
use ringkv_node::disk::{Operation, SimDisk};
use ringkv_node::log::record::{Op, Record as Line};
use ringkv_node::replica::{Disobeyed, Obeys};
use ringkv_node::{
    Condition, Durability, EngineOptions, NodeError, NotDone, Refused, StorageError,
};
use ringkv_shared::causal::Context;
use ringkv_shared::limits::MAP_BYTES_MAX;
use ringkv_shared::merkle;
use ringkv_shared::protocol::node::{Collection, Reign, SpaceKey};
use ringkv_shared::{KeyspaceName, NodeId, Version};
use uuid::Uuid;

/// Power cuts tried after each run.
const CUTS: u64 = 3;

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);

/// Whom the node obeys, and how much n2 is owed.
type Seen = (Obeys, usize);

/// What a coordinator asks, or another one after it.
#[derive(Clone, Copy)]
enum Ask {
    Claim(Uuid, u32, &'static [Uuid]),
    Adopt(u64),
    Owe,
    Release,
}

/// In this order all is done.
const STEPS: [Ask; 12] = [
    Ask::Claim(A, 1, &[]),
    Ask::Adopt(1),
    Ask::Owe,
    Ask::Claim(A, 2, &[]),
    Ask::Adopt(5),
    Ask::Adopt(6),
    Ask::Claim(B, 3, &[A]),
    Ask::Adopt(4),
    Ask::Release,
    Ask::Claim(A, 1, &[]),
    Ask::Adopt(1),
    Ask::Adopt(2),
];

fn n2() -> NodeId {
    "n2".parse().unwrap()
}

fn seen(rig: &Rig) -> Seen {
    (rig.engine.obeys(), rig.engine.owed(&n2(), None).keys.len())
}

/// A map that is over a sector of a disk, so that any part of it may be there.
fn map(ring: u64) -> String {
    format!("RING {ring}\n{}\n", "x".repeat(1000))
}

impl Ask {
    /// What is there when it is done; what is in between, before that.
    fn leads_to(self, (obeys, owed): Seen) -> Vec<Seen> {
        match self {
            Self::Claim(by, epoch, after) => vec![(obeys.claim(by, epoch, after).unwrap(), owed)],
            Self::Adopt(ring) => vec![(obeys.adopt(ring, &map(ring)).unwrap(), owed)],
            Self::Owe => vec![(obeys, owed + 1)],
            Self::Release => vec![(obeys, 0), (Obeys::default(), 0)],
        }
    }

    async fn ask(self, rig: &Rig) -> Result<(), NotDone> {
        match self {
            Self::Claim(by, epoch, after) => rig.engine.claim(by, epoch, after).map(drop),
            Self::Adopt(ring) => rig.engine.adopt(ring, &map(ring)).map(drop),
            Self::Owe => {
                let key = SpaceKey { keyspace: "users".parse().unwrap(), key: "k".into() };
                rig.engine.owe(&n2(), &[key]).map_err(NotDone::Refused)
            }
            Self::Release => {
                rig.unless_ended(rig.engine.release()).await.unwrap_or(Err(NotDone::Unknown))
            }
        }
    }
}

/// What there was after each step that was begun, and how many of these were answered.
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
    for (number, step) in STEPS.into_iter().enumerate() {
        let before = seen(&rig);
        let then = step.leads_to(before.clone());
        match step.ask(&rig).await {
            Ok(()) => assert_eq!(Some(&seen(&rig)), then.last()),
            Err(NotDone::Unknown) => {
                trace.seen.extend(then);
                assert!(rig.ended().await.is_err(), "a node that does not know what it told");
                return trace;
            }
            Err(refused) => {
                assert!(matches!(refused, NotDone::Refused(_) | NotDone::Failed(_)), "{refused:?}");
                let now = seen(&rig);
                let half = matches!(step, Ask::Release) && now == then[0];
                assert!(now == before || half, "what was refused changed something");
                trace.seen.extend(half.then_some(now));
                return trace;
            }
        }
        trace.seen.extend(then);
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

/// A restart finds what was answered or something that was asked later; and keeps it. Nothing is left half done.
async fn check(disk: &SimDisk, trace: &Trace, what: &str) {
    for seed in 0..CUTS {
        let disk = power_cut(disk, seed);
        let rig = Rig::open(&disk).unwrap_or_else(|error| panic!("{what}, cut {seed}: {error}"));
        let found = seen(&rig);
        let allowed = &trace.seen[trace.answered..];
        assert!(allowed.contains(&found), "{what}, cut {seed}: {found:?}, not one of {allowed:?}");
        assert_eq!(disk.contents(&path("cluster.tmp")), Some(Vec::new()), "{what}, cut {seed}");
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

/// With the weakest policy too, what was answered is there after a power cut; and it is in no log.
#[tokio::test]
async fn a_claim_is_durable_whatever_holds_for_writes() {
    for durability in [Durability::Always, Durability::Interval, Durability::Os] {
        let disk = SimDisk::new(1);
        let mut rig = Rig::with(EngineOptions { durability, ..options(&disk) }).unwrap();
        let longest = "x".repeat(MAP_BYTES_MAX - 1) + "\n";
        rig.engine.claim(A, 1, &[]).unwrap();
        rig.engine.adopt(1, &longest).unwrap();
        for seed in 0..CUTS {
            let found = Rig::open(&power_cut(&disk, seed)).unwrap();
            assert_eq!(found.engine.obeys().map().unwrap().as_ref(), longest, "{durability:?}");
        }
        assert!(rig.compacts().await.unwrap());
        assert_eq!(rig.engine.figures().sequence, 0);
        rig.engine.release().await.unwrap();
        for seed in 0..CUTS {
            let found = Rig::open(&power_cut(&disk, seed)).unwrap();
            assert_eq!(found.engine.obeys(), Obeys::default(), "{durability:?}");
        }
        rig.close().await;
    }
}

/// What was answered to the coordinator before is there beside the claim.
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
    assert_eq!(rig.engine.release().await, holds(1, 1));
    rig.forget("key", version);
    assert_eq!(rig.engine.release().await, holds(0, 1));
    rig.engine.forget([(key, Condition::Only(deleted))]).unwrap();
    let owed = SpaceKey { keyspace: KeyspaceName::default(), key: "missed".into() };
    rig.engine.owe(&n2(), &[owed]).unwrap();
    raise_floor(&rig);
    assert_eq!(rig.engine.obeys().coordinator(), Some(A), "nothing was changed");
    rig.engine.release().await.unwrap();
    assert_eq!(seen(&rig), (Obeys::default(), 0));
    let write = |n| Line::new(Bytes::from("k"), Op::write(None), Version::new(1, n));
    assert!(!rig.engine.take(write(5), &[]).unwrap().superseded, "the floor is gone, too");
    rig.forget("k", Version::new(1, 5));
    rig.engine.release().await.unwrap();
    let another = rig.engine.claim(B, 1, &[]).unwrap();
    assert_eq!(another.coordinator(), Some(B));
    rig.close().await;
}

/// On a full disk coordinators that start anew are obeyed, each in the room of the one before.
#[tokio::test]
async fn on_a_full_disk_there_is_room_for_a_claim() {
    let disk = SimDisk::new(5);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 1, &[]).unwrap();
    disk.set_capacity(disk.used());
    for epoch in 2..10 {
        rig.engine.claim(A, epoch, &[]).unwrap();
        rig.engine.adopt(u64::from(epoch), &map(1)).unwrap();
    }
    let long = "x".repeat(100_000) + "\n";
    assert_eq!(rig.engine.adopt(10, &long), Err(NotDone::Refused(Refused::DiskFull)));
    rig.engine.adopt(10, &map(2)).unwrap();
    assert_eq!(rig.engine.obeys().map().unwrap().as_ref(), map(2));
    rig.close().await;
}

/// Where it cannot be written down nobody new is obeyed, and what holds already is answered.
#[tokio::test]
async fn a_claim_that_cannot_be_written_down_is_refused() {
    let disk = SimDisk::new(5);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 1, &[]).unwrap();
    let before = disk.contents(&path("cluster"));
    let unchanged = |what: &str| {
        assert_eq!(rig.engine.obeys().reign(), Reign { coordinator: 1, ring: 0 }, "{what}");
        assert_eq!(rig.engine.claim(A, 1, &[]), Ok(rig.engine.obeys()), "{what}");
        assert_eq!(disk.contents(&path("cluster")), before, "{what}");
        assert_eq!(rig.engine.figures().sequence, 0, "{what}");
    };
    let asks = [Ask::Claim(A, 2, &[]), Ask::Adopt(1)];
    disk.set_read_only(true);
    for ask in asks {
        assert_eq!(ask.ask(&rig).await, Err(NotDone::Refused(Refused::ReadOnly)));
        unchanged("read-only");
    }
    disk.set_read_only(false);
    for kind in [Operation::Write, Operation::Truncate, Operation::Sync] {
        for ask in asks {
            disk.fail_nth(1, Some(kind), ErrorKind::Other);
            let failed = ask.ask(&rig).await;
            let Err(NotDone::Failed(why)) = failed else { panic!("{kind:?}: {failed:?}") };
            assert!(why.contains("cluster.tmp"), "{why}");
            unchanged(&why);
        }
    }
    rig.engine.claim(A, 2, &[]).unwrap();
    rig.engine.adopt(1, &map(1)).unwrap();
    rig.close().await;
}

/// When it is not known what a power cut would leave, nothing is answered any more, and the node stops.
#[tokio::test]
async fn a_node_that_does_not_know_what_it_told_stops() {
    for (kind, ask) in [
        (Operation::Rename, Ask::Claim(A, 2, &[])),
        (Operation::SyncDir, Ask::Claim(A, 2, &[])),
        (Operation::SyncDir, Ask::Adopt(1)),
        (Operation::Remove, Ask::Release),
        (Operation::SyncDir, Ask::Release),
    ] {
        let disk = SimDisk::new(6);
        let rig = Rig::open(&disk).unwrap();
        rig.engine.claim(A, 1, &[]).unwrap();
        disk.fail_nth(1, Some(kind), ErrorKind::Other);
        assert_eq!(ask.ask(&rig).await, Err(NotDone::Unknown), "{kind:?}");
        assert_eq!(
            rig.engine.claim(A, 3, &[]),
            Err(NotDone::Unknown),
            "{kind:?}: it tries no more"
        );
        assert!(!rig.settles().await, "{kind:?}: answered");
        let failure = rig.ended().await.unwrap_err();
        assert_eq!(NodeError::from(failure).exit_code(), 74, "{kind:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_refused() {
    let disk = SimDisk::new(7);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 3, &[]).unwrap();
    rig.engine.adopt(12, "RING 8\nADD n1 - 1\n").unwrap();
    let said = rig.engine.obeys();
    rig.close().await;
    let whole = disk.contents(&path("cluster")).unwrap();
    let refuses = |bytes: &[u8], what: &str| {
        let broken = disk.copy();
        broken.set_contents(&path("cluster"), bytes.to_vec());
        let log = broken.contents(&path("data.log"));
        let Err(error) = Rig::open(&broken) else { panic!("{what}: opened") };
        let told = error.to_string();
        assert!(told.contains("/data/cluster: ") && told.contains("Nothing was changed"), "{told}");
        let error = NodeError::from(error);
        assert_eq!(error.exit_code(), 74, "{what}");
        assert!(error.hint().unwrap().contains("move the file away"), "{what}");
        assert_eq!(broken.contents(&path("cluster")).as_deref(), Some(bytes), "{what}");
        assert_eq!(broken.contents(&path("data.log")), log, "{what}");
    };
    for len in 0..whole.len() {
        refuses(&whole[..len], &format!("{len} bytes"));
    }
    for at in 0..whole.len() {
        for flip in [1 << (at % 8), 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            refuses(&bytes, &format!("byte {at}"));
        }
    }
    refuses(&[&whole[..], b"\n"].concat(), "a line more");
    refuses(&vec![b'x'; 2 * MAP_BYTES_MAX], "a long file");
    assert_eq!(Rig::open(&disk.copy()).unwrap().engine.obeys(), said, "as it is, it is good");
    let other = SimDisk::new(8);
    Rig::open(&other).unwrap().close().await;
    other.set_contents(&path("cluster"), whole);
    assert!(matches!(Rig::open(&other), Err(StorageError::BadCluster { .. })), "another node's");
}

#[tokio::test]
async fn a_file_that_was_not_finished_is_thrown_away() {
    let disk = SimDisk::new(9);
    let rig = Rig::open(&disk).unwrap();
    rig.engine.claim(A, 3, &[]).unwrap();
    rig.close().await;
    disk.set_contents(&path("cluster.tmp"), b"#ringkv-cl".to_vec());
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(disk.contents(&path("cluster.tmp")), Some(Vec::new()));
    assert_eq!(rig.engine.obeys().coordinator(), Some(A));
    rig.close().await;
}

/// A node that is free knows nothing of its old cluster: what it owed and its floors went before, durably.
#[tokio::test]
async fn no_power_cut_leaves_a_free_node_with_debts() {
    for durability in [Durability::Always, Durability::Os] {
        let disk = SimDisk::new(10);
        let rig = Rig::with(EngineOptions { durability, ..options(&disk) }).unwrap();
        rig.engine.claim(A, 1, &[]).unwrap();
        Ask::Owe.ask(&rig).await.unwrap();
        raise_floor(&rig);
        rig.engine.release().await.unwrap();
        for seed in 0..20 {
            let found = Rig::open(&power_cut(&disk, seed)).unwrap();
            assert_eq!(seen(&found), (Obeys::default(), 0), "{durability:?}, cut {seed}");
            let write = Line::new(Bytes::from("k"), Op::write(None), Version::new(1, 5));
            assert!(!found.engine.take(write, &[]).unwrap().superseded, "a floor is left");
        }
    }
}
