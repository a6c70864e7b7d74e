//! Whatever happens to it in any order, the map holds what a plain map of [`Siblings`] holds.

mod plain;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use ringkv_shared::Version;
use ringkv_shared::causal::{Context, Siblings};

use super::{Budget, Content, Entry, FREEZES_MAX, FreezeError, FreezeId, Held, PageRequest, Store};
use crate::log::place::{FileId, Place};
use crate::log::record::{Op, Record};

use self::plain::{
    Act, Item, LWW_FROM, Map, State, act, key, record, seen, stamp, version, written,
};

/// A picture: the line with which it began, and what each key had from then on, in the order of time.
struct Picture {
    id: FreezeId,
    begun: u64,
    states: BTreeMap<u8, Vec<State>>,
}

#[derive(Default)]
struct Model {
    store: Store,
    map: Map,
    pictures: Vec<Picture>,
    seq: u64,
    settled: u64,
    now: u64,
    discarded: u64,
}

impl Model {
    fn apply(&mut self, record: Record) -> bool {
        self.seq += 1;
        let place = Place { file: FileId(1), offset: self.seq * 10, len: 10 };
        self.store.apply(&Record { seq: self.seq, ..record }, Some(place))
    }

    fn holds(&mut self, k: u8, state: State) {
        for picture in &mut self.pictures {
            picture.states.entry(k).or_default().push(state.clone());
        }
        self.map.insert(k, state);
    }

    fn write(&mut self, k: u8, n: u64, ended: bool, seen: &Context) {
        let op = if ended { Op::Del } else { written(k, n) };
        let record = record(k, n, op.clone(), seen);
        let standing = self.store.standing(&record);
        let changed = self.apply(record);
        assert_eq!(standing.changes, changed);
        let mut state = self.map.get(&k).cloned().unwrap_or_default();
        let ends = |item: &Item| item.n == n && item.expires(k) && op == Op::Del;
        let ended_now = state.set.values().iter().any(|(_, item)| ends(item));
        state = state.with(|item| {
            if ends(item) {
                *item = Item { ended: true, place: None, line: self.seq, seq: self.seq, ..*item };
            }
        });
        let place = Place { file: FileId(1), offset: self.seq * 10, len: 10 };
        let place = (op != Op::Del).then_some(place);
        let item = Item { n, ended, line: self.seq, seq: self.seq, place };
        let expected = if k >= LWW_FROM {
            let held: Vec<_> = state.set.values().to_vec();
            let is_new = held.iter().all(|(held, _)| *held != version(n));
            let all = held.iter().copied().chain(is_new.then_some((version(n), item)));
            state.set = Siblings::last(all, |item| item.n);
            let last = state.set.values()[0].0;
            let gone = held.iter().map(|(held, _)| *held).chain([version(n)]);
            let gone = gone.filter(|gone| *gone != last && !Context::before(last).covers(*gone));
            self.discarded += gone.count() as u64;
            is_new && last == version(n) || ended_now
        } else {
            state.set.write(version(n), seen, item) | ended_now
        };
        assert_eq!(changed, expected);
        assert_eq!(self.store.discards().len() as u64, std::mem::take(&mut self.discarded));
        if changed {
            state.seq = self.seq;
            if state.is_plain() {
                let seq = self.seq;
                state = state.with(|item| item.seq = seq);
            }
            self.holds(k, state);
        }
    }

