//! Slots in key order, found fast.
//!
//! ```text
//!   BTreeMap: lower bound of each leaf ──► leaf   prefix  user:00000004
//!                                                 heads   711   712   714   9    (4 bytes each)
//!                                                 tags    c5    07    e1    5a   (1 byte each)
//!                                                 slots   ▪     ▪     ▪     ▪    up to 128, in order
//! ```
//!
//! Slots are each somewhere else in memory, and a look at one costs more than all else. So a
//! leaf has of each key a byte of its hash, the *tag*: a lookup compares the key with those
//! slots only whose tag is the key's, mostly one. And to find where a new key goes: neighbours
//! begin alike, so the leaf has what its keys have in common once, and of each the next
//! four bytes as a number, its *head*. Only between equal heads the keys themselves decide.
//! The tree above is small and stays in the processor's cache.
//!
//! A leaf that is full is cut in half; but when the new key is behind the last, as in a
//! snapshot that is read, the full leaf stays and a new one begins.
//!
//! # Caveats
//!
//! Leaves that become small are not joined, only empty ones go: after many keys were
//! dropped here and there, the leaves have room that is not used.

use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_64;

use super::slot::Slot;

/// The most slots in a leaf: to put one in moves 1 KiB on average.
const LEAF_SLOTS_MAX: usize = 128;

/// Slots in key order.
#[derive(Debug)]
pub(super) struct Index {
    /// Each leaf, by a key that is not above its first and above all of the leaf before. Never
    /// empty; the first leaf has the empty key.
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    /// How many slots.
    len: usize,
}

/// Neighbours in key order.
#[derive(Debug, Default)]
struct Leaf {
    /// What all keys begin with; of a single one, the key.
    prefix: Box<[u8]>,
    /// Of each slot's key, the four bytes after the prefix.
    heads: Vec<u32>,
    /// Of each slot's key, a byte of its hash.
    tags: Vec<u8>,
    /// In key order.
    slots: Vec<Slot>,
}

impl Default for Index {
    fn default() -> Self {
        let leaves = BTreeMap::from([(Box::default(), Leaf::default())]);
        Self { leaves, len: 0 }
    }
}

impl Index {
    /// How many slots.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The slot of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Slot> {
        let leaf = self.leaf(key);
        leaf.find(key).map(|at| &leaf.slots[at])
    }

    /// Puts a slot in; returns the one that its key had.
    pub(super) fn replace(&mut self, slot: Slot) -> Option<Slot> {
        let (_, leaf) = self.leaf_mut(slot.key());
        if let Some(at) = leaf.find(slot.key()) {
            return Some(std::mem::replace(&mut leaf.slots[at], slot));
        }
        let behind = leaf.insert(leaf.position(slot.key()), slot);
        self.len += 1;
        if let Some(behind) = behind {
            self.leaves.insert(behind.slots[0].key().into(), behind);
        }
        None
    }

    /// Takes the slot of a key out.
    pub(super) fn take(&mut self, key: &[u8]) -> Option<Slot> {
        let (bound, leaf) = self.leaf_mut(key);
        let at = leaf.find(key)?;
        leaf.heads.remove(at);
        leaf.tags.remove(at);
        let slot = leaf.slots.remove(at);
        if leaf.slots.is_empty() && !bound.is_empty() {
            let bound = Box::<[u8]>::from(bound);
            self.leaves.remove(&bound);
        }
        self.len -= 1;
        Some(slot)
    }

    /// The slots from a key on, in order.
    pub(super) fn from<'a>(&'a self, from: Bound<&'a [u8]>) -> impl Iterator<Item = &'a Slot> {
        let key = match from {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        let first = self.leaf(key);
        let at = first.position(key);
        let is_key = |slot: &Slot| slot.key() == key;
        let skips = matches!(from, Bound::Excluded(_)) && first.slots.get(at).is_some_and(is_key);
        let at = at + usize::from(skips);
        let others = self.leaves.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let others = others.flat_map(|(_, leaf)| &leaf.slots);
        first.slots[at..].iter().chain(others)
    }

    fn leaf(&self, key: &[u8]) -> &Leaf {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        self.leaves.range::<[u8], _>(up_to).next_back().expect(HAS_FIRST).1
    }

    fn leaf_mut(&mut self, key: &[u8]) -> (&[u8], &mut Leaf) {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let (first, leaf) = self.leaves.range_mut::<[u8], _>(up_to).next_back().expect(HAS_FIRST);
        (first, leaf)
    }
}

const HAS_FIRST: &str = "the first leaf has the least key of all and never goes";

impl Leaf {
    /// Where a key is.
    fn find(&self, key: &[u8]) -> Option<usize> {
        let alike = memchr::memchr_iter(tag(key), &self.tags);
        alike.into_iter().find(|at| self.slots[*at].key() == key)
    }

    /// How many keys are before this one: where it is, or would go.
    fn position(&self, key: &[u8]) -> usize {
        let Some(rest) = key.strip_prefix(&*self.prefix) else {
            // It differs from all keys in the same byte.
            return if *key < *self.prefix { 0 } else { self.slots.len() };
        };
        let head = head(rest);
        let from = self.heads.partition_point(|other| *other < head);
        let alike = self.heads[from..].iter().take_while(|other| **other == head).count();
        from + self.slots[from..from + alike].partition_point(|slot| slot.key() < key)
    }

