//! Whatever happens to it in any order, the map holds what a plain one holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;

use super::{Budget, Content, Entry, FREEZES_MAX, FreezeError, FreezeId, PageRequest, Store};
use crate::log::place::{FileId, Place};
use crate::log::record::{Op, Record};
use crate::log::value::Value;

#[derive(Clone, Debug)]
enum Act {
    /// A write of a key under a version, which decides what it writes.
    Write(u8, u64),
    /// A delete of the version that is stored: the end of a value that expires.
    End(u8),
    /// Forgets a key at the version stored (true) or at another.
    Drop(u8, bool),
    Read(u8),
    Settle,
    Evict(u64, Option<u64>),
    Admit(u8),
    Replace(u8, u64),
    /// Time goes on.
    Tick(u64),
    Sweep(usize),
    Freeze,
    Thaw(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..6_u8;
    prop_oneof![
        8 => (key.clone(), 1..60_u64).prop_map(|(k, n)| Act::Write(k, n)),
        1 => key.clone().prop_map(Act::End),
        1 => (key.clone(), any::<bool>()).prop_map(|(k, same)| Act::Drop(k, same)),
        2 => key.clone().prop_map(Act::Read),
        2 => Just(Act::Settle),
        2 => (0..6000_u64, proptest::option::of(0..6_u64)).prop_map(|(b, v)| Act::Evict(b, v)),
        1 => key.clone().prop_map(Act::Admit),
        1 => (key, 1..1_000_000_u64).prop_map(|(k, offset)| Act::Replace(k, offset)),
        1 => (0..20_u64).prop_map(Act::Tick),
        1 => (1..8_usize).prop_map(Act::Sweep),
        1 => Just(Act::Freeze),
        1 => (0..FREEZES_MAX).prop_map(Act::Thaw),
    ]
}

/// What a version writes to a key: the same number always writes the same.
fn written(key: u8, n: u64) -> Op {
    let raw = Bytes::from(format!("{key}-{n} ").repeat(n as usize * 7 % 300));
    match n % 4 {
        0 => Op::Del,
        1 => Op::Put { value: Value::new(raw), expires: Some(n) },
        _ => Op::Put { value: Value::new(raw), expires: None },
    }
}

fn key(k: u8) -> Bytes {
    Bytes::from(vec![b'k', k])
}

/// What the plain map holds for a key.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    n: u64,
    /// A value that expires was deleted under its own version.
    ended: bool,
    seq: u64,
    place: Option<Place>,
}

impl Held {
    fn op(&self, k: u8) -> Op {
        if self.ended { Op::Del } else { written(k, self.n) }
    }

    /// The value and its expiry, as they answer at `now`.
    fn answer(&self, k: u8, now: u64) -> Option<(Value, Option<u64>)> {
        match self.op(k) {
            Op::Put { value, expires } if expires.is_none_or(|at| at > now) => {
                Some((value, expires))
            }
            _ => None,
        }
    }

    fn expires(&self, k: u8) -> bool {
        matches!(self.op(k), Op::Put { expires: Some(_), .. })
    }
}

type Map = BTreeMap<u8, Held>;

/// A picture: what each key had from its beginning on, in the order of time.
type Picture = (FreezeId, BTreeMap<u8, Vec<Held>>);

#[derive(Default)]
struct Model {
    store: Store,
    map: Map,
    pictures: Vec<Picture>,
    seq: u64,
    settled: u64,
    now: u64,
}

impl Model {
    fn apply(&mut self, k: u8, op: Op, n: u64) -> bool {
        self.seq += 1;
        let place = Place { file: FileId(1), offset: self.seq * 10, len: 10 };
        let (version, seq) = (Version::new(0, n), self.seq);
        let record = Record { key: key(k), op, version, seq, durable: 0 };
        self.store.apply(&record, Some(place))
    }

    fn holds(&mut self, k: u8, held: Held) {
        self.map.insert(k, held);
        for (_, states) in &mut self.pictures {
            states.entry(k).or_default().push(held);
        }
    }

    fn write(&mut self, k: u8, n: u64, ended: bool) {
        let op = if ended { Op::Del } else { written(k, n) };
        let changed = self.apply(k, op.clone(), n);
        let ends = |held: &Held| held.n == n && held.expires(k) && op == Op::Del;
        let wins = self.map.get(&k).is_none_or(|held| held.n < n || ends(held));
        assert_eq!(changed, wins);
        if wins {
            let place = Place { file: FileId(1), offset: self.seq * 10, len: 10 };
            let place = (op != Op::Del).then_some(place);
            self.holds(k, Held { n, ended, seq: self.seq, place });
        }
    }

