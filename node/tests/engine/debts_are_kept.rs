//! What a node owes others is as safe as a write: it survives power cuts and compaction, and stays
//! within its bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::support::{Rig, options, power_cut};
use ringkv_node::disk::SimDisk;
use ringkv_node::replica::{AGE_MS_MAX, KEYS_MAX};
use ringkv_node::{Clock, Engine, EngineOptions, Owed};
use ringkv_shared::NodeId;
use ringkv_shared::protocol::node::SpaceKey;

#[derive(Clone, Debug, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn set(&self, now: u64) {
        self.0.store(now, Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn id(text: &str) -> NodeId {
    text.parse().unwrap()
}

fn keys(keyspace: &str, numbers: std::ops::Range<usize>) -> Vec<SpaceKey> {
    let key = |n| SpaceKey {
        keyspace: keyspace.parse().unwrap(),
        key: format!("key{n:06}").as_str().into(),
    };
    numbers.map(key).collect()
}

/// All keys owed to a node, page by page.
fn owed(engine: &Engine, to: &str) -> Vec<SpaceKey> {
    let mut all = Vec::new();
    loop {
        let Owed { keys, more } = engine.owed(&id(to), all.last());
        assert!(keys.len() <= 500);
        all.extend(keys);
        if !more {
            return all;
        }
    }
}

#[tokio::test]
async fn debts_come_in_pages_and_are_struck_off() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    rig.engine.owe(&id("n2"), &keys("default", 0..1200)).unwrap();
    rig.engine.owe(&id("n2"), &keys("default", 1000..1300)).unwrap();
    rig.engine.owe(&id("n3"), &keys("users", 0..3)).unwrap();
    assert_eq!(owed(&rig.engine, "n2"), keys("default", 0..1300));
    rig.engine.paid(&id("n2"), &keys("default", 5..2000)).unwrap();
    rig.engine.all_paid(&id("n3")).unwrap();
    let [debt] = &rig.engine.debts()[..] else { panic!("only n2") };
    assert_eq!((debt.to.as_str(), debt.keys, debt.overflow), ("n2", 5, false));
    assert_eq!(owed(&rig.engine, "n2"), keys("default", 0..5));
    rig.close().await;
}

#[tokio::test]
async fn a_node_owes_itself_nothing() {
    let rig = Rig::open(&SimDisk::new(1)).unwrap();
    rig.engine.owe(&id("n1"), &keys("default", 0..3)).unwrap();
    assert_eq!(rig.engine.debts(), []);
    rig.close().await;
}

#[tokio::test]
async fn what_was_settled_survives_power_cuts_and_compaction() {
    let disk = SimDisk::new(7);
    let mut rig = Rig::open(&disk).unwrap();
    rig.engine.owe(&id("n2"), &keys("default", 0..40)).unwrap();
    rig.engine.owe(&id("n3"), &keys("users", 0..40)).unwrap();
    rig.engine.owe(&id("n4"), &keys("default", 0..4)).unwrap();
    rig.engine.paid(&id("n2"), &keys("default", 0..10)).unwrap();
    rig.engine.all_paid(&id("n4")).unwrap();
    rig.engine.settle().await;
    let expected = rig.engine.debts();
    for seed in 0..5 {
        let found = Rig::open(&power_cut(&disk, seed)).unwrap();
        assert_eq!(found.engine.debts(), expected, "cut {seed}");
    }
    assert!(rig.compacts().await.unwrap());
    rig.engine.paid(&id("n3"), &keys("users", 0..1)).unwrap();
    rig.engine.settle().await;
    let expected = rig.engine.debts();
    rig.kill().await;
    for seed in 0..5 {
        let found = Rig::open(&power_cut(&disk, seed)).unwrap();
        assert_eq!(found.engine.debts(), expected, "cut {seed} after the compaction");
        assert_eq!(owed(&found.engine, "n2"), keys("default", 10..40));
        assert_eq!(owed(&found.engine, "n3"), keys("users", 1..40));
    }
}

#[tokio::test]
async fn beyond_the_bound_notes_are_thrown_away_and_it_is_told_until_all_is_paid() {
    let disk = SimDisk::new(3);
    let rig = Rig::open(&disk).unwrap();
    for first in (0..=KEYS_MAX).step_by(10_000) {
        rig.engine.owe(&id("n2"), &keys("default", first..first + 10_000)).unwrap();
    }
    let [debt] = &rig.engine.debts()[..] else { panic!("only n2") };
    assert_eq!((debt.keys, debt.overflow), (KEYS_MAX as u64, true));
    rig.close().await;
    let rig = Rig::open(&disk).unwrap();
    rig.engine.paid(&id("n2"), &keys("default", 0..10_000)).unwrap();
    let [debt] = &rig.engine.debts()[..] else { panic!("only n2") };
    assert_eq!((debt.keys, debt.overflow), (KEYS_MAX as u64 - 10_000, true));
    rig.engine.all_paid(&id("n2")).unwrap();
    assert_eq!(rig.engine.debts(), []);
    rig.close().await;
}

#[tokio::test]
async fn notes_do_not_get_old() {
    let (disk, hand) = (SimDisk::new(3), Hand::default());
    let with_hand = || EngineOptions { clock: Arc::new(hand.clone()), ..options(&disk) };
    let rig = Rig::with(with_hand()).unwrap();
    hand.set(1_000);
    rig.engine.owe(&id("n2"), &keys("default", 0..3)).unwrap();
    hand.set(2_000);
    rig.engine.owe(&id("n2"), &keys("default", 2..5)).unwrap();
    hand.set(1_000 + AGE_MS_MAX);
    rig.engine.throw_away_old_notes();
    assert_eq!((rig.engine.debts()[0].keys, rig.engine.debts()[0].overflow), (5, false));
    hand.set(1_001 + AGE_MS_MAX);
    rig.engine.throw_away_old_notes();
    rig.close().await;
    let rig = Rig::with(with_hand()).unwrap();
    let [debt] = &rig.engine.debts()[..] else { panic!("only n2") };
    assert_eq!((debt.keys, debt.since_ms, debt.overflow), (2, 2_000, true));
    assert_eq!(owed(&rig.engine, "n2"), keys("default", 3..5));
    rig.close().await;
}
