//! Which values leave memory when there are too many.
//!
//! A clock: a hand walks over the entries in key order. A value that was read since the hand's
//! last visit is passed over once; one that was not is dropped from memory, if its line
//! is safe in the log and the map knows where. The key and all else that is known of it stay.
//!
//! Whether a value was read is a bit in a table, by the hash of its key, so that a read changes
//! one bit and no entry. Two keys that share a bit save each other now and then: harmless.
//!
//! # Caveats
//!
//! Of a key with several values only the one with the greatest version is ever evicted. Small values are not worth it: an evicted one keeps about 20 bytes beside its key. The hand
//! meets every entry, with a value in memory or not; a call does a bounded piece of the round.

use std::ops::Bound;

use xxhash_rust::xxh3::xxh3_64;

use super::Store;
use super::entry::{Content, Entry};
use super::index::Index;
use super::slot::Slot;
use crate::log::value::Value;

/// How many entries the hand visits in one call; under half a millisecond.
pub const EVICT_VISITS_MAX: usize = 1024;

/// How much may be in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The most bytes of values, as they are stored.
    pub bytes: u64,
    /// The most values; `None`: any number.
    pub values: Option<u64>,
}

impl Budget {
    const fn allows(&self, bytes: u64, values: u64) -> bool {
        let few = match self.values {
            Some(max) => values <= max,
            None => true,
        };
        few && bytes <= self.bytes
    }
}

/// What one call of [`Store::evict`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Values that left memory.
    pub values: u64,
    /// Whether there is still more in memory than the budget allows. Calling again at once helps
    /// unless everything was just read or waits for its line to be safe.
    pub over: bool,
}

impl Eviction {
    /// Whether calling again at once will drop more.
    #[must_use]
    pub const fn is_to_go_on(self) -> bool {
        self.over && self.values > 0
    }
}

/// The hand and the bits.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The last key visited; `None`: none was.
    hand: Option<Box<[u8]>>,
    /// Which values were read since the hand's last visit. No bits until something is evicted.
    read: Vec<u64>,
    /// Values that left memory, ever.
    pub(super) evictions: u64,
}

impl Clock {
    /// Notes that the value of a key was read.
    pub(super) fn touch(&mut self, key: &[u8]) {
        if let Some((word, bit)) = self.bit(key) {
            self.read[word] |= bit;
        }
    }

    /// Whether it was read since it was asked last.
    fn was_read(&mut self, key: &[u8]) -> bool {
        let Some((word, bit)) = self.bit(key) else { return false };
        let was = self.read[word] & bit != 0;
        self.read[word] &= !bit;
        was
    }

    fn bit(&self, key: &[u8]) -> Option<(usize, u64)> {
        let mask = self.read.len().checked_sub(1)?;
        let hash = xxh3_64(key);
        Some(((hash >> 6) as usize & mask, 1 << (hash & 63)))
    }

    /// Makes at least two bits an entry. What was read until then is forgotten: it is a hint.
    fn fit(&mut self, entries: usize) {
        let words = (entries / 32 + 1).next_power_of_two();
        if self.read.len() < words {
            self.read = vec![0; words];
        }
    }
}

impl Store {
    /// Drops values from memory until the budget is kept, or enough was done for one call.
    pub fn evict(&mut self, budget: &Budget) -> Eviction {
        let victims = self.victims(budget);
        let values = victims.len() as u64;
        victims.iter().for_each(|(key, entry)| self.exchange(key, entry));
        self.clock.evictions += values;
        let over = !budget.allows(self.tally.resident_bytes, self.tally.resident_values);
        Eviction { values, over }
    }

    /// Moves the hand on; returns what the entries to be evicted become.
    fn victims(&mut self, budget: &Budget) -> Vec<(Box<[u8]>, Entry)> {
        let Self { entries, clock, tally, settled, .. } = self;
        let (mut bytes, mut values) = (tally.resident_bytes, tally.resident_values);
        let mut victims = Vec::new();
        if budget.allows(bytes, values) {
            return victims;
        }
        clock.fit(entries.len());
        let hand = clock.hand.take();
        let mut visited = None;
        for slot in round(entries, hand.as_deref()).take(EVICT_VISITS_MAX) {
            visited = Some(slot.key());
            let entry = slot.entry();
            if may_leave(&entry, *settled) && !clock.was_read(slot.key()) {
                let gone = entry.evicted();
                if let Content::Evicted { stored_len, .. } = gone.content {
                    (bytes, values) = (bytes - u64::from(stored_len), values - 1);
                }
                victims.push((slot.key().into(), gone.copied()));
            }
            if budget.allows(bytes, values) {
                break;
            }
        }
        clock.hand = visited.map(Box::from);
        victims
    }

    /// Takes a value that was read back into memory, if it still is the key's; true if so.
    pub fn admit<B: AsRef<[u8]>>(
        &mut self,
        key: &[u8],
        version: ringkv_shared::Version,
        value: &Value<B>,
    ) -> bool {
        let Some(slot) = self.entries.get(key) else { return false };
        let entry = slot.entry();
        let fits = entry.version == version && matches!(entry.content, Content::Evicted { .. });
        if fits {
            let Entry { version, seq, place, expires, stamp, .. } = entry;
            let content = Content::Value(value.as_ref());
            self.exchange(key, &Entry { content, version, seq, place, expires, stamp });
        }
        fits
    }
}

/// All entries once: those behind the hand, then those before it.
fn round<'a>(entries: &'a Index, hand: Option<&'a [u8]>) -> impl Iterator<Item = Slot<'a>> {
    let behind = entries.from(hand.map_or(Bound::Unbounded, Bound::Excluded));
    let up_to = move |slot: &Slot<'_>| hand.is_some_and(|hand| slot.key() <= hand);
    behind.chain(entries.from(Bound::Unbounded).take_while(up_to))
}

fn may_leave(entry: &Entry<&[u8]>, settled: u64) -> bool {
    matches!(entry.content, Content::Value(_)) && entry.place.is_some() && entry.seq <= settled
}