    fn step(&mut self, act: &Act) {
        match *act {
            Act::Write(k, n) => self.write(k, n, false, &seen(n)),
            Act::Teach(k, n) => {
                let known = self.map.get(&k).map(|state| state.greatest().n);
                let Some(known) = known.filter(|known| *known > n) else { return };
                let mut more = seen(known);
                more.join(&Context::up_to(Version::new(0, n)));
                if !more.covers(version(known)) {
                    self.write(k, known, false, &more);
                }
            }
            Act::End(k) => {
                let Some(state) = self.map.get(&k) else { return };
                let past = state.set.past().clone();
                let item = state.set.values().iter().map(|(_, item)| *item).find(|i| i.expires(k));
                if let Some(item) = item {
                    self.write(k, item.n, true, &past);
                }
            }
            Act::Drop(k) => {
                let n = self.map.remove(&k).map(|state| state.greatest().n);
                let changed = self.apply(Record::new(key(k), Op::Drop, version(n.unwrap_or(1))));
                assert_eq!(changed, n.is_some());
            }
            Act::DropAll => {
                let any = !std::mem::take(&mut self.map).is_empty();
                let all = Record::new(Bytes::from("k"), Op::DropSpace, Version::default());
                assert_eq!(self.apply(all), any);
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
                for end in self.store.sweep(self.now, visits_max) {
                    let k = end.key[1];
                    let state = &self.map[&k];
                    let (_, item) =
                        state.set.values().iter().find(|(v, _)| *v == end.version).unwrap();
                    assert!(item.expires(k) && item.answer(k, self.now).is_none());
                    let (n, past) = (item.n, state.set.past().clone());
                    assert_eq!((end.seen(), end.stamp), (past.clone(), stamp(k, n)));
                    self.write(k, n, true, &past);
                }
            }
            Act::Freeze => match self.store.freeze() {
                Ok(id) => {
                    let states = self.map.iter().map(|(k, state)| (*k, vec![state.clone()]));
                    let picture = Picture { id, begun: self.seq, states: states.collect() };
                    self.pictures.push(picture);
                }
                Err(error) => {
                    assert_eq!((error, self.pictures.len()), (FreezeError::TooMany, FREEZES_MAX))
                }
            },
            Act::Thaw(n) => {
                if n < self.pictures.len() {
                    self.store.thaw(self.pictures.remove(n).id);
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
        let may_leave =
            |state: &State| state.set.values().len() == 1 && state.greatest().seq <= self.settled;
        assert!(kept || !self.map.values().all(may_leave), "everything could leave");
    }

    fn admit(&mut self, k: u8) {
        let Some(state) = self.map.get(&k) else { return };
        let item = state.greatest();
        let Op::Put { value, .. } = item.op(k) else { return };
        assert!(!self.store.admit(&key(k), version(item.n).next(), &value));
        let found = self.store.find(&key(k), version(item.n)).unwrap();
        let was_out = matches!(found.content, Content::Evicted { .. });
        assert_eq!(self.store.admit(&key(k), version(item.n), &value), was_out);
    }

    fn replace(&mut self, k: u8, offset: u64) {
        let place = Place { file: FileId(2), offset, len: 11 };
        assert!(!self.store.replace(&key(k), Version::new(1, 1), place));
        let Some(state) = self.map.get(&k) else { return };
        let values = state.set.values();
        let (which, item) = values[offset as usize % values.len()];
        assert_eq!(self.store.replace(&key(k), which, place), item.place.is_some());
        if item.place.is_some() {
            let moved = state.with(|other| {
                if other.n == item.n {
                    other.place = Some(place);
                }
            });
            // A picture shows what is still current where it stands now.
            for picture in &mut self.pictures {
                let last = picture.states.get_mut(&k).and_then(|states| states.last_mut());
                last.into_iter().for_each(|last| last.clone_from(&moved));
            }
            self.map.insert(k, moved);
        }
    }

    fn check(&self) {
        for k in 0..6 {
            let held = self.store.get(&key(k), self.now).map(|held| held.copied());
            self.check_held(k, self.map.get(&k), held);
            if let Some(state) = self.map.get(&k) {
                let unsafe_seq = if state.seq > self.settled { state.seq } else { 0 };
                assert_eq!(self.store.depends_on(&key(k)), unsafe_seq);
            }
        }
        self.check_page(None, &self.map);
        for picture in &self.pictures {
            for n in [12, 40, 60] {
                let newest = picture.states.iter().filter_map(|(k, states)| {
                    let then = states.iter().filter_map(|state| state.then(*k, n, picture.begun));
                    then.max_by_key(|(rank, _)| *rank).map(|(_, state)| (*k, state))
                });
                self.check_page(Some((picture.id, Version::new(0, n))), &newest.collect());
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
        for (key, held) in page.entries {
            self.check_held(key[1], expected.get(&key[1]), Some(held));
        }
    }

    fn check_held(&self, k: u8, state: Option<&State>, held: Option<Held>) {
        let (Some(state), Some(held)) = (state, &held) else {
            assert_eq!((state.is_some(), &held), (false, &None));
            return;
        };
        assert_eq!(&held.past(), state.set.past());
        assert_eq!(held.seen(), state.set.context());
        assert_eq!(held.entries().count(), state.set.values().len());
        for (entry, (_, item)) in held.entries().zip(state.set.values()) {
            self.check_entry(k, item, entry);
        }
    }

    fn check_entry(&self, k: u8, item: &Item, entry: &Entry) {
        assert_eq!((entry.version, entry.seq), (version(item.n), item.seq));
        assert_eq!(entry.stamp, stamp(k, item.n));
        let Some((value, expires)) = item.answer(k, self.now) else {
            assert_eq!((&entry.content, entry.place), (&Content::Tombstone, None));
            return;
        };
        assert_eq!((entry.expires, entry.place), (expires, item.place));
        match &entry.content {
            Content::Value(stored) => assert_eq!(*stored, value),
            Content::Evicted { len, stored_len } => {
                assert_eq!(
                    (*len as usize, *stored_len as usize),
                    (value.len(), value.stored_len())
                );
                assert!(item.line <= self.settled);
            }
            Content::Tombstone => panic!("{k} has a value"),
        }
    }

    /// The counts are those of the entries, counted anew.
    fn check_tally(&self) {
        let mut expected = super::Tally::default();
        let states = (0..6).filter_map(|k| self.store.state(&key(k)));
        states.for_each(|state| expected.add_state(state));
        assert_eq!(*self.store.tally(), expected);
        let live = |(k, state): (&u8, &State)| {
            let values = state.set.values().iter();
            values.filter(|(_, item)| matches!(item.op(*k), Op::Put { .. })).count()
        };
        let live: Vec<usize> = self.map.iter().map(live).collect();
        let count = |is: fn(usize) -> bool| live.iter().filter(|live| is(**live)).count() as u64;
        let counts = (expected.live, expected.tombstones, expected.conflicts);
        assert_eq!(counts, (count(|n| n > 0), count(|n| n == 0), count(|n| n > 1)));
        assert_eq!(self.store.more.len(), self.map.values().filter(|s| !s.is_plain()).count());
    }
}

/// What a replica holds, without what is its own business: lines and places.
fn shared(store: &Store) -> Vec<(u8, Held)> {
    let plain = |entry: &Entry<&[u8]>| Entry { seq: 0, place: None, ..entry.copied() };
    (0..6).filter_map(|k| Some((k, store.get(&key(k), 0)?.map(plain)))).collect()
}

fn apply(store: &mut Store, record: &Record) {
    let before = store.get(&record.key, 0).map(|held| held.copied());
    store.apply(record, None);
    let after = store.get(&record.key, 0).unwrap();
    let Some(before) = before else { return };
    let when = |held: &Entry<&[u8]>| (held.stamp, held.version);
    if after.entry.stamp.is_some() {
        assert!(when(&after.entry) >= when(&before.entry.as_ref()), "an older write came back");
    } else {
        assert!(after.seen().includes(&before.seen()), "an older state came back");
    }
    for entry in before.entries().filter(|entry| !entry.is_live()) {
        let same = |other: &&Entry<&[u8]>| other.version == entry.version;
        assert!(!after.entries().find(same).is_some_and(|e| e.is_live()), "a value came back");
    }
}

/// Sweeps at a time; the deletes are applied as the log would have them.
fn sweep(store: &mut Store, now: u64) {
    store.sweep(now, 6).iter().for_each(|end| apply(store, end));
}

/// Gives one replica what the other has, as a repair does.
fn merge(from: &Store, to: &mut Store) {
    for (k, held) in shared(from) {
        for entry in held.entries() {
            let op = match &entry.content {
                Content::Value(value) => Op::Put { value: value.clone(), expires: entry.expires },
                _ => Op::Del,
            };
            apply(to, &record(k, entry.version.counter, op, &held.past()));
        }
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
                apply(&mut replicas[which], &record(k, n, written(k, n), &seen(n)));
                if now % 3 == 0 {
                    apply(&mut replicas[which], &record(k, n, written(k, n), &seen(n)));
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
            rest.iter().for_each(|&(k, n)| apply(store, &record(k, n, written(k, n), &seen(n))));
        }
        merge(one, other);
        merge(other, one);
        prop_assert_eq!(shared(one), shared(other));
    }
}
