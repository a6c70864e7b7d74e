//! What of the map lies on which arcs of the ring, counted in one walk.
//!
//! Of each key its *mark* is what the digests sum up: a hash of its position and of all versions held. So two nodes
//! with the same digest of a sort hold the same there, and one with the mark of a key holds the same of it.
//!
//! # Caveats
//!
//! The map is locked for the walk: at most [`CENSUS_KEYS_MAX`] keys are looked at, a few milliseconds. Equal marks
//! of different contents have a chance of 1 in 2^64 each, by accident.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use ringkv_shared::Version;
use ringkv_shared::arcs::Arcs;
use ringkv_shared::merkle::Digest;
use ringkv_shared::protocol::node::SortCount;

use super::Store;
use super::digest::Spot;
use super::entry::Entry;
use super::more::State;
use super::page::PageRequest;
use crate::log::key;

/// The most keys that one census looks at.
pub const CENSUS_KEYS_MAX: usize = 1 << 16;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Each sort of which there is a key, ascending.
    pub sorts: Vec<SortCount>,
    /// Of each key of these the mark, if it was asked for.
    pub marks: Vec<u64>,
    /// The last key looked at, if there are more behind it.
    pub reached: Option<Bytes>,
}

/// What was seen at other nodes that hold the same keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Marks of keys.
    pub marks: BTreeSet<u64>,
    /// Of a sort how many keys there are, and the sum of their marks.
    pub sorts: BTreeMap<u16, (u64, Digest)>,
}

impl Store {
    /// Counts the keys of a request, of which `keys_max` are looked at; of those on arcs of a sort other than 0.
    #[must_use]
    pub fn census(&mut self, request: &PageRequest, arcs: &Arcs, now: u64, marks: bool) -> Census {
        let nothing = SortCount { sort: 0, keys: 0, bytes: 0, digest: Digest(0) };
        let mut sorts = vec![nothing; usize::from(arcs.sorts()) + 1];
        let mut census = Census::default();
        census.reached = self.each(request, |state, spot| {
            let sort = arcs.sort_of(spot.position());
            if sort == 0 {
                return;
            }
            let (count, mark) = (&mut sorts[usize::from(sort)], spot.hash(state));
            count.sort = sort;
            count.keys += 1;
            count.bytes += bytes_of(state, now);
            count.digest.0 = count.digest.0.wrapping_add(mark);
            if marks {
                census.marks.push(mark);
            }
        });
        census.sorts = sorts.into_iter().filter(|count| count.keys > 0).collect();
        census
    }

    /// The keys of a request on arcs of a sort other than 0 of which the same is held as was seen elsewhere, each with
    /// its greatest version, ascending; and how many others there are.
    #[must_use]
    pub fn alike(
        &mut self,
        request: &PageRequest,
        arcs: &Arcs,
        seen: &Seen,
    ) -> (Vec<(Bytes, Version)>, u64) {
        let mut held = vec![(0, Digest(0)); usize::from(arcs.sorts()) + 1];
        let (mut stored, mut found) = (Vec::new(), Vec::new());
        self.each(request, |state, spot| {
            let sort = arcs.sort_of(spot.position());
            if sort == 0 {
                return;
            }
            let ((keys, digest), mark) = (&mut held[usize::from(sort)], spot.hash(state));
            *keys += 1;
            digest.0 = digest.0.wrapping_add(mark);
            let from = stored.len();
            stored.extend_from_slice(state.slot.key());
            found.push((sort, mark, from..stored.len(), state.slot.version()));
        });
        let is_whole = |sort: u16| seen.sorts.get(&sort) == Some(&held[usize::from(sort)]);
        let (all, stored) = (found.len(), Bytes::from(stored));
        let is_alike = |(sort, mark, key, version)| {
            let is = is_whole(sort) || seen.marks.contains(&mark);
            is.then(|| (stored.slice(key), version))
        };
        let alike: Vec<_> = found.into_iter().filter_map(is_alike).collect();
        let others = all - alike.len();
        (alike, others as u64)
    }

    /// Shows `keys_max` keys of a request at the most; the last of them, if there are more. A rebalance comes by five times,
    /// so the leaves stay sorted.
    fn each(
        &mut self,
        request: &PageRequest,
        mut show: impl FnMut(State<'_>, &Spot<'_>),
    ) -> Option<Bytes> {
        for (from, until) in request.ranges() {
            let (Bound::Included(first) | Bound::Excluded(first)) = from else { continue };
            self.entries.sort(first, request.keys_max, |key| request.ends_before(key, until));
        }
        let (mut looked, mut last) = (0, None);
        for (from, until) in request.ranges() {
            for slot in self.entries.within(from, |key| request.ends_before(key, until)) {
                let key = slot.key();
                if looked == request.keys_max {
                    return last.map(Bytes::copy_from_slice);
                }
                looked += 1;
                last = Some(key);
                show(self.state_of(slot), &Spot::of(key));
            }
        }
        None
    }
}

