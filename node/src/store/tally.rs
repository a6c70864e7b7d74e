//! The counts of a map, kept with every change.
//!
//! # Caveats
//!
//! Nothing here looks at a clock: a value that has expired counts as one until it is swept.

use super::entry::{Content, Entry};
use super::more::State;

/// What is in a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys with a value, in memory or not; one that has expired counts until it is swept.
    pub live: u64,
    /// Keys without one: of which there are only tombstones.
    pub tombstones: u64,
    /// Keys with more than one value; one that has expired counts until it is swept.
    pub conflicts: u64,
    /// Values with an expiry, passed or not.
    pub expiring: u64,
    /// Bytes of all values themselves, in memory or not.
    pub raw_bytes: u64,
    /// Bytes of all values as they are stored; with `raw_bytes` the compression's gain.
    pub stored_bytes: u64,
    /// Values in memory.
    pub resident_values: u64,
    /// Bytes of these, as they are stored.
    pub resident_bytes: u64,
}

impl Tally {
    /// Adds what another has counted, who began with nothing: it may have taken off more than it has added.
    pub(super) fn join(&mut self, other: &Self) {
        let all = [
            (&mut self.live, other.live),
            (&mut self.tombstones, other.tombstones),
            (&mut self.conflicts, other.conflicts),
            (&mut self.expiring, other.expiring),
            (&mut self.raw_bytes, other.raw_bytes),
            (&mut self.stored_bytes, other.stored_bytes),
            (&mut self.resident_values, other.resident_values),
            (&mut self.resident_bytes, other.resident_bytes),
        ];
        all.into_iter().for_each(|(count, more)| *count = count.wrapping_add(more));
    }

    /// Adds a key that is plain.
    pub(super) fn add(&mut self, entry: &Entry<&[u8]>) {
        self.change_value(entry, u64::wrapping_add);
        self.change_key(u64::from(entry.is_live()), u64::wrapping_add);
    }

    /// Takes off a key that is plain.
    pub(super) fn remove(&mut self, entry: &Entry<&[u8]>) {
        self.change_value(entry, u64::wrapping_sub);
        self.change_key(u64::from(entry.is_live()), u64::wrapping_sub);
    }

    /// Adds a key with all that is held for it.
    pub(super) fn add_state(&mut self, state: State<'_>) {
        self.change_state(state, u64::wrapping_add);
    }

    /// Takes off a key with all that is held for it.
    pub(super) fn remove_state(&mut self, state: State<'_>) {
        self.change_state(state, u64::wrapping_sub);
    }

    /// Adds what a value comes to, of a key that is counted.
    pub(super) fn add_value(&mut self, entry: &Entry<&[u8]>) {
        self.change_value(entry, u64::wrapping_add);
    }

    /// Takes off what a value comes to, of a key that stays counted.
    pub(super) fn remove_value(&mut self, entry: &Entry<&[u8]>) {
        self.change_value(entry, u64::wrapping_sub);
    }

    fn change_state(&mut self, state: State<'_>, by: fn(u64, u64) -> u64) {
        let mut live = 0;
        for entry in state.entries() {
            self.change_value(&entry, by);
            live += u64::from(entry.is_live());
        }
        self.change_key(live, by);
    }

    /// Only what was added is removed, so no count of the whole map ever wraps.
    fn change_key(&mut self, live: u64, by: fn(u64, u64) -> u64) {
        let count = if live > 0 { &mut self.live } else { &mut self.tombstones };
        *count = by(*count, 1);
        self.conflicts = by(self.conflicts, u64::from(live > 1));
    }

    fn change_value(&mut self, entry: &Entry<&[u8]>, by: fn(u64, u64) -> u64) {
        let change = |count: &mut u64, amount: u64| *count = by(*count, amount);
        let stored_bytes = match &entry.content {
            Content::Tombstone => return,
            Content::Value(value) => {
                let bytes = value.stored_len() as u64;
                change(&mut self.resident_values, 1);
                change(&mut self.resident_bytes, bytes);
                bytes
            }
            Content::Evicted { stored_len, .. } => u64::from(*stored_len),
        };
        change(&mut self.expiring, u64::from(entry.expires.is_some()));
        change(&mut self.raw_bytes, entry.len() as u64);
        change(&mut self.stored_bytes, stored_bytes);
    }
}
