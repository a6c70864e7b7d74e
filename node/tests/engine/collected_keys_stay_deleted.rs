//! Tombstones that were collected leave a floor: no old write and no old copy brings a key back, now,
//! after a restart or after a compaction; and nothing else is refused or forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Rig, options, power_cut};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::log::key;
use ringkv_node::log::record::{Op, Record as Line};
use ringkv_node::log::value::Value;
use ringkv_node::{Clock, Condition, Engine, EngineOptions, Merged, WriteOutcome};
use ringkv_shared::causal::Context;
use ringkv_shared::merkle::{self, Digest};
use ringkv_shared::protocol::node::{Collection, Record, SpaceKey, Via};
use ringkv_shared::{Blob, KeyspaceName, Version};

/// Two keys in one leaf are not found by trying; so each test has its one key, and others elsewhere.
const KEY: &str = "apple";

fn users() -> KeyspaceName {
    "users".parse().unwrap()
}

fn stored(key: &str) -> Bytes {
    key::stored(&users(), Bytes::copy_from_slice(key.as_bytes()))
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn context(text: &str) -> Context {
    text.parse().unwrap()
}

/// What is written, as which version, by a writer who had seen what.
type Write = (Option<&'static str>, &'static str, Option<&'static str>);

/// A write as a coordinator sends it; without `seen`, of one who has seen all of its line.
fn write(engine: &Engine, value: Option<&str>, at: &str, seen: Option<&str>) -> WriteOutcome {
    write_of(engine, KEY, value, at, seen)
}

fn write_of(
    engine: &Engine,
    key: &str,
    value: Option<&str>,
    at: &str,
    seen: Option<&str>,
) -> WriteOutcome {
    let value = value.map(|value| Value::new(Bytes::copy_from_slice(value.as_bytes())));
    let record = Line::new(stored(key), Op::write(value), version(at));
    let record = seen.map(context).iter().fold(record, Line::with_seen);
    engine.take(record, &[]).unwrap()
}

fn apply(engine: &Engine, value: Option<&str>, at: &str) -> Merged {
    let record = Record::new(KEY.into(), value.map(Blob::from), version(at));
    engine.merge([(stored(KEY), record)], Some(Via::Sync)).unwrap()
}

fn collection(engine: &Engine, key: &str, floor: &str) -> Collection {
    let leaf = merkle::leaf_of_key(key.as_bytes());
    let digest = engine.digests(&users(), Some(merkle::part_of(leaf)))[usize::from(leaf as u8)];
    Collection { leaf, digest: digest.to_string(), floor: context(floor), keys: vec![key.into()] }
}

fn collect(engine: &Engine, floor: &str) -> u64 {
    engine.collect(&users(), &[collection(engine, KEY, floor)]).unwrap()
}

fn is_held(engine: &Engine) -> bool {
    engine.peek(&stored(KEY)).unwrap().is_some()
}

/// Whatever is old is refused, and the key stays away.
fn refuses_what_is_old(engine: &Engine) {
    for at in ["1.1", "1.7", "1.20"] {
        let refused = write(engine, Some("old"), at, None);
        assert_eq!((refused.superseded, refused.version), (true, version("1.20")), "{at}");
        let refused = write(engine, Some("old"), at, Some("-"));
        assert!(refused.superseded && !is_held(engine), "{at}");
        let merged = apply(engine, Some("old"), at);
        assert_eq!(merged, Merged { changed: 0, deleted: vec![stored(KEY)] }, "{at}");
        assert!(!is_held(engine), "{at}");
    }
    assert!(engine.digests(&users(), None).iter().all(|digest| *digest == Digest(0)));
}

#[tokio::test]
async fn nothing_old_brings_a_key_back() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    write(&rig.engine, Some("red"), "1.5", None);
    write(&rig.engine, None, "1.7", None);
    assert_eq!(collect(&rig.engine, "1.20"), 1);
    assert_eq!(rig.engine.figures().collected, 1);
    refuses_what_is_old(&rig.engine);
    rig.engine.settle().await;
    for seed in 0..4 {
        refuses_what_is_old(&Rig::open(&power_cut(&disk, seed)).unwrap().engine);
    }
    assert!(rig.compacts().await.unwrap());
    refuses_what_is_old(&rig.engine);
    rig.kill().await;
    let rig = Rig::open(&disk).unwrap();
    refuses_what_is_old(&rig.engine);
    // What is new is a write as any other; only then the old ones are siblings of nothing.
    assert!(!write(&rig.engine, Some("new"), "1.21", Some("-")).superseded);
    apply(&rig.engine, Some("old"), "1.19");
    let held = rig.engine.peek(&stored(KEY)).unwrap().unwrap();
    assert_eq!(held.versions().collect::<Vec<_>>(), [version("1.21")]);
    rig.close().await;
}

#[tokio::test]
async fn a_new_value_takes_over_what_the_floor_has_of_other_lines() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    write(&rig.engine, None, "1.7", None);
    assert_eq!(collect(&rig.engine, "1.20,x80000001.9"), 1);
    write(&rig.engine, Some("new"), "1.21", None);
    assert!(write(&rig.engine, Some("old"), "x80000001.9", None).superseded);
    rig.close().await;
    // It has them in its own line of the log.
    let rig = Rig::open(&disk).unwrap();
    assert!(write(&rig.engine, Some("old"), "x80000001.8", None).superseded);
    assert!(!write(&rig.engine, Some("new"), "x80000001.10", None).superseded);
    rig.close().await;
}

