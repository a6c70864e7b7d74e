//! Digests are what they would be if they were made anew from all that is held, whatever happened; and
//! replicas that hold the same have the same, in whatever order it came.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Rig, power_cut};
use bytes::Bytes;
use proptest::prelude::*;
use ringkv_node::disk::SimDisk;
use ringkv_node::log::key;
use ringkv_node::replica::{Digests, hash};
use ringkv_node::store::{PageRequest, Seen};
use ringkv_node::{Condition, Engine};
use ringkv_shared::arcs::Arcs;
use ringkv_shared::hlc::Stamp;
use ringkv_shared::merkle::{self, Digest};
use ringkv_shared::protocol::node::Record;
use ringkv_shared::ring::key_position;
use ringkv_shared::{Blob, KeyspaceName, Version};

const SPACES: [&str; 3] = ["default", "carts", "clocks"];

fn name(space: usize) -> KeyspaceName {
    SPACES[space].parse().unwrap()
}

fn stored(space: usize, k: u8) -> Bytes {
    key::stored(&name(space), Bytes::from(vec![k, b'k']))
}

/// What is written somewhere: which keyspace, key, number, value, and whether its writer had seen the number
/// before.
type Write = (usize, u8, u64, Option<u8>, bool);

#[derive(Clone, Debug)]
enum Act {
    /// The node numbers it.
    Own(usize, u8, Option<u8>),
    /// Another replica has it.
    Merge(Write),
    /// Forgets a key.
    Drop(usize, u8),
    /// Forgets what is held of one half of the ring as an owner does, which has that half as it is, or that and
    /// some other version of a key there.
    Shed(usize, u16, bool),
    DropKeyspace,
    Compact,
    Reopen,
    PowerCut(u64),
}

fn write() -> impl Strategy<Value = Write> {
    (0..3_usize, 0..5_u8, 1..12_u64, any::<Option<u8>>(), any::<bool>())
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3_usize, 0..5_u8, any::<Option<u8>>()).prop_map(|(s, k, v)| Act::Own(s, k, v)),
        12 => write().prop_map(Act::Merge),
        3 => (0..3_usize, 0..5_u8).prop_map(|(s, k)| Act::Drop(s, k)),
        2 => (0..3_usize, 1..3_u16, any::<bool>()).prop_map(|(s, half, same)| Act::Shed(s, half, same)),
        1 => Just(Act::DropKeyspace),
        1 => Just(Act::Compact),
        1 => Just(Act::Reopen),
        1 => any::<u64>().prop_map(Act::PowerCut),
    ]
}

/// A write as another replica sends it. One number is one value.
fn copy((space, k, number, value, seen_before): Write) -> (Bytes, Record) {
    let line = if number % 3 == 0 { 0x8000_0001 } else { 1 };
    let version =
        Version::new(line, number * 4 + u64::from(value.is_some()) * 2 + u64::from(seen_before));
    let key = Blob::from(vec![k, b'k']);
    let value = value.map(|_| Blob::from(format!("{version}").as_str()));
    let mut record = Record::new(key, value, version);
    if !seen_before {
        record.context = Some("1.2".parse().unwrap());
    }
    // In this keyspace the last one wins.
    record.stamp = (space == 2).then_some(Stamp { ms: number % 5, count: 0 });
    (stored(space, k), record)
}

/// All that an engine holds.
fn held(engine: &Engine) -> BTreeMap<Bytes, Record> {
    engine.page(&PageRequest::everything()).unwrap().entries.into_iter().collect()
}

/// What is held of a half, and whether that is `same` as what an owner holds.
fn shed(engine: &Engine, space: usize, half: u16, same: bool) {
    let halves = Arcs::new([(u64::MAX / 2, 1), (u64::MAX, 2)]);
    let prefix = key::stored(&name(space), Bytes::new());
    let request = PageRequest { prefix, all_keyspaces: false, ..PageRequest::everything() };
    let before = held(engine);
    let census = engine.census(&request, &halves, false);
    let owned = census.sorts.iter().find(|count| count.sort == half);
    let digest = |digest: Digest| Digest(digest.0.wrapping_add(u64::from(!same)));
    let sorts = owned.map(|count| (half, (count.keys, digest(count.digest))));
    let seen = Seen { sorts: sorts.into_iter().collect(), ..Seen::default() };
    let all: u64 = census.sorts.iter().map(|count| count.keys).sum();
    let gone = owned.map_or(0, |count| if same { count.keys } else { 0 });
    assert_eq!(engine.shed(&request, &halves, &seen).unwrap(), (gone, all - gone));
    let (space, now) = (name(space), held(engine));
    let goes = |stored: &Bytes| {
        let (its, key) = key::split(stored);
        its.unwrap_or("default") == space.as_str() && halves.sort_of(key_position(key)) == half
    };
    let expected = before.into_iter().filter(|(stored, _)| !(same && goes(stored)));
    assert_eq!(now, expected.collect());
}

