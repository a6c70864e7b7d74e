//! The index is an ordered map.

use super::*;
use crate::log::value::Value;
use crate::store::entry::{Content, Entry};
use proptest::prelude::*;
use ringkv_shared::Version;
use std::collections::BTreeMap;

fn put(index: &mut Index, key: u16, len: usize, counter: u64) {
    let content = Content::Value(Value::Plain(value(len, counter)));
    let version = Version::new(0, counter);
    let entry = Entry { content, version, seq: 0, place: None, expires: None, stamp: None };
    let key = bytes(key);
    index.put(index.seek(&key), Draft::new(&key, &entry, false));
}

fn value(len: usize, counter: u64) -> Vec<u8> {
    counter.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// In the order of the numbers, with much and little in common; the first is the empty key.
fn bytes(key: u16) -> Vec<u8> {
    let group = vec![b'g'; usize::from(key / 300)];
    let rest = match key % 3 {
        0 => vec![],
        1 => vec![0],
        _ => vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 7],
    };
    let number = (key / 3).to_be_bytes();
    if key == 0 { Vec::new() } else { [&group[..], b"common", &number, &rest].concat() }
}

#[derive(Clone, Debug)]
enum Act {
    /// With a value of so many bytes.
    Put(u16, usize),
    /// So many, so far from each other, forwards or, wrapping around, backwards.
    Run(u16, u16, u16, usize),
    Take(u16),
    TakeRun(u16, u16),
    /// Puts leaves in order from a key on, so many keys, up to another.
    Sort(u16, u16, u16),
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..6000_u16;
    let len = || prop_oneof![8 => 0..40_usize, 2 => 100..600_usize, 1 => 5000..9000_usize];
    let step = prop_oneof![Just(1), Just(5999), Just(7), Just(4177)];
    prop_oneof![
        8 => (key.clone(), len()).prop_map(|(key, len)| Act::Put(key, len)),
        4 => (key.clone(), 1..3000_u16, step, len()).prop_map(|(from, n, step, len)| Act::Run(from, n, step, len % 1000)),
        4 => key.clone().prop_map(Act::Take),
        1 => (key.clone(), 1..3000_u16).prop_map(|(from, n)| Act::TakeRun(from, n)),
        2 => (key.clone(), 0..3000_u16, key).prop_map(|(from, n, to)| Act::Sort(from, n, to)),
    ]
}

fn run(from: u16, n: u16, step: u16) -> impl Iterator<Item = u16> {
    (0..u32::from(n)).map(move |n| ((u32::from(from) + n * u32::from(step)) % 6000) as u16)
}

type Model = BTreeMap<u16, (usize, u64)>;

fn from(model: &Model, from: Bound<u16>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let range = model.range((from, Bound::Unbounded));
    range.map(|(key, (len, counter))| (bytes(*key), value(*len, *counter))).collect()
}