#[tokio::test]
async fn a_plain_write_above_a_floor_of_one_line_stays_plain() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    write(&rig.engine, None, "1.7", None);
    collect(&rig.engine, "1.20");
    write(&rig.engine, Some("new"), "1.21", None);
    assert!(rig.engine.peek(&stored(KEY)).unwrap().unwrap().is_plain());
    rig.close().await;
}

#[tokio::test]
async fn a_leaf_that_has_changed_is_left_alone() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    write(&rig.engine, None, "1.7", None);
    let before = collection(&rig.engine, KEY, "1.20");
    write(&rig.engine, None, "1.8", None);
    assert_eq!(rig.engine.collect(&users(), &[before]).unwrap(), 0);
    assert!(is_held(&rig.engine));
    assert_eq!(rig.engine.figures().collected, 0);
    // No floor was raised either.
    write(&rig.engine, None, "1.9", None);
    rig.engine.forget([(stored(KEY), Condition::Only(version("1.9")))]).unwrap();
    assert!(!write(&rig.engine, Some("any"), "1.1", None).superseded);
    rig.close().await;
}

#[tokio::test]
async fn only_lone_tombstones_that_are_covered_go() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    let table: [(&[Write], &str); 4] = [
        (&[(Some("value"), "1.7", None)], "1.20"),
        (&[(None, "1.21", None)], "1.20"),
        (&[(None, "1.7", Some("x80000001.5"))], "1.20"),
        (&[(None, "1.7", None), (None, "x80000001.5", None)], "1.20,x80000001.9"),
    ];
    for (n, (writes, floor)) in table.into_iter().enumerate() {
        let key = format!("key{n}");
        for (value, at, seen) in writes {
            write_of(&rig.engine, &key, *value, at, *seen);
        }
        let collection = collection(&rig.engine, &key, floor);
        assert_eq!(rig.engine.collect(&users(), &[collection]).unwrap(), 0, "{writes:?}");
        assert!(rig.engine.peek(&stored(&key)).unwrap().is_some(), "{writes:?}");
    }
    rig.close().await;
}

#[derive(Clone, Debug, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_value_that_has_expired_goes_as_the_tombstone_it_answers_as() {
    let (disk, hand) = (SimDisk::new(1), Hand::default());
    let with_hand = EngineOptions { clock: Arc::new(hand.clone()), ..options(&disk) };
    let rig = Rig::with(with_hand).unwrap();
    let value = Bytes::from_static(b"value");
    rig.engine.put_until(stored(KEY), value, 100, Some(version("1.7"))).unwrap();
    assert_eq!(collect(&rig.engine, "1.20"), 0);
    hand.0.store(100, Ordering::Relaxed);
    assert_eq!(collect(&rig.engine, "1.20"), 1);
    assert!(!is_held(&rig.engine));
    rig.close().await;
}