    fn step(&mut self, act: &Act) {
        match *act {
            Act::Write(k, n) => self.write(k, n, false),
            Act::End(k) => {
                if let Some(held) = self.map.get(&k).filter(|held| held.expires(k)) {
                    self.write(k, held.n, true);
                }
            }
            Act::Drop(k, same) => {
                let n = self.map.get(&k).map_or(0, |held| held.n) + u64::from(!same);
                let gone = same && self.map.remove(&k).is_some();
                assert_eq!(self.apply(k, Op::Drop, n), gone);
            }
            Act::Read(k) => {
                self.store.read(&key(k), self.now);
            }
            Act::Settle => {
                self.settled = self.seq;
                self.store.settle(self.seq);
            }
            Act::Evict(bytes, values) => self.evict(&Budget { bytes, values }),
            Act::Admit(k) => self.admit(k),
            Act::Replace(k, offset) => self.replace(k, offset),
            Act::Tick(by) => self.now += by,
            Act::Sweep(visits_max) => {
                for (key, version) in self.store.sweep(self.now, visits_max) {
                    let held = self.map[&key[1]];
                    assert!(held.expires(key[1]) && held.answer(key[1], self.now).is_none());
                    assert_eq!(version.counter, held.n);
                    self.write(key[1], held.n, true);
                }
            }
            Act::Freeze => match self.store.freeze() {
                Ok(id) => {
                    let states = self.map.iter().map(|(k, held)| (*k, vec![*held])).collect();
                    self.pictures.push((id, states));
                }
                Err(error) => {
                    assert_eq!((error, self.pictures.len()), (FreezeError::TooMany, FREEZES_MAX))
                }
            },
            Act::Thaw(n) => {
                if n < self.pictures.len() {
                    self.store.thaw(self.pictures.remove(n).0);
                }
            }
        }
    }

    fn evict(&mut self, budget: &Budget) {
        let before = self.store.tally().resident_values;
        let first = self.store.evict(budget);
        // What was read once is not passed over a second time.
        let second = self.store.evict(budget);
        let tally = *self.store.tally();
        assert_eq!(before - first.values - second.values, tally.resident_values);
        let kept = budget.values.is_none_or(|values| tally.resident_values <= values)
            && tally.resident_bytes <= budget.bytes;
        assert_eq!(second.over, !kept);
        let all_settled = self.map.values().all(|held| held.seq <= self.settled);
        assert!(kept || !all_settled, "everything could leave");
    }

    fn admit(&mut self, k: u8) {
        let Some(held) = self.map.get(&k) else { return };
        let Op::Put { value, .. } = held.op(k) else { return };
        let version = Version::new(0, held.n);
        assert!(!self.store.admit(&key(k), version.next(), &value));
        let was_out = matches!(
            self.store.get(&key(k), 0).map(|entry| entry.content),
            Some(Content::Evicted { .. })
        );
        assert_eq!(self.store.admit(&key(k), version, &value), was_out);
    }

    fn replace(&mut self, k: u8, offset: u64) {
        let place = Place { file: FileId(2), offset, len: 11 };
        let n = self.map.get(&k).map_or(1, |held| held.n);
        assert!(!self.store.replace(&key(k), Version::new(1, n), place));
        let moved = self.store.replace(&key(k), Version::new(0, n), place);
        let held = self.map.get_mut(&k).filter(|held| held.place.is_some());
        assert_eq!(moved, held.is_some());
        if let Some(held) = held {
            held.place = Some(place);
            let n = held.n;
            // A picture shows an entry that is still current where it stands now.
            let states = self.pictures.iter_mut().filter_map(|(_, states)| states.get_mut(&k));
            let last = states.filter_map(|states| states.last_mut());
            last.filter(|last| last.n == n && last.place.is_some())
                .for_each(|last| last.place = Some(place));
        }
    }

    fn check(&self) {
        for k in 0..6 {
            let entry = self.store.get(&key(k), self.now);
            self.check_entry(k, self.map.get(&k), entry.map(|entry| entry.copied()));
            let seq = self.map.get(&k).map_or(0, |held| held.seq);
            if self.map.contains_key(&k) {
                let unsafe_seq = if seq > self.settled { seq } else { 0 };
                assert_eq!(self.store.depends_on(&key(k)), unsafe_seq);
            }
        }
        let current = self.map.iter().map(|(k, held)| (*k, *held)).collect();
        self.check_page(None, &current);
        for (id, states) in &self.pictures {
            for n in [12, 40, 60] {
                let newest = |held: &&Held| held.n;
                let at = |held: &&Held| held.n <= n;
                let picture = states.iter().filter_map(|(k, states)| {
                    states.iter().filter(at).max_by_key(newest).map(|held| (*k, *held))
                });
                self.check_page(Some((*id, Version::new(0, n))), &picture.collect());
            }
        }
        assert_eq!(self.store.is_frozen(), !self.pictures.is_empty());
        self.check_tally();
    }

