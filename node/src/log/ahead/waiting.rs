//! Writes of some parts, until it is worth going through the map with them.
//!
//! # Caveats
//!
//! While a log is read they take [`BYTES_MIN`] of memory beside the map, and beside a large one about a quarter as
//! much as that; of no more than [`PARTS_MAX`] parts, since each takes addresses, see [`Writes`].

use std::mem;
use std::thread;

use super::THREADS_MAX;
use crate::store::{Store, Writes};

/// Fewer bytes of them wait for more.
const BYTES_MIN: usize = 64 * 1024 * 1024;

/// Less than one part of so many of the map, in keys and in bytes, waits for more, since all of its leaves may be made anew
/// for it.
const PART_OF_MAP: u64 = 4;

/// The most parts that wait.
const PARTS_MAX: usize = 256;

/// What the map has for a key beside its value, about, in bytes.
const KEY_BYTES: u64 = 40;

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
        self.all.len() >= PARTS_MAX
            || is_enough((self.count, self.bytes), (keys, tally.stored_bytes + keys * KEY_BYTES))
    }

    /// Puts all of them into a map.
    pub fn put_into(&mut self, store: &mut Store) {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        store.apply_all(&self.all, threads);
        self.free.append(&mut self.all);
        (self.bytes, self.count) = (0, 0);
    }
}

/// Whether so many writes of so many bytes are worth going through a map of so many keys and bytes.
const fn is_enough((count, bytes): (usize, usize), (keys, map_bytes): (u64, u64)) -> bool {
    bytes >= BYTES_MIN
        && (count as u64 * PART_OF_MAP >= keys || bytes as u64 * PART_OF_MAP >= map_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_wait_while_they_are_small_and_few_beside_the_map() {
        const MIB: u64 = 1024 * 1024;
        // Of 16+8 bytes are a million keys; a large value is one of 1 MiB.
        for (count, mib, keys, map_mib, enough) in [
            (1_000_000, 63, 0, 0, false),
            (1_000_000, 64, 0, 0, true),
            (1_000_000, 64, 4_000_000, 1000, true),
            (1_000_000, 64, 4_000_001, 1000, false),
            (100, 100, 10_000_000, 460, false),
            (115, 115, 10_000_000, 460, true),
        ] {
            let written = (count, usize::try_from(mib * MIB).expect("it is small"));
            let is_so = is_enough(written, (keys, map_mib * MIB));
            assert_eq!(is_so, enough, "{count} of {mib} MiB, {keys} of {map_mib} MiB");
        }
    }
}
