//! Writes of some parts, until it is worth going through the map with them.
//!
//! # Caveats
//!
//! While a map is read they take [`BYTES_MIN`] of memory beside it, and of a large one about an eighth as much as
//! that.

use std::thread;

use super::THREADS_MAX;
use crate::store::{Store, Writes};

/// Fewer bytes of them wait for more.
const BYTES_MIN: usize = 128 * 1024 * 1024;

/// Of how many keys of a map one is written to when the others are passed by. The most that is copied for a write
/// follows from it.
const KEYS_PER_WRITE: usize = 8;

/// Writes that wait, in the order of their parts.
#[derive(Debug, Default)]
pub struct Waiting {
    all: Vec<Writes>,
    bytes: usize,
    count: usize,
}

impl Waiting {
    /// More of them.
    pub fn add(&mut self, writes: Writes) {
        self.bytes += writes.bytes();
        self.count += writes.len();
        self.all.push(writes);
    }

    /// Whether to put them into this map.
    #[must_use]
    pub fn is_enough_for(&self, store: &Store) -> bool {
        let tally = store.tally();
        let keys = tally.live + tally.tombstones;
        self.bytes >= BYTES_MIN && (self.count * KEYS_PER_WRITE) as u64 >= keys
    }

    /// Puts all of them into a map.
    pub fn put_into(&mut self, store: &mut Store) {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        store.apply_all(&self.all, threads);
        *self = Self::default();
    }
}