/// A node that hands its keys over and gets them back later must not take them for deleted ones.
#[tokio::test]
async fn a_key_that_was_dropped_may_come_back() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    write(&rig.engine, Some("value"), "1.7", None);
    collect(&rig.engine, "1.20");
    rig.engine.forget([(stored(KEY), Condition::Only(version("1.7")))]).unwrap();
    rig.close().await;
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(apply(&rig.engine, Some("value"), "1.7"), Merged { changed: 1, deleted: vec![] });
    rig.close().await;
}

#[tokio::test]
async fn a_keyspace_that_is_dropped_takes_floors_and_debts_along() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    write(&rig.engine, None, "1.7", None);
    collect(&rig.engine, "1.20");
    let owed = SpaceKey { keyspace: users(), key: KEY.into() };
    rig.engine.owe(&"n2".parse().unwrap(), &[owed]).unwrap();
    assert_eq!(rig.engine.forget_keyspace(&users()).unwrap(), 0);
    rig.close().await;
    let rig = Rig::open(&disk).unwrap();
    assert_eq!(rig.engine.debts(), []);
    assert!(!write(&rig.engine, Some("again"), "1.1", None).superseded);
    rig.close().await;
}

#[tokio::test]
async fn a_write_notes_who_missed_it_even_if_it_came_before() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    let take = |at: &str, owe: &[&str]| {
        let owe: Vec<_> = owe.iter().map(|id| id.parse().unwrap()).collect();
        let value = Some(Value::new(Bytes::from_static(b"v")));
        rig.engine.take(Line::new(stored(KEY), Op::write(value), version(at)), &owe).unwrap()
    };
    let keys = |rig: &Rig| {
        let debts = rig.engine.debts().into_iter();
        debts.map(|debt| format!("{} {}", debt.to, debt.keys)).collect::<Vec<_>>()
    };
    take("1.5", &[]);
    take("1.5", &["n2", "n1"]);
    assert!(take("1.4", &["n3"]).superseded);
    take("1.6", &["n2", "n4"]);
    assert_eq!(keys(&rig), ["n2 1", "n3 1", "n4 1"]);
    rig.engine.settle().await;
    for seed in 0..4 {
        assert_eq!(keys(&Rig::open(&power_cut(&disk, seed)).unwrap()), ["n2 1", "n3 1", "n4 1"]);
    }
    rig.close().await;
}

/// A tombstone that only one replica still has, after a crash in the middle of a collection.
#[tokio::test]
async fn a_tombstone_that_the_floor_stands_for_goes_without_it() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    write(&rig.engine, None, "1.7", None);
    let leaf = Collection { keys: vec![], ..collection(&rig.engine, KEY, "1.20") };
    rig.engine.collect(&users(), &[leaf]).unwrap();
    rig.engine.forget([(stored(KEY), Condition::Only(version("1.7")))]).unwrap();
    refuses_what_is_old(&rig.engine);
    rig.close().await;
}

#[tokio::test]
async fn a_floor_of_too_many_versions_is_not_raised() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    write(&rig.engine, None, "1.7", None);
    let dots: Vec<String> = (1..=600).map(|n| format!("+x80000001.{}", 2 * n)).collect();
    assert_eq!(collect(&rig.engine, &format!("1.20,{}", dots.join(","))), 0);
    assert!(is_held(&rig.engine));
    rig.close().await;
}

/// The greatest of several values is covered by the floor, and with it what the others have replaced would go.
#[tokio::test]
async fn what_is_above_the_floor_keeps_what_it_replaced() {
    let disk = SimDisk::new(1);
    let rig = Rig::open(&disk).unwrap();
    write(&rig.engine, None, "x80000001.7", Some("1.7"));
    assert_eq!(collect(&rig.engine, "1.20,x80000001.7"), 1);
    let mut copy = Record::new(KEY.into(), Some("old".into()), version("x80000001.5"));
    copy.context = Some(context("1.29"));
    let sibling = Record::new(KEY.into(), Some("new".into()), version("1.30"));
    copy.siblings = sibling.values().collect();
    rig.engine.merge([(stored(KEY), copy)], Some(Via::Sync)).unwrap();
    let held = rig.engine.peek(&stored(KEY)).unwrap().unwrap();
    assert_eq!(held.versions().collect::<Vec<_>>(), [version("1.30")]);
    assert_eq!(held.past(), context("1.29,x80000001.7"));
    rig.close().await;
}