    /// Puts in a slot whose key is new; returns a leaf to go behind this one, if that was full.
    fn insert(&mut self, at: usize, slot: Slot) -> Option<Self> {
        let len = self.slots.len();
        if len < LEAF_SLOTS_MAX {
            self.put(at, slot);
            return None;
        }
        let half = if at == len { len } else { len / 2 };
        let mut behind = Self::of(self.slots.split_off(half));
        if at < half {
            self.put(at, slot);
        } else {
            behind.put(at - half, slot);
        }
        if at < len {
            // Half as many keys may have more in common.
            *self = Self::of(std::mem::take(&mut self.slots));
        }
        Some(behind)
    }

    fn put(&mut self, at: usize, slot: Slot) {
        match slot.key().strip_prefix(&*self.prefix) {
            Some(rest) if !self.slots.is_empty() => {
                self.heads.insert(at, head(rest));
                self.tags.insert(at, tag(slot.key()));
                self.slots.insert(at, slot);
            }
            _ => {
                let mut slots = std::mem::take(&mut self.slots);
                slots.insert(at, slot);
                *self = Self::of(slots);
            }
        }
    }

    /// A leaf of these slots, which are in order.
    fn of(slots: Vec<Slot>) -> Self {
        let prefix = match (slots.first(), slots.last()) {
            (Some(first), Some(last)) => common(first.key(), last.key()),
            _ => &[],
        };
        let heads = slots.iter().map(|slot| head(&slot.key()[prefix.len()..])).collect();
        let tags = slots.iter().map(|slot| tag(slot.key())).collect();
        Self { prefix: prefix.into(), heads, tags, slots }
    }
}

fn tag(key: &[u8]) -> u8 {
    xxh3_64(key) as u8
}

/// What both keys begin with.
fn common<'a>(one: &'a [u8], other: &[u8]) -> &'a [u8] {
    let len = iter::zip(one, other).take_while(|(a, b)| a == b).count();
    &one[..len]
}

/// The first four bytes as a number of the same order; what is missing counts as zeros.
fn head(rest: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    iter::zip(&mut bytes, rest).for_each(|(to, from)| *to = *from);
    u32::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::{Content, Entry};
    use proptest::prelude::*;
    use ringkv_shared::Version;

    fn slot(key: u16, counter: u64) -> Slot {
        let version = Version::new(0, counter);
        let content = Content::<&[u8]>::Tombstone;
        let entry = Entry { content, version, seq: 0, place: None, expires: None, stamp: None };
        Slot::new(&bytes(key), &entry)
    }

    /// In the order of the numbers, with much and little in common; the first is the empty key.
    fn bytes(key: u16) -> Vec<u8> {
        let group = vec![b'g'; usize::from(key / 300)];
        let rest = match key % 3 {
            0 => vec![],
            1 => vec![0],
            _ => vec![0, 0, 0, 0, 0, 7],
        };
        let number = (key / 3).to_be_bytes();
        if key == 0 { Vec::new() } else { [&group[..], b"common", &number, &rest].concat() }
    }

    #[derive(Clone, Debug)]
    enum Act {
        Put(u16),
        /// So many, one behind the other.
        Run(u16, u16),
        Take(u16),
        TakeRun(u16, u16),
    }

    fn act() -> impl Strategy<Value = Act> {
        let key = 0..1500_u16;
        prop_oneof![
            8 => key.clone().prop_map(Act::Put),
            1 => (key.clone(), 1..400_u16).prop_map(|(from, n)| Act::Run(from, n)),
            4 => key.clone().prop_map(Act::Take),
            1 => (key, 1..400_u16).prop_map(|(from, n)| Act::TakeRun(from, n)),
        ]
    }

    fn from(map: &BTreeMap<u16, u64>, from: Bound<u16>) -> Vec<(Vec<u8>, u64)> {
        let range = map.range((from, Bound::Unbounded));
        range.map(|(key, counter)| (bytes(*key), *counter)).collect()
    }

    fn found<'a>(slots: impl Iterator<Item = &'a Slot>) -> Vec<(Vec<u8>, u64)> {
        slots.map(|slot| (slot.key().to_vec(), slot.version().counter)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn it_is_an_ordered_map(acts in proptest::collection::vec(act(), 1..60), probe in 0..1600_u16) {
            let (mut index, mut model) = (Index::default(), BTreeMap::new());
            let mut counter = 0;
            for act in acts {
                let (keys, put) = match act {
                    Act::Put(key) => (key..=key, true),
                    Act::Run(from, n) => (from..=from + n, true),
                    Act::Take(key) => (key..=key, false),
                    Act::TakeRun(from, n) => (from..=from + n, false),
                };
                for key in keys {
                    counter += 1;
                    let (old, expected) = if put {
                        (index.replace(slot(key, counter)), model.insert(key, counter))
                    } else {
                        (index.take(&bytes(key)), model.remove(&key))
                    };
                    prop_assert_eq!(old.map(|slot| slot.version().counter), expected);
                }
                prop_assert_eq!(index.len(), model.len());
                prop_assert!(index.leaves.values().all(|leaf| leaf.slots.len() <= LEAF_SLOTS_MAX));
            }
            let key = bytes(probe);
            let got = index.get(&key).map(|slot| slot.version().counter);
            prop_assert_eq!(got, model.get(&probe).copied());
            prop_assert_eq!(found(index.from(Bound::Unbounded)), from(&model, Bound::Unbounded));
            prop_assert_eq!(found(index.from(Bound::Included(&key))), from(&model, Bound::Included(probe)));
            prop_assert_eq!(found(index.from(Bound::Excluded(&key))), from(&model, Bound::Excluded(probe)));
        }
    }
}
