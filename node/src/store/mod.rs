//! The map: what a node holds, without files or clocks.
//!
//! Every key has one [`Entry`]: a value or the tombstone of a delete, the version of that write,
//! the log line that made it and where that line stands; or several, when writes that knew nothing of each other
//! have met. What is held follows from the set of writes that arrived (see `merge.rs`), so writes may come
//! twice and in any order, and all replicas that saw the same writes hold the same.
//!
//! | file | idea |
//! |---|---|
//! | `slot` | an entry as a piece of bytes |
//! | `leaf` | neighbours side by side |
//! | `index`, `fences` | leaves in key order, found fast |
//! | `entry`, `more` | one value or tombstone; keys that have several |
//! | `merge` | a write arrives |
//! | `bulk`, `piece` | many arrive at once, in key order |
//! | `tally` | the counts of all |
//! | `page` | the map in key order |
//! | `copied` | the same, as quick as can be |
//! | `census` | what of it lies on which arcs of the ring |
//! | `evict` | which values leave memory |
//! | `expire` | values that live for a time |
//! | `freeze` | the map as it was at one version |
//!
//! Keys are *stored* keys: all keyspaces are in one map, see [`key`]. The time, where
//! it matters, is an argument: `now`, in unix milliseconds.
//!
//! # Caveats
//!
//! Keys are always in memory. Two different values under one version are not told apart: the first
//! stays. Who numbers writes must not use a number twice. Tombstones stay until they are
//! dropped by name.

mod bulk;
mod census;
mod copied;
mod digest;
mod entry;
mod evict;
mod expire;
mod fences;
mod freeze;
mod index;
mod leaf;
mod merge;
#[cfg(test)]
mod model;
mod more;
mod page;
mod piece;
mod slot;
mod tally;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;

use ringkv_shared::Version;

use crate::log::key;
use crate::log::place::Place;
use crate::log::record::{Op, Record};

pub use bulk::{Unsorted, Writes};
pub use census::{CENSUS_KEYS_MAX, Census, Seen};
pub use copied::{Copied, CopiedKey};
pub use entry::{Content, Entry};
pub use evict::{Budget, EVICT_VISITS_MAX, Eviction};
pub use freeze::{FREEZES_MAX, FreezeError, FreezeId, KEPT_BYTES_MAX};
pub use index::Seat;
pub use merge::{Arrival, Discard, Standing};
pub use more::{Held, HeldMore, fields_bytes};
pub use page::{Page, PageRequest};
pub use tally::Tally;

use crate::replica::Digests;
use digest::Spot;
use evict::Clock;
use freeze::Freezes;
use index::Index;
use more::{Left, More, State};
use slot::{Draft, Slot, SlotBuf};

/// How reads were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Reads of a value in memory.
    pub hits: u64,
    /// Reads of a value that was evicted.
    pub misses: u64,
    /// Values that left memory.
    pub evictions: u64,
}

/// The map and its counts.
#[derive(Debug, Default)]
pub struct Store {
    /// Of each key the entry with the greatest version, in key order.
    entries: Index,
    /// What keys that are not plain have beside it.
    more: BTreeMap<Box<[u8]>, Box<More>>,
    /// What they come to.
    tally: Tally,
    /// What they come to, for who compares replicas.
    digests: Digests,
    /// What the last write that was applied has pushed out.
    discards: Vec<Discard>,
    /// The last line that was applied. Monotonic.
    applied_seq: u64,
    /// The last line that forgot a key; what an absent key depends on. Monotonic.
    dropped_seq: u64,
    /// All lines up to this one are safe. Monotonic.
    settled: u64,
    /// Which values leave memory next.
    clock: Clock,
    /// The last key that the sweep of expired values visited; `None`: its round begins.
    sweep_hand: Option<Box<[u8]>>,
    /// The pictures that are being taken.
    freezes: Freezes,
    /// How reads were answered; evictions are counted by the clock.
    reads: Reads,
}