/// The parts that keys are in.
fn parts() -> BTreeSet<u8> {
    (0..5).map(|k| merkle::part_of(merkle::leaf_of_key(&[k, b'k']))).collect()
}

/// All parts, and the leaves of those that keys are in.
fn told(engine: &Engine, keyspace: &str) -> Vec<Digest> {
    let keyspace: KeyspaceName = keyspace.parse().unwrap();
    let leaves = parts().into_iter().flat_map(|part| engine.digests(&keyspace, Some(part)));
    engine.digests(&keyspace, None).into_iter().chain(leaves).collect()
}

/// The digests of all that an engine holds, made anew.
fn anew(engine: &Engine) -> Digests {
    let mut digests = Digests::default();
    let page = engine.page(&PageRequest::everything()).unwrap();
    for (stored, record) in page.entries {
        let (space, key) = key::split(&stored);
        let versions: Vec<Version> = record.versions().collect();
        let hash = hash(key_position(key), versions.into_iter(), &record.past());
        digests.change(space.unwrap_or("default"), merkle::leaf_of_key(key), 0, hash);
    }
    digests
}

fn check(engine: &Engine, what: &Act) {
    let anew = anew(engine);
    for keyspace in SPACES {
        let leaves = parts().into_iter().flat_map(|part| anew.leaves(keyspace, part));
        let expected: Vec<Digest> = anew.parts(keyspace).chain(leaves).collect();
        assert!(told(engine, keyspace) == expected, "{keyspace} after {what:?}");
    }
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn digests_are_of_what_is_held(acts in proptest::collection::vec(act(), 1..40)) {
        block(async {
            let mut disk = SimDisk::new(1);
            let mut rig = Rig::open(&disk).unwrap();
            for act in &acts {
                match act {
                    Act::Own(space, k, value) => {
                        let value = value.map(|v| Bytes::from(vec![v]));
                        rig.engine.write(stored(*space, *k), value, None).unwrap();
                    }
                    Act::Merge(write) => drop(rig.engine.merge([copy(*write)], None).unwrap()),
                    Act::Drop(space, k) => {
                        let all = rig.engine.peek(&stored(*space, *k)).unwrap();
                        let Some(all) = all else { continue };
                        let condition = Condition::Within(all.seen());
                        rig.engine.forget([(stored(*space, *k), condition)]).unwrap();
                    }
                    Act::Shed(space, half, same) => shed(&rig.engine, *space, *half, *same),
                    Act::DropKeyspace => drop(rig.engine.forget_keyspace(&name(1)).unwrap()),
                    Act::Compact => assert!(rig.compacts().await.unwrap()),
                    Act::Reopen => {
                        let before = held(&rig.engine);
                        rig.close().await;
                        rig = Rig::open(&disk).unwrap();
                        assert_eq!(held(&rig.engine), before);
                    }
                    Act::PowerCut(seed) => {
                        disk = power_cut(&disk, *seed);
                        rig.kill().await;
                        rig = Rig::open(&disk).unwrap();
                    }
                }
                check(&rig.engine, act);
            }
            rig.close().await;
        });
    }

    #[test]
    fn the_order_of_merges_does_not_matter(
        writes in proptest::collection::vec(write(), 1..25),
        order in any::<u64>(), again in 0..25_usize,
    ) {
        block(async {
            let (one, other) = (SimDisk::new(1), SimDisk::new(2));
            let (one, other) = (Rig::open(&one).unwrap(), Rig::open(&other).unwrap());
            one.engine.merge(writes.iter().map(|write| copy(*write)), None).unwrap();
            let mut shuffled = writes.clone();
            shuffled.sort_by_key(|(space, k, number, ..)| {
                ringkv_shared::ring::key_position(format!("{order}{space}{k}{number}").as_bytes())
            });
            shuffled.extend_from_within(..again.min(writes.len()));
            for write in shuffled {
                other.engine.merge([copy(write)], None).unwrap();
            }
            for keyspace in SPACES {
                assert!(told(&one.engine, keyspace) == told(&other.engine, keyspace), "{keyspace}");
            }
            one.close().await;
            other.close().await;
        });
    }
}
