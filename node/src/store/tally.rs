//! The counts of a map, kept with every change.
//!
//! # Caveats
//!
//! Nothing here looks at a clock: a value that has expired counts as one until it is swept.

use super::entry::{Content, Entry};

/// What is in a map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Keys with a value, in memory or not; one that has expired counts until it is swept.
    pub live: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Keys whose value has an expiry, passed or not.
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
    pub(super) fn add(&mut self, entry: &Entry<&[u8]>) {
        self.change(entry, u64::wrapping_add);
    }

    pub(super) fn remove(&mut self, entry: &Entry<&[u8]>) {
        self.change(entry, u64::wrapping_sub);
    }

    /// Only what was added is removed, so no count ever wraps.
    fn change(&mut self, entry: &Entry<&[u8]>, by: fn(u64, u64) -> u64) {
        let change = |count: &mut u64, amount: u64| *count = by(*count, amount);
        let stored_bytes = match &entry.content {
            Content::Tombstone => return change(&mut self.tombstones, 1),
            Content::Value(value) => {
                let bytes = value.stored_len() as u64;
                change(&mut self.resident_values, 1);
                change(&mut self.resident_bytes, bytes);
                bytes
            }
            Content::Evicted { stored_len, .. } => u64::from(*stored_len),
        };
        change(&mut self.live, 1);
        change(&mut self.expiring, u64::from(entry.expires.is_some()));
        change(&mut self.raw_bytes, entry.len() as u64);
        change(&mut self.stored_bytes, stored_bytes);
    }
}