fn found<'a>(slots: impl Iterator<Item = Slot<'a>>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pair = |slot: Slot<'_>| {
        let Content::Value(value) = slot.entry().content else { panic!("it was a value") };
        (slot.key().to_vec(), value.stored().to_vec())
    };
    slots.map(pair).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_is_an_ordered_map(acts in proptest::collection::vec(act(), 1..40), probe in 0..6100_u16) {
        let (mut index, mut model) = (Index::default(), Model::new());
        let (mut counter, mut seats) = (0, Vec::new());
        let looked_up: Vec<Vec<u8>> = (0..6000).step_by(271).map(bytes).collect();
        for act in acts {
            let (mut keys, len): (Vec<u16>, _) = match act {
                Act::Put(key, len) => (vec![key], Some(len)),
                Act::Run(from, n, step, len) => (run(from, n, step).collect(), Some(len)),
                Act::Take(key) => (vec![key], None),
                Act::TakeRun(from, n) => (run(from, n, 1).collect(), None),
                Act::Sort(from, n, to) => {
                    index.sort(&bytes(from), usize::from(n), |key| key >= &bytes(to)[..]);
                    (Vec::new(), None)
                }
            };
            for key in &keys {
                let held = index.get(&bytes(*key)).map(|slot| slot.version().counter);
                prop_assert_eq!(held, model.get(key).map(|(_, counter)| *counter));
                if let Some(len) = len {
                    counter += 1;
                    put(&mut index, *key, len, counter);
                    model.insert(*key, (len, counter));
                }
            }
            if len.is_none() {
                keys.sort_unstable();
                let (gone, mut shown): (Vec<Vec<u8>>, _) = (keys.iter().map(|k| bytes(*k)).collect(), Vec::new());
                index.take(gone.iter().map(Vec::as_slice), |slot| shown.push(slot.key().to_vec()));
                keys.retain(|key| model.remove(key).is_some());
                prop_assert_eq!(shown, keys.into_iter().map(bytes).collect::<Vec<_>>());
            }
            prop_assert_eq!(index.len(), model.len());
            index.check();
            // The seats are those from before the last act.
            for (key, seat) in looked_up.iter().zip(&seats) {
                prop_assert_eq!(index.seek_again(*seat, key), index.seek(key));
            }
            index.seek_all(looked_up.iter().map(Vec::as_slice), &mut seats);
            for (key, seat) in looked_up.iter().zip(&seats) {
                prop_assert_eq!(*seat, index.seek(key));
            }
        }
        let key = bytes(probe);
        prop_assert_eq!(found(index.from(Bound::Unbounded)), from(&model, Bound::Unbounded));
        prop_assert_eq!(found(index.from(Bound::Included(&key))), from(&model, Bound::Included(probe)));
        prop_assert_eq!(found(index.from(Bound::Excluded(&key))), from(&model, Bound::Excluded(probe)));
        for end in [probe, probe + 1, probe + 700] {
            let within = index.within(Bound::Included(&key), |key| key >= &bytes(end)[..]);
            let mut expected = from(&model, Bound::Included(probe));
            expected.truncate(model.range(probe..end).count());
            prop_assert_eq!(found(within), expected);
        }
    }
}

#[test]
fn many_keys_are_cut_into_branches_and_all_of_it_goes_again() {
    let mut index = Index::default();
    let keys: Vec<[u8; 4]> =
        (0..60_000_u32).map(|n| n.wrapping_mul(40_503).rotate_left(7).to_be_bytes()).collect();
    let content = Content::<&[u8]>::Tombstone;
    let version = Version::new(1, 1);
    let entry = Entry { content, version, seq: 1, place: None, expires: None, stamp: None };
    for key in &keys {
        index.put(index.seek(key), Draft::new(key, &entry, false));
    }
    index.check();
    assert!(index.branches.len() > 3 && index.len() == keys.len());
    assert!(index.from(Bound::Unbounded).is_sorted_by(|a, b| a.key() < b.key()));
    for key in &keys {
        index.take([&key[..]].into_iter(), |_| ());
    }
    index.check();
    assert_eq!(
        (index.branches.len(), index.len(), index.from(Bound::Unbounded).count()),
        (1, 0, 0)
    );
}

impl Index {
    /// Panics if the parts do not fit each other.
    pub(in crate::store) fn check(&self) {
        let branches = self.branches.len();
        assert!(self.branches.iter().all(|branch| (1..=LEAVES_MAX).contains(&branch.leaves.len())));
        for (at, branch) in self.branches.iter().enumerate() {
            for (nth, leaf) in branch.leaves.iter().enumerate() {
                leaf.check();
                assert!(leaf.len() > 0 || (branches, branch.leaves.len()) == (1, 1));
                let mut slots = (0..leaf.len()).map(|at| leaf.slot(at).key());
                assert!(slots.all(|key| self.leaf_of(key) == (at, nth)));
            }
        }
    }
}