impl Store {
    /// All that is held for a key as it answers at `now`, for who only looks at it.
    #[must_use]
    pub fn get(&self, key: &[u8], now: u64) -> Option<Held<&[u8]>> {
        self.state(key).map(|state| state.held(now))
    }

    /// Where a key is or would be, until something is put in or taken out.
    #[must_use]
    pub fn seek(&self, key: &[u8]) -> Seat {
        self.entries.seek(key)
    }

    /// The same of a key that had this seat before something was put in or taken out.
    #[must_use]
    pub fn seek_again(&self, seat: Seat, key: &[u8]) -> Seat {
        self.entries.seek_again(seat, key)
    }

    /// The seats of some keys, of which writes bring into the processor's caches what else they will change.
    pub fn seek_all<'k>(
        &self,
        keys: impl Iterator<Item = (&'k [u8], bool)> + Clone,
        into: &mut Vec<Seat>,
    ) {
        let written = keys.clone().filter(|(_, writes)| *writes);
        self.look_at_digests(written.map(|(key, _)| key));
        self.entries.seek_all(keys.map(|(key, _)| key), into);
    }

    /// All that is held there, as it answers at `now`, for who only looks at it.
    #[must_use]
    pub fn get_at(&self, seat: Seat, now: u64) -> Option<Held<&[u8]>> {
        self.entries.at(seat).map(|slot| self.state_of(slot).held(now))
    }

    /// All that is held for a key as it answers at `now`, for who was asked for it: counts as a hit
    /// or miss, and keeps its value in memory longer.
    pub fn read(&mut self, key: &[u8], now: u64) -> Option<Held<&[u8]>> {
        self.read_at(self.entries.seek(key), key, now)
    }

    /// The same of a key that has this seat.
    pub fn read_at(&mut self, seat: Seat, key: &[u8], now: u64) -> Option<Held<&[u8]>> {
        let slot = self.entries.at(seat)?;
        let more = if slot.has_more() { self.more.get(key) } else { None };
        let held = State { slot, more: more.map(|more| &**more) }.held(now);
        let evicted = |entry: &Entry<&[u8]>| matches!(entry.content, Content::Evicted { .. });
        if held.is_live() {
            match held.entries().any(evicted) {
                true => self.reads.misses += 1,
                false => self.reads.hits += 1,
            }
            self.clock.touch(key);
        }
        Some(held)
    }

    /// The entry of this version of a key, expired or not.
    #[must_use]
    pub fn find(&self, key: &[u8], version: Version) -> Option<Entry<&[u8]>> {
        self.state(key)?.entries().find(|entry| entry.version == version)
    }

    /// The counts.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How reads were answered since the start.
    #[must_use]
    pub const fn reads(&self) -> Reads {
        Reads { evictions: self.clock.evictions, ..self.reads }
    }

    /// The log line that the answer to a read of this key depends on; 0 if that is safe.
    #[must_use]
    pub fn depends_on(&self, key: &[u8]) -> u64 {
        let seq = self.state(key).map_or(self.dropped_seq, State::seq);
        if seq > self.settled { seq } else { 0 }
    }

    /// Says that all lines up to `seq` are safe and can be read back.
    pub fn settle(&mut self, seq: u64) {
        self.settled = self.settled.max(seq);
    }

    /// Does what a record says, as at its time or on replay; `place` is where its line stands, or
    /// will. True if it changed something.
    pub fn apply<B: AsRef<[u8]>>(&mut self, record: &Record<B>, place: Option<Place>) -> bool {
        self.apply_at(self.entries.seek(record.key.as_ref()), record, place)
    }

