//! What is held for a key stays small enough to be told, sent and written again: writes that would leave
//! too much beside each other are refused, and nothing that a replica sends makes the log unreadable.

use crate::support::{Rig, map_of};
use bytes::Bytes;
use ringkv_node::disk::SimDisk;
use ringkv_node::log::record::{CONTEXT_PARTS_MAX, Op, Record as Line};
use ringkv_node::log::value::Value;
use ringkv_node::{Engine, Refused, WriteOutcome};
use ringkv_shared::causal::Context;
use ringkv_shared::limits::{LINE_BYTES_MAX, VALUE_BYTES_MAX};
use ringkv_shared::protocol::node::{Record, Sibling};
use ringkv_shared::{Blob, Version};

const KEY: Bytes = Bytes::from_static(b"cart");

fn context(text: &str) -> Context {
    text.parse().unwrap()
}

/// A write by someone who had seen this.
fn write(engine: &Engine, value: &str, n: u64, seen: &Context) -> Result<WriteOutcome, Refused> {
    let value = Value::new(Bytes::copy_from_slice(value.as_bytes()));
    let record = Line::new(KEY, Op::write(Some(value)), Version::new(1, n));
    engine.take(record.with_seen(seen), &[])
}

/// Another replica has this write.
fn merge(engine: &Engine, n: u64, seen: &Context) {
    let record = Record { context: Some(seen.clone()), ..record(n) };
    engine.merge([(KEY, record)], None).unwrap();
}

fn record(n: u64) -> Record {
    Record::new(Blob::from("cart"), Some("x".into()), Version::new(1, n))
}

fn values(engine: &Engine) -> usize {
    engine.peek(&KEY).unwrap().unwrap().values().count()
}

/// Every second number of a range.
fn dots(numbers: std::ops::Range<u64>) -> Context {
    let mut context = Context::empty();
    numbers.step_by(2).for_each(|n| context.add(Version::new(1, n)));
    context
}

#[tokio::test]
async fn a_write_that_would_leave_too_many_values_is_refused() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    let (engine, nothing) = (&rig.engine, context("-"));
    for n in 1..=64 {
        assert_eq!(write(engine, "x", 10 + n, &nothing).unwrap().siblings as u64, n - 1);
    }
    let before = rig.map();
    assert_eq!(write(engine, "x", 80, &nothing), Err(Refused::Siblings));
    assert_eq!(rig.map(), before, "nothing was applied");
    assert!(!write(engine, "x", 11, &nothing).unwrap().superseded, "it is there already");
    // What replicas hold is merged all the same; who leaves less than there was is let through.
    (100..110).for_each(|n| merge(engine, n, &nothing));
    assert_eq!(values(engine), 74);
    assert_eq!(write(engine, "x", 111, &nothing), Err(Refused::Siblings));
    assert_eq!(write(engine, "x", 112, &context("1.13")).unwrap().siblings, 71);
    assert_eq!(write(engine, "x", 113, &context("1.70")).unwrap().siblings, 15);
    assert_eq!(write(engine, "x", 114, &context("1.113")).unwrap().siblings, 0);
    rig.close().await;
}

#[tokio::test]
async fn a_write_that_would_leave_too_many_bytes_is_refused() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    let (engine, nothing) = (&rig.engine, context("-"));
    // What JSON makes the most of.
    let value = "\u{1}".repeat(VALUE_BYTES_MAX / 64);
    for n in 1..=64 {
        write(engine, &value, 10 + n, &nothing).unwrap();
    }
    let held = serde_json::to_string(&engine.peek(&KEY).unwrap()).unwrap();
    assert!(held.len() + 1024 < LINE_BYTES_MAX, "{}", held.len());
    // Three of the others go, but four times as much comes.
    let seen = context("1.13");
    assert_eq!(write(engine, &value.repeat(4), 80, &seen), Err(Refused::Siblings));
    write(engine, &value.repeat(3), 80, &seen).unwrap();
    write(engine, &"x".repeat(VALUE_BYTES_MAX), 81, &context("1.80")).unwrap();
    assert_eq!(write(engine, "x", 82, &nothing), Err(Refused::Siblings));
    rig.close().await;
}

/// A snapshot with a line that no start would read is a node that never starts again.
#[tokio::test]
async fn one_batch_cannot_teach_more_than_can_be_read_back() {
    let disk = SimDisk::new(1);
    let mut rig = Rig::open(&disk).unwrap();
    let each = CONTEXT_PARTS_MAX as u64 / 4 * 2;
    let copies = (0..6).map(|batch| {
        let context = Some(dots(10 + batch * each..10 + (batch + 1) * each));
        (KEY, Record { context, ..record(1_000_001 + batch * 2) })
    });
    rig.engine.merge(copies, None).unwrap();
    let held = rig.engine.peek(&KEY).unwrap().unwrap();
    assert!(held.past().parts() <= CONTEXT_PARTS_MAX, "{}", held.past().parts());
    assert!(rig.compacts().await.unwrap());
    let map = rig.map();
    rig.close().await;
    assert_eq!(map_of(&disk, "after a compaction"), map);
}

/// What a replica takes as a write can be sent to the others.
#[tokio::test]
async fn writes_cannot_teach_more_than_replicas_can_send() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    assert!(write(&rig.engine, "x", 1_000_001, &dots(10..2010)).is_ok());
    assert_eq!(
        write(&rig.engine, "x", 1_000_003, &dots(2010..4010)),
        Err(Refused::Crowded),
        "2,002 with the values"
    );
    let plain = Line::new(KEY, Op::Del, Version::new(1, 1_000_005));
    assert!(!rig.engine.take(plain, &[]).unwrap().superseded);
    rig.close().await;
}

/// Who numbers a write itself replaces all, however much there is.
#[tokio::test]
async fn a_write_to_the_node_itself_ends_the_crowd() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    let sibling = |n| Sibling {
        value: Some("y".into()),
        deleted: false,
        version: Version::new(1, n),
        expires: None,
        stamp: None,
    };
    let siblings = (1..900).map(|n| sibling(10 + 2 * n)).collect();
    let record = Record { siblings, context: Some(context("-")), ..record(1_000_000) };
    rig.engine.merge([(KEY, record)], None).unwrap();
    assert_eq!(values(&rig.engine), 900);
    assert_eq!(rig.engine.write(KEY, Some(Bytes::new()), None).unwrap().siblings, 0);
    assert_eq!(values(&rig.engine), 1);
    rig.close().await;
}
