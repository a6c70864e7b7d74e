//! Writes of some parts, until it is worth going through the map with them.
//!
//! # Caveats
//!
//! While a log is read they take [`BYTES_MIN`] of memory beside the map, and beside a large one about a quarter as
//! much as that.

use std::mem;
use std::thread;

use super::THREADS_MAX;
use crate::store::{Store, Writes};

/// Fewer bytes of them wait for more.
const BYTES_MIN: usize = 64 * 1024 * 1024;

/// Fewer than one to so many keys of the map wait for more, since all of its leaves may be made anew for them.
const KEYS_PER_WRITE: usize = 4;

/// Writes that wait, in the order of their parts.
#[derive(Debug, Default)]
pub struct Waiting {
    all: Vec<Writes>,
    bytes: usize,
    count: usize,
    /// Those that were put in: memory to be used again.
    free: Vec<Writes>,
}

impl Waiting {
    /// More of them; leaves others, which are not needed any more.
    pub fn add(&mut self, writes: &mut Writes) {
        if writes.is_empty() {
            return;
        }
        self.bytes += writes.bytes();
        self.count += writes.len();
        self.all.push(mem::replace(writes, self.free.pop().unwrap_or_default()));
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
        self.free.append(&mut self.all);
        (self.bytes, self.count) = (0, 0);
    }
}