/// Bytes of a key and all its values.
fn bytes_of(state: State<'_>, now: u64) -> u64 {
    let len = |entry: Entry<&[u8]>| entry.at(now).len();
    let values = match state.more {
        // Nearly all: without a walk over siblings that are none.
        None => len(state.slot.entry()),
        Some(_) => state.entries().map(len).sum(),
    };
    (key::split(state.slot.key()).1.len() + values) as u64
}

#[cfg(test)]
mod tests {
    use ringkv_shared::ring::key_position;

    use super::*;
    use crate::log::record::{Op, Record};
    use crate::log::value::Value;

    fn store(counters: impl IntoIterator<Item = (u32, u64)>) -> Store {
        let mut store = Store::default();
        for (seq, (key, counter)) in (1..).zip(counters) {
            let op = Op::write(Some(Value::new(Bytes::from_static(b"value"))));
            let key = Bytes::from(format!("key{key:03}"));
            let record = Record { seq, ..Record::new(key, op, Version::new(1, counter)) };
            store.apply(&record, None);
        }
        store
    }

    fn request(after: Option<&str>, until: Option<&str>, keys_max: usize) -> PageRequest {
        let bytes = |key: &str| Bytes::copy_from_slice(key.as_bytes());
        let (after, until) = (after.map(bytes), until.map(bytes));
        PageRequest { after, until, keys_max, all_keyspaces: false, ..PageRequest::everything() }
    }

    fn halves() -> Arcs {
        Arcs::new([(u64::MAX / 2, 1), (u64::MAX, 2)])
    }

    #[test]
    fn each_sort_is_counted_in_pieces_as_in_one() {
        let mut store = store((0..100).map(|key| (key, 1)));
        let whole = store.census(&request(None, None, 1000), &halves(), 0, true);
        let counts = |sort: u16| {
            let low = |key: &u32| key_position(format!("key{key:03}").as_bytes()) <= u64::MAX / 2;
            (0..100).filter(|key| low(key) == (sort == 1)).count() as u64
        };
        let told: Vec<_> = whole.sorts.iter().map(|s| (s.sort, s.keys, s.bytes)).collect();
        let expected = [1, 2].map(|sort| (sort, counts(sort), counts(sort) * 11));
        assert_eq!((told, whole.marks.len(), whole.reached), (expected.to_vec(), 100, None));
        let first = store.census(&request(None, None, 40), &halves(), 0, true);
        assert_eq!(first.reached.as_deref(), Some(&b"key039"[..]));
        let upto = store.census(&request(None, Some("key039"), 1000), &halves(), 0, true);
        assert_eq!((&upto.sorts, upto.reached), (&first.sorts, None));
        let rest = store.census(&request(Some("key039"), None, 1000), &halves(), 0, true);
        assert_eq!([first.marks, rest.marks].concat(), whole.marks);
        for (at, count) in whole.sorts.iter().enumerate() {
            let parts = first.sorts[at].digest.0.wrapping_add(rest.sorts[at].digest.0);
            assert_eq!(
                (count.digest.0, count.keys),
                (parts, first.sorts[at].keys + rest.sorts[at].keys)
            );
        }
    }

    #[test]
    fn only_what_is_held_alike_is_found() {
        let mut owner = store((0..100).map(|key| (key, if key % 10 == 0 { 2 } else { 1 })));
        let mut stray = store((0..100).map(|key| (key, 1)));
        let (all, low) = (request(None, None, 1000), halves().sorted(|sort| u16::from(sort == 1)));
        let marks: BTreeSet<u64> = owner.census(&all, &low, 0, true).marks.into_iter().collect();
        let (alike, others) = stray.alike(&all, &low, &Seen { marks, ..Seen::default() });
        let here = |key: &u32| key_position(format!("key{key:03}").as_bytes()) <= u64::MAX / 2;
        let expected: Vec<_> = (0..100)
            .filter(|key| key % 10 != 0 && here(key))
            .map(|key| (Bytes::from(format!("key{key:03}")), Version::new(1, 1)))
            .collect();
        assert_eq!(alike, expected);
        assert_eq!(others, (0..100).step_by(10).filter(here).count() as u64);
    }

    /// Of two sorts, one of which has changed at the stray since.
    #[test]
    fn a_sort_is_alike_as_a_whole_or_not_at_all() {
        let mut owner = store((0..100).map(|key| (key, 1)));
        let all = request(None, None, 1000);
        let census = owner.census(&all, &halves(), 0, false);
        let sorts = census.sorts.iter().map(|count| (count.sort, (count.keys, count.digest)));
        let seen = Seen { sorts: sorts.collect(), ..Seen::default() };
        let count = |sort: u16| census.sorts[usize::from(sort) - 1].keys;
        let low = |key: u32| key_position(format!("key{key:03}").as_bytes()) <= u64::MAX / 2;
        let changed = (0..100).find(|key| low(*key)).unwrap();
        let mut stray = store((0..100).map(|key| (key, if key == changed { 2 } else { 1 })));
        let (alike, others) = stray.alike(&all, &halves(), &seen);
        assert_eq!((alike.len() as u64, others), (count(2), count(1)));
        assert!(alike.iter().all(|(key, _)| key_position(key) > u64::MAX / 2));
        let (alike, others) = owner.alike(&all, &halves(), &seen);
        assert_eq!((alike.len(), others), (100, 0));
    }
}
