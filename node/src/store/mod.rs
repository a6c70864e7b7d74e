//! The map: what a node holds, without files or clocks.
//!
//! Every key has one [`Entry`]: a value or the tombstone of a delete, the version of that write,
//! the log line that made it and where that line stands. Writes are decided by version: newer
//! wins, the same again changes nothing, older loses. So writes may come twice and in any order,
//! and all replicas that saw the same writes hold the same.
//!
//! | file | idea |
//! |---|---|
//! | `slot` | an entry in one piece of memory |
//! | `index` | slots in key order, found fast |
//! | `entry`, `tally` | what is held for a key; the counts of all |
//! | `page` | the map in key order |
//! | `evict` | which values leave memory |
//! | `expire` | values that live for a time |
//! | `freeze` | the map as it was at one version |
//!
//! Versions that this node gives itself are the next after the highest it has seen. The time, where
//! it matters, is an argument: `now`, in unix milliseconds.
//!
//! # Caveats
//!
//! Keys are always in memory. Two different values under one version are not told apart: the first
//! stays. Who numbers writes must not use a number twice. Tombstones stay until they are
//! dropped by name.

mod entry;
mod evict;
mod expire;
mod freeze;
mod index;
#[cfg(test)]
mod model;
mod page;
mod slot;
mod tally;
#[cfg(test)]
mod tests;

use ringkv_shared::Version;

use crate::log::place::Place;
use crate::log::record::{Op, Record};

pub use entry::{Content, Entry};
pub use evict::{Budget, EVICT_VISITS_MAX, Eviction};
pub use freeze::{FREEZES_MAX, FreezeError, FreezeId, KEPT_BYTES_MAX};
pub use page::{Page, PageRequest};
pub use tally::Tally;

use evict::Clock;
use freeze::Freezes;
use index::Index;
use slot::Slot;

/// How a write stands to what is held for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It wins.
    Newer,
    /// It is held already.
    Same,
    /// It loses to the version given.
    Older(Version),
}

impl Standing {
    fn of<A, B: AsRef<[u8]>>(version: Version, op: &Op<A>, held: &Entry<B>) -> Self {
        // A delete of the same version is the end of a value that expires.
        let ends = matches!(op, Op::Del) && held.expires.is_some();
        if held.version > version {
            Self::Older(held.version)
        } else if held.version == version && !ends {
            Self::Same
        } else {
            Self::Newer
        }
    }
}

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
    /// The entries in key order.
    entries: Index,
    /// What they come to.
    tally: Tally,
    /// The highest version ever seen. Monotonic.
    highest: Version,
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
    /// The entry of a key as it answers at `now`, for who only looks at it.
    #[must_use]
    pub fn get(&self, key: &[u8], now: u64) -> Option<Entry<&[u8]>> {
        self.entries.get(key).map(|slot| slot.entry().at(now))
    }

    /// The entry of a key as it answers at `now`, for who was asked for it: counts as a hit or
    /// miss, and keeps its value in memory longer.
    pub fn read(&mut self, key: &[u8], now: u64) -> Option<Entry<&[u8]>> {
        let entry = self.entries.get(key)?.entry().at(now);
        match entry.content {
            Content::Value(_) => self.reads.hits += 1,
            Content::Evicted { .. } => self.reads.misses += 1,
            Content::Tombstone => return Some(entry),
        }
        self.clock.touch(key);
        Some(entry)
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

    /// The version for a write that brought none.
    #[must_use]
    pub const fn next_version(&self) -> Version {
        self.highest.next()
    }

    /// The log line that the answer to a read of this key depends on; 0 if that is safe.
    #[must_use]
    pub fn depends_on(&self, key: &[u8]) -> u64 {
        let seq = self.entries.get(key).map_or(self.dropped_seq, |slot| slot.entry().seq);
        if seq > self.settled { seq } else { 0 }
    }

    /// Says that all lines up to `seq` are safe and can be read back.
    pub fn settle(&mut self, seq: u64) {
        self.settled = self.settled.max(seq);
    }

    /// How a write of this version stands to what is held.
    #[must_use]
    pub fn standing<B>(&self, key: &[u8], version: Version, op: &Op<B>) -> Standing {
        let held = self.entries.get(key);
        held.map_or(Standing::Newer, |slot| Standing::of(version, op, &slot.entry()))
    }

    /// Does what a record says, as at its time or on replay; `place` is where its line stands, or
    /// will. True if it changed something.
    pub fn apply<B: AsRef<[u8]>>(&mut self, record: &Record<B>, place: Option<Place>) -> bool {
        let Record { key, op, version, seq, .. } = record;
        self.highest = self.highest.max(*version);
        let (content, place, expires) = match op {
            Op::Put { value, expires } => (Content::Value(value.as_ref()), place, *expires),
            Op::Del => (Content::Tombstone, None, None),
            Op::Drop => return self.forget(key.as_ref(), *version, *seq),
        };
        let entry = Entry { content, version: *version, seq: *seq, place, expires };
        self.write(Slot::new(key.as_ref(), &entry), op)
    }

    /// Says that the line of this version of a key now stands (also) elsewhere; true if the entry
    /// is still that one.
    pub fn replace(&mut self, key: &[u8], version: Version, place: Place) -> bool {
        let Some(slot) = self.entries.get(key) else { return false };
        let entry = slot.entry();
        let same = entry.version == version && entry.is_live();
        if same {
            let moved = Slot::new(key, &Entry { place: Some(place), ..entry });
            self.exchange(moved);
        }
        same
    }

    /// Puts a slot in, if it wins. It nearly always does, so it is put in first.
    fn write<B>(&mut self, slot: Slot, op: &Op<B>) -> bool {
        let new = slot.entry();
        let version = new.version;
        self.tally.add(&new);
        let Some(old) = self.entries.replace(slot) else { return true };
        let held = old.entry();
        let wins = Standing::of(version, op, &held) == Standing::Newer;
        if wins {
            self.tally.remove(&held);
            self.freezes.keep(old);
        } else {
            let lost = self.entries.replace(old).expect("it was put in just now");
            self.tally.remove(&lost.entry());
        }
        wins
    }

    /// Puts a slot in the place of one that says the same in another way.
    fn exchange(&mut self, slot: Slot) {
        self.tally.add(&slot.entry());
        let old = self.entries.replace(slot).expect("only what is there is exchanged");
        self.tally.remove(&old.entry());
    }

    fn forget(&mut self, key: &[u8], version: Version, seq: u64) -> bool {
        let same = self.entries.get(key).is_some_and(|slot| slot.version() == version);
        if same {
            let old = self.entries.take(key).expect("it was there just now");
            self.tally.remove(&old.entry());
            self.freezes.keep(old);
            self.dropped_seq = seq;
        }
        same
    }
}