    /// The same of a record whose key has this seat.
    pub fn apply_at<B: AsRef<[u8]>>(
        &mut self,
        seat: Seat,
        record: &Record<B>,
        place: Option<Place>,
    ) -> bool {
        self.applied_seq = self.applied_seq.max(record.seq);
        self.discards.clear();
        match (&record.op, &record.context) {
            (Op::Put { .. } | Op::Del, None) => self.write_plain(seat, record, place),
            (Op::Put { .. } | Op::Del, Some(_)) => self.write_any(record, place),
            (Op::Drop, _) => self.forget([record.key.as_ref()].into_iter(), record.seq) > 0,
            (Op::DropSpace, _) => self.forget_all(record.key.as_ref(), record.seq) > 0,
        }
    }

    /// Does what the lines up to `seq` say that each drop one of these keys, which ascend.
    pub fn apply_drops<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, seq: u64) {
        self.applied_seq = self.applied_seq.max(seq);
        self.discards.clear();
        self.forget(keys, seq);
    }

    /// Says that the line of this version of a key now stands (also) elsewhere; true if there still is
    /// such a value.
    pub fn replace(&mut self, key: &[u8], version: Version, place: Place) -> bool {
        let moved = |slot: Slot<'_>| {
            let entry = slot.entry();
            let same = entry.version == version && entry.is_live();
            same.then(|| Entry { place: Some(place), ..entry }.copied())
        };
        let Some(slot) = self.entries.get(key) else { return false };
        if let Some(moved) = moved(slot) {
            self.exchange(key, &moved);
            return true;
        }
        let others = self.more.get_mut(key).into_iter().flat_map(|more| &mut more.others);
        let mut changed = others
            .filter_map(|other| moved(other.get()).map(|new| *other = SlotBuf::new(key, &new)));
        changed.next().is_some()
    }

    /// How many keys begin so: those of a keyspace, if this is its prefix.
    #[must_use]
    pub fn count(&self, prefix: &[u8]) -> u64 {
        self.range(prefix).count() as u64
    }

    fn state(&self, key: &[u8]) -> Option<State<'_>> {
        self.entries.get(key).map(|slot| self.state_of(slot))
    }

    fn state_of<'a>(&'a self, slot: Slot<'a>) -> State<'a> {
        let more = if slot.has_more() { self.more.get(slot.key()) } else { None };
        State { slot, more: more.map(|more| &**more) }
    }

    fn range<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = Slot<'a>> {
        let from = self.entries.from(Bound::Included(prefix));
        from.take_while(move |slot| slot.key().starts_with(prefix))
    }

    /// Puts an entry in the place of one that says the same in another way.
    fn exchange<B: AsRef<[u8]>>(&mut self, key: &[u8], entry: &Entry<B>) {
        let seat = self.entries.seek(key);
        let old = self.entries.at(seat).expect("only what is there is exchanged");
        self.tally.remove_value(&old.entry());
        self.tally.add_value(&entry.as_ref());
        let more = old.has_more();
        self.entries.put(seat, Draft::new(key, entry, more));
    }

    /// Forgets keys, which ascend; says how many there were.
    fn forget<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>, seq: u64) -> usize {
        let Self { entries, more, tally, digests, freezes, .. } = self;
        let before = entries.len();
        entries.take(keys, |slot| {
            let key = slot.key();
            let more = if slot.has_more() { more.remove(key) } else { None };
            let state = State { slot, more: more.as_deref() };
            tally.remove_state(state);
            let spot = Spot::of(key);
            spot.change(digests, spot.hash(state), 0);
            freezes.keep(|| Left { slot: slot.to_buf(), more });
        });
        let forgotten = before - entries.len();
        if forgotten > 0 {
            self.dropped_seq = seq;
        }
        forgotten
    }

    fn forget_all(&mut self, prefix: &[u8], seq: u64) -> usize {
        let keys: Vec<Box<[u8]>> = self.range(prefix).map(|slot| slot.key().into()).collect();
        let forgotten = self.forget(keys.iter().map(|key| &**key), seq);
        if let (Some(keyspace), _) = key::split(prefix) {
            self.digests.forget(keyspace);
        }
        forgotten
    }
}