    fn check_page(&self, at: Option<(FreezeId, Version)>, expected: &Map) {
        let request = PageRequest {
            at,
            keys_max: usize::MAX,
            bytes_max: usize::MAX,
            ..PageRequest::everything()
        };
        let page = self.store.page(&request, self.now).unwrap();
        let keys: Vec<u8> = page.entries.iter().map(|(key, _)| key[1]).collect();
        assert_eq!(keys, expected.keys().copied().collect::<Vec<u8>>());
        for (key, entry) in page.entries {
            self.check_entry(key[1], expected.get(&key[1]), Some(entry));
        }
    }

    fn check_entry(&self, k: u8, held: Option<&Held>, entry: Option<Entry>) {
        let (Some(held), Some(entry)) = (held, &entry) else {
            assert_eq!((held, &entry), (None, &None));
            return;
        };
        assert_eq!((entry.version, entry.seq), (Version::new(0, held.n), held.seq));
        let Some((value, expires)) = held.answer(k, self.now) else {
            assert_eq!((&entry.content, entry.place), (&Content::Tombstone, None));
            return;
        };
        assert_eq!((entry.expires, entry.place), (expires, held.place));
        match &entry.content {
            Content::Value(stored) => assert_eq!(*stored, value),
            Content::Evicted { len, stored_len } => {
                assert_eq!(
                    (*len as usize, *stored_len as usize),
                    (value.len(), value.stored_len())
                );
                assert!(held.seq <= self.settled);
            }
            Content::Tombstone => panic!("{k} has a value"),
        }
    }

    /// The counts are those of the entries, counted anew.
    fn check_tally(&self) {
        let mut expected = super::Tally::default();
        let entries = (0..6).filter_map(|k| self.store.entries.get(&key(k)));
        entries.for_each(|slot| expected.add(&slot.entry()));
        assert_eq!(*self.store.tally(), expected);
    }
}

/// What a replica holds, without what is its own business: lines and places.
fn shared(store: &Store) -> Vec<(u8, Version, Option<Entry>)> {
    let held = |k| {
        let entry = store.get(&key(k), 0)?;
        let value = entry.is_live().then(|| Entry { seq: 0, place: None, ..entry.copied() });
        Some((k, entry.version, value))
    };
    (0..6).filter_map(held).collect()
}

fn apply(store: &mut Store, k: u8, op: Op, version: Version) {
    let before = store.get(&key(k), 0).map(|entry| (entry.version, entry.is_live()));
    store.apply(&Record { key: key(k), op, version, seq: 1, durable: 0 }, None);
    let after = store.get(&key(k), 0).map(|entry| (entry.version, entry.is_live())).unwrap();
    if let Some((version, live)) = before {
        assert!(after.0 >= version, "an older version came back");
        assert!(after.0 > version || live || !after.1, "a value came back");
    }
}

/// Sweeps at a time; the deletes are applied as the log would have them.
fn sweep(store: &mut Store, now: u64) {
    for (key, version) in store.sweep(now, 6) {
        apply(store, key[1], Op::Del, version);
    }
}

/// Gives one replica what the other has, as a repair does.
fn merge(from: &Store, to: &mut Store) {
    for (k, version, value) in shared(from) {
        let op = value.map_or(Op::Del, |entry| {
            let Content::Value(value) = entry.content else { panic!("nothing was evicted") };
            Op::Put { value, expires: entry.expires }
        });
        apply(to, k, op, version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_map_holds_what_the_model_holds(acts in proptest::collection::vec(act(), 1..80)) {
        let mut model = Model::default();
        for act in &acts {
            model.step(act);
            model.check();
        }
    }

    #[test]
    fn replicas_that_saw_the_same_end_equal(
        writes in proptest::collection::vec((0..6_u8, 1..60_u64), 1..40),
        orders in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>(), 0..60_u64), 80),
    ) {
        let mut replicas = [Store::default(), Store::default()];
        let mut waiting = [writes.clone(), writes];
        for (index, which, now) in orders {
            let which = usize::from(which);
            // A clock that jumps about, a write twice, a repair in between: nothing of it matters.
            if let Some(at) = (!waiting[which].is_empty()).then(|| index.index(waiting[which].len())) {
                let (k, n) = waiting[which].swap_remove(at);
                apply(&mut replicas[which], k, written(k, n), Version::new(0, n));
                if now % 3 == 0 {
                    apply(&mut replicas[which], k, written(k, n), Version::new(0, n));
                }
            }
            sweep(&mut replicas[which], now);
            let [one, other] = &mut replicas;
            if now % 7 == 0 {
                merge(one, other);
            }
        }
        let [one, other] = &mut replicas;
        for (store, rest) in [(&mut *one, &waiting[0]), (&mut *other, &waiting[1])] {
            rest.iter().for_each(|&(k, n)| apply(store, k, written(k, n), Version::new(0, n)));
        }
        merge(one, other);
        merge(other, one);
        prop_assert_eq!(shared(one), shared(other));
    }
}
